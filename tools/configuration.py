"""Write docs/configuration.md, the reference of all settings, from the models that check them.

python tools/configuration.py
"""

from pathlib import Path

from retrank.cli.reference import reference

if __name__ == "__main__":
    page = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
    page.write_text(reference(), encoding="utf-8")

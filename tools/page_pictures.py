"""Draws the pictures of the page for the documentation, from a running service: docs/page.png and docs/page-phone.png.

retrank serve runs/quickstart --port 8000
python tools/page_pictures.py http://127.0.0.1:8000 --user 42
"""

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

CHROMIUM = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox", "--disable-dev-shm-usage"]}
SCREENS = {
    "page": {"viewport": {"width": 1280, "height": 960}},
    "page-operations": {"viewport": {"width": 1280, "height": 1240}},
    "page-phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5},
}
REQUESTS = 120  # so that the picture of the operations shows some
ASK = """async ([user, count]) => {
  for (let at = 0; at < count; at += 4) {
    await Promise.all([0, 1, 2, 3].map(() => fetch("recommend", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ query: user }),
    })));
    await new Promise((resolve) => setTimeout(resolve, 100 + 200 * Math.random()));
  }
}"""


def draw(page: Page, path: Path) -> None:
    """Write what a page shows as a small PNG."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--user", default="42")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    given = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**CHROMIUM)
        for name, screen in SCREENS.items():
            page = browser.new_context(**screen, reduced_motion="reduce").new_page()
            page.goto(f"{given.address}/#user={given.user}")
            page.wait_for_selector("#list .item")
            page.reload()  # what is asked for first is never what it costs
            page.wait_for_selector("#list .item")
            page.click("#list .why >> nth=0")
            page.mouse.move(0, 0)
            if name == "page-operations":
                page.click("#tab-operations")
                page.evaluate(ASK, [given.user, REQUESTS])
                page.wait_for_timeout(2_500)
            draw(page, given.out / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()

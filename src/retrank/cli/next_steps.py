"""`next_steps`: what to type after a run, as it can be typed here."""

import shlex
import shutil
import sys
from pathlib import Path

from retrank.cli.extras import install_line, is_installed

__all__ = ["next_steps"]


def next_steps(bundle: Path, key: str) -> list[str]:
    """Say what can be done with a bundle.

    Args:
        bundle: its directory.
        key: of a query.

    Returns:
        Lines for the shell.
    """
    retrank, place, user = _program(), shlex.quote(str(bundle)), shlex.quote(key)
    serve = f"{retrank} serve {place}"
    return [
        f"{retrank} recommend {place} --user {user} -k 10",
        f"{retrank} recommend {place} --user {user} --json",
        serve if is_installed("serve") else f"{install_line('serve')}; {serve}",
        f"{retrank} config > my.toml; {retrank} train my.toml",
    ]


def _program() -> str:
    """Return how to call this program: by its name where the shell finds that, else by where it is."""
    called = Path(sys.argv[0])
    if called.parts[-2:] == ("retrank", "__main__.py"):
        return f"{_typed(Path(sys.executable))} -m retrank"
    return _typed(called) if called.stem == "retrank" and called.is_file() else "retrank"


def _typed(program: Path) -> str:
    place, here = program.absolute(), Path.cwd()  # links stay: the interpreter of an environment is one
    found = shutil.which(program.name)
    if found is not None and Path(found).absolute() == place:
        return shlex.quote(program.name)
    return shlex.quote(str(place.relative_to(here) if place.is_relative_to(here) else place))

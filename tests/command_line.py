"""The command line, run in the process of the tests."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from retrank.cli.main import main


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def retrank(*arguments):
    """Run a command in this process, as `main` would be run by the shell."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["retrank", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        patch.setenv("NO_COLOR", "1")
        with pytest.raises(SystemExit) as stop:
            main()
    return Result(stop.value.code or 0, out.getvalue(), err.getvalue())

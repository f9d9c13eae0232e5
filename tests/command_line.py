"""The command line, run in the process of the tests."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest
from typer.main import get_command

from retrank.cli.main import app, main


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


def parsed(arguments):
    """Return the values of a command's options, from its arguments and the environment, without running it."""
    group = get_command(app)
    with group.make_context("retrank", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, list(arguments))
        return command.make_context(name, rest, parent=context).params

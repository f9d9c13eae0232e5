"""What a run says one can do next can be typed as it stands."""

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.command_line import parsed, retrank

from retrank.cli import extras
from retrank.cli.next_steps import next_steps


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program called retrank that repeats its arguments, in an environment beside the folder where one works."""
    folder = tmp_path / "work" / ".venv" / "bin"
    folder.mkdir(parents=True)
    program = folder / "retrank"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", os.defpath)
    return program


def said(bundle="runs/movies", key="42"):
    return next_steps(Path(bundle), key)


def test_a_program_that_the_shell_does_not_find_is_named_by_its_place(program, monkeypatch, tmp_path):
    assert all(line.startswith(".venv/bin/retrank ") for line in said())
    monkeypatch.setattr(sys, "argv", [".venv/bin/retrank"])  # as make calls it
    assert all(line.startswith(".venv/bin/retrank ") for line in said())
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert all(line.startswith(f"{program} ") for line in said())


def test_a_program_that_the_shell_finds_is_named_by_its_name(program, monkeypatch):
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.defpath}")
    assert all(line.startswith("retrank ") for line in said())


def test_another_program_of_that_name_is_not_meant(program, monkeypatch, tmp_path):
    other = tmp_path / "other" / "retrank"
    other.parent.mkdir()
    other.write_bytes(program.read_bytes())
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    assert all(line.startswith(".venv/bin/retrank ") for line in said())


def test_a_module_that_is_run_is_run_again(program, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(Path(extras.__file__).parents[1] / "__main__.py")])
    assert all(line.startswith(f"{sys.executable} -m retrank ") for line in said())


@pytest.mark.skipif(os.name != "posix", reason="lines for a shell of POSIX")
def test_the_shell_takes_the_lines_as_they_are_meant(program, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(program)])
    bundle, key = "my runs/it's", "$(oh) no"
    for line, number in zip(said(bundle, key)[:3], (6, 5, 2), strict=True):
        run = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
        arguments = run.stdout.splitlines()
        assert (len(arguments), arguments[1]) == (number, bundle)
        assert number == 2 or arguments[3] == key


def test_the_lines_are_commands():
    for line in said():
        for command in line.split("; "):
            parsed(shlex.split(command.partition(" > ")[0])[1:])


def test_a_program_of_another_name_is_not_meant(program, monkeypatch):
    monkeypatch.setattr(sys, "argv", [sys.executable])  # a program of one's own that uses the commands
    assert all(line.startswith("retrank ") for line in said())


def test_where_the_extra_is_missing_it_is_installed_first(monkeypatch):
    monkeypatch.setattr("retrank.cli.next_steps.is_installed", lambda extra: False)
    assert 'pip install "retrank[serve]"; retrank serve runs/movies' in said()
    monkeypatch.setattr("retrank.cli.next_steps.is_installed", lambda extra: True)
    assert "retrank serve runs/movies" in said()


def test_every_extra_of_the_project_is_known():
    project = Path(extras.__file__).parents[3] / "pyproject.toml"
    if not project.exists():
        pytest.skip("the package is installed without its project")
    declared = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    assert set(extras.EXTRAS) == set(declared) - {"dev"}


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "msgspec", "prometheus_client"])
def test_an_extra_is_installed_if_all_of_it_is(monkeypatch, missing):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else True)
    assert not extras.is_installed("serve")
    assert extras.is_installed("ann")


def test_doctor_lists_the_extras():
    assert "serve" in retrank("doctor").stdout

"""What stands on a terminal in the end: a bar leaves no traces, and an error has its line for itself."""

import io
import re
import sys

import polars as pl
import pytest

from retrank.cli.main import main

CONFIG = """
[data]
interactions = "plays.csv"
candidates = "songs.csv"
query = "person"
candidate = "song"
time = "time"
[features.person]
kind = "Categorical"
[features.song]
kind = "Categorical"
[retrieval]
query = ["person"]
candidate = ["song"]
layers = [4]
dim = 4
batch_size = 16
lr = 1e30
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def lines(self):
        """What the lines of the screen hold after all that was written."""
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[\??(\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)", self.getvalue()):
            number, command, is_return, is_newline, text = part
            if command == "K":
                lines[row] = ""
            elif command == "A":
                row -= int(number or 1)
            elif is_return:
                column = 0
            elif is_newline:
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif text:
                lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
                column += len(text)
        return [line.rstrip() for line in lines]


def test_an_error_in_training_stands_on_a_line_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plays = {"person": [n % 9 for n in range(90)], "song": [n * 7 % 13 for n in range(90)], "time": range(90)}
    pl.DataFrame(plays).write_csv("plays.csv")
    pl.DataFrame({"song": range(13)}).write_csv("songs.csv")
    (tmp_path / "run.toml").write_text(CONFIG)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "argv", ["retrank", "train", "run.toml"])
    for name, value in {"COLUMNS": "100", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "epoch 1/3" in screen.getvalue()  # there was a bar
    shown = [line for line in screen.lines if line]
    assert shown[-1].startswith("error: step ")
    assert sum("error" in line for line in shown) == 1
    assert not any("epoch 1/3" in line for line in shown)

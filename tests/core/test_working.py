import io
import threading

import pytest
from rich.console import Console

from retrank.core import working
from retrank.core.working import Working, hide, show


@pytest.fixture
def terminal(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(working, "Console", lambda **_: Console(file=written, force_terminal=True, width=100))
    monkeypatch.setattr(working, "_PATIENCE", 0.0)
    monkeypatch.setattr(working, "_REFRESH_SECONDS", -1.0)
    return written


def test_long_work_says_what_it_is_and_how_far(terminal):
    with Working("counting [b]sheep[/b]", total=10) as work:
        work._timer.join()
        work.advance(3)
        work._bar.refresh()
    assert "counting [b]sheep[/b]" in terminal.getvalue()
    assert "3/10" in terminal.getvalue()


def test_work_of_unknown_length_shows_how_long_it_takes(terminal):
    with Working("thinking") as work:
        work._timer.join()
    assert "thinking" in terminal.getvalue()
    assert "0:00:00" in terminal.getvalue()


def test_short_work_is_not_worth_a_word(terminal, monkeypatch):
    monkeypatch.setattr(working, "_PATIENCE", 1e6)
    with Working("blinking", total=1) as work:
        work.advance()
    assert terminal.getvalue() == ""


def test_whoever_wants_silence_gets_it(terminal):
    with Working("shouting", total=1, enabled=False) as work:
        work.advance()
    assert terminal.getvalue() == ""


def test_a_file_gets_nothing(monkeypatch, capsys):
    monkeypatch.setattr(working, "_PATIENCE", 0.0)
    with Working("writing", total=1) as work:
        work.advance()
    assert capsys.readouterr().err == ""


def test_one_line_moves_at_a_time(terminal):
    with Working("outer") as outer:
        outer._timer.join()
        with Working("inner") as inner:
            inner._timer.join()
            inner.advance()
    assert "inner" not in terminal.getvalue()
    with Working("next") as following:
        following._timer.join()
    assert "next" in terminal.getvalue()


def test_an_error_leaves_the_terminal_to_others(terminal):
    with pytest.raises(ZeroDivisionError), Working("dividing") as work:
        work._timer.join()
        1 / 0  # noqa: B018
    with Working("next") as following:
        following._timer.join()
    assert "next" in terminal.getvalue()


def test_who_did_not_show_cannot_hide_another():
    class Moves:
        state = "still"

        def start(self):
            self.state = "moves"

        def stop(self):
            self.state = "stopped"

    first, second = Moves(), Moves()
    assert show(first)
    assert not show(second)
    hide(second)
    assert (first.state, second.state) == ("moves", "still")
    hide(first)
    assert first.state == "stopped"


def test_the_line_says_what_is_done_now(terminal):
    with Working("first") as work:
        work._timer.join()
        work.describe("second [b]half[/b]")
        work._bar.refresh()
    assert "second [b]half[/b]" in terminal.getvalue()


def test_a_title_that_changes_before_anybody_sees_it(terminal, monkeypatch):
    monkeypatch.setattr(working, "_PATIENCE", 0.05)
    with Working("never seen") as work:
        work.describe("seen")
        work._timer.join()
    assert "seen" in terminal.getvalue()
    assert "never" not in terminal.getvalue()


def test_silence_holds_for_all_work_within_and_no_longer(terminal):
    with Working("outer", enabled=False):
        with Working("inner") as inner, Working("innermost") as innermost:
            assert not inner._timer.is_alive()
            assert not innermost._timer.is_alive()
        with Working("next", enabled=True) as following:
            assert not following._timer.is_alive()
    with pytest.raises(ZeroDivisionError), Working("broken", enabled=False):
        1 / 0  # noqa: B018
    assert terminal.getvalue() == ""
    with Working("after") as work:
        work._timer.join()
    assert "after" in terminal.getvalue()


def test_silence_in_one_thread_is_none_in_another(terminal):
    def speak():
        with Working("elsewhere") as work:
            work._timer.join()

    with Working("silent", enabled=False):
        thread = threading.Thread(target=speak)
        thread.start()
        thread.join()
    assert "elsewhere" in terminal.getvalue()


def test_the_environment_silences_everything(terminal, monkeypatch):
    monkeypatch.setenv("RETRANK_PROGRESS", "0")
    with Working("shouting", total=1) as work:
        assert not work._timer.is_alive()
    assert terminal.getvalue() == ""


def test_many_threads_at_once_show_one_line_and_leave_the_terminal(terminal):
    barrier = threading.Barrier(8)

    def work_on(number):
        barrier.wait()
        for _ in range(5):
            with Working(f"thread {number}", total=3) as outer, Working("nested") as inner:
                outer._timer.join()
                inner._timer.join()
                outer.advance()
                inner.describe("nested further")

    threads = [threading.Thread(target=work_on, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Working("next") as following:
        following._timer.join()
        assert following._bar is not None

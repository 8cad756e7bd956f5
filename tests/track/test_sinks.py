"""The live display: what it says with and without a terminal, and that it never gets in the way."""

import io
import re
import sys
import threading
from pathlib import Path

import pytest

from raydistill.track import Progress


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else tells the console whether it writes to a terminal."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def search(progress: Progress, trials: int = 3) -> None:
    progress.stage("search", trials, "trials")
    for number in range(trials):
        for step in (10, 20):
            progress.trial(number, step, 20, {"loss": 1 / step, "val_accuracy": (number + step) / 100})
        progress.trial(number, 20, 20, {}, status="completed")
        progress.advance("search")


def test_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream)
    search(progress)
    progress.note("kept [on] the screen")
    progress.stage("distill", 100, "steps")
    progress.advance("distill", 50, "loss 0.1")
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "search: 3 trials"
    assert re.fullmatch(r"search: 3/3 trials, best 22\.00 % \(trial 2\), took \d+ s", lines[1])
    assert lines[2:4] == ["kept [on] the screen", "distill: 100 steps"]
    assert re.fullmatch(r"distill: 50/100 steps, loss 0\.1, took \d+ s", lines[4])
    assert "\x1b" not in stream.getvalue()


def test_lines_come_no_faster_than_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.stage("search", 1000, "trials")
    for _ in range(600):
        clock[0] += 0.1
        progress.advance("search")
    lines = stream.getvalue().splitlines()
    assert 11 <= len(lines) <= 13  # a minute
    assert re.search(r"search: \d+/1000 trials, about \d+ s left", lines[-1])


def test_what_was_done_before_says_nothing_of_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.stage("experts", 100, "trajectories", 50)
    progress._bars.get_time = lambda: clock[0]
    for _ in range(3):
        clock[0] += 600
        progress.trial(7, 3, 9, {})
        progress.advance("experts")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "experts: 100 trajectories, 50 of them done before"
    # Of 50 done before, rich alone would make ten minutes.
    assert re.search(r"experts: 5\d/100 trajectories, 1 running \(7 at 3/9\), about [3-9]\.\d h left", lines[-1]), (
        lines[-1]
    )


def test_no_line_is_said_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.stage("distill", 100, "steps")
    for _ in range(5):
        clock[0] += 60
        progress.advance("distill", 0)
    assert stream.getvalue().count("distill: 0/100 steps") == 1


def test_a_terminal_shows_running_trials_and_the_best() -> None:
    stream = Terminal()
    progress = Progress(stream=stream)
    progress.stage("search", 2, "trials")
    progress.trial(7, 50, 200, {"loss": 0.125, "val_accuracy": 0.8125})
    assert progress._live is not None
    progress._live.refresh()
    shown = stream.getvalue()
    assert "50/200" in shown
    assert "0.125" in shown
    assert "81.25 %" in shown
    assert "best 81.25 % (trial 7)" in shown
    progress.close()
    assert stream.getvalue().endswith("\x1b[?25h")  # the cursor is given back


def test_stdout_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(stream=Terminal())
    progress.stage("search", 1, "trials")
    print('{"result": 1}')
    progress.close()
    assert capsys.readouterr().out == '{"result": 1}\n'


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_closed_stream_ends_nothing(kind: type[io.StringIO]) -> None:
    stream = kind()
    progress = Progress(stream=stream)
    progress.stage("search", 2, "trials")
    stream.close()
    search(progress)
    progress.note("unheard")
    progress.close()
    progress.close()


def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as stream:
        progress = Progress(stream=stream)
        search(progress)
        progress.close()
        stream.buffer.raw.close()  # type: ignore[attr-defined]


def test_no_stderr_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    search(Progress())


def test_quiet_says_nothing() -> None:
    stream = Terminal()
    progress = Progress(quiet=True, stream=stream)
    search(progress)
    progress.note("unheard")
    progress.close()
    assert stream.getvalue() == ""


def test_time_left_counts_parts_of_running_trials_and_not_what_was_done_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    progress = Progress(stream=io.StringIO())
    progress._bars.get_time = lambda: clock[0]
    progress.stage("search", 10, "trials")
    progress.advance("search", 6)  # done by an earlier start
    for step in range(101):
        clock[0] += 1.0
        progress.trial(6, step, 200, {})
    (task,) = progress._bars.tasks
    assert task.completed == pytest.approx(6.5)
    assert task.time_remaining == pytest.approx(3.5 / 0.5 * 100, rel=0.05)


def test_time_left_follows_the_work_where_units_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress._bars.get_time = lambda: clock[0]
    progress.stage("nas", 100, "trainings")
    progress.advance("nas", 20, share=0.1)  # done by an earlier start
    for share in (0.3, 0.5, 0.7):  # the largest first: 20 % of the work a unit
        clock[0] += 50.0
        progress.advance("nas", 1, share=share)
    (task,) = progress._bars.tasks
    assert task.time_remaining == pytest.approx(75, abs=1)
    assert stream.getvalue().splitlines()[-1] == "nas: 23/100 trainings, about 75 s left"


def test_calls_from_many_threads() -> None:
    stream = Terminal()
    progress = Progress(stream=stream)
    progress.stage("search", 400, "trials")

    def work(first: int) -> None:
        for number in range(first, first + 100):
            progress.trial(number, 1, 2, {"loss": 0.5})
            progress.note("a line")
            progress.trial(number, 2, 2, {"val_accuracy": 0.5}, "completed")
            progress.advance("search")

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    progress.close()
    assert progress._stages["search"].done == 400

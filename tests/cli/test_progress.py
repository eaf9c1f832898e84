"""Lines of progress: a rate and an estimate only where they mean something."""

import pytest

from scanner.cli import progress
from scanner.cli.progress import _Lines, left, line, speed


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(clock, capsys, *steps):
    """Return what is said of (seconds later, done, total) steps."""
    show = _Lines("copies")
    for seconds, done, total in steps:
        clock[0] += seconds
        show(done, total)
    return capsys.readouterr().err.splitlines()


def test_a_report_at_once_has_no_rate(clock, capsys):
    assert lines(clock, capsys, (1e-6, 1, 2), (0.01, 2, 2)) == [
        "copies: 1/2", "copies: 2/2, after 0 s",
    ]  # fmt: skip


def test_what_starting_up_takes_is_not_in_the_estimate(clock, capsys):
    steps = [(0, 0, 400), (7, 1, 400), (30, 1, 400), (10, 101, 400), (20, 301, 400)]
    assert lines(clock, capsys, *steps, (10, 400, 400)) == [
        "copies: 0/400", "copies: 1/400", "copies: 301/400, 5.0/s, 20 s left",
        "copies: 400/400, 5.7/s, after 1 min 17 s",
    ]  # fmt: skip


def test_what_was_done_before_is_no_speed(clock, capsys):
    steps = [(0, 900, 1000), (1, 910, 1000), (10, 920, 1000), (10, 930, 1000)]
    assert lines(clock, capsys, *steps)[-1] == "copies: 930/1,000, 1.0/s, 1 min 10 s left"


def test_another_total_is_another_piece_of_work(clock, capsys):
    steps = [(0, 0, 10), (1, 1, 10), (10, 9, 10), (30, 0, 5000), (30, 5, 5000)]
    assert lines(clock, capsys, *steps)[-1] == "copies: 5/5,000"


def test_a_total_that_nobody_knows_gives_no_estimate(clock, capsys):
    steps = [(0, 10, 0), (5, 100, 0), (20, 1100, 0), (20, 2100, 2100)]
    said = lines(clock, capsys, *steps)
    assert said[0] == "copies: 10"
    assert said[1] == "copies: 1,100, 50.0/s"
    assert said[2] == "copies: 2,100/2,100, 50.0/s, after 45 s"


def test_words_are_for_people():
    assert [speed(x) for x in (112057.4, 0.05, 0.001)] == [
        "112,057/s", "3.0/min", "less than 0.1/min",
    ]  # fmt: skip
    assert (left(100, 10, about=True), left(100, 0)) == ("~10 s left", "")
    assert line("verify", "1/2", "", "3 s left") == "verify: 1/2, 3 s left"

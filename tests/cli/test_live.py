"""What is seen of a scan: on a terminal, without one, and in the event log."""

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from scanner.cli import live, progress
from scanner.cli.events import VERSION, EventLog
from scanner.cli.live import LiveView, span, watching
from scanner.engine.job import Event
from scanner.errors import OutputError

START = 1_800_000_000.0


def event(kind: str, at: float = 0.0, done: int = 0, total: int = 1000, **facts) -> Event:
    usual = {"flagged": 3, "rejected": 2, "run": "r", "time": START + at}
    return Event(kind, done, total, **(usual | {"shards_counted": 4, "shards_total": 4} | facts))


def chunk(at: float, done: int, actor: str, samples: int = 50, denoiser: float = 9.0) -> Event:
    counts = {"samples": samples, "seconds": 10.0, "denoiser_seconds": denoiser,
              "product_seconds": 4.0, "preparation_seconds": 0.3, "autoencoder_seconds": 0.1,
              "waiting_seconds": 0.5}  # fmt: skip
    return event("chunk", at, done, actor=actor, counts=counts, scored=done, localized=7)


def activity(actor: str, **facts) -> Event:
    usual = {"stage": "", "draws": 0, "share": 0.0, "done": 0}
    return event("activity", actor=actor, counts=usual | facts)


def view_of(events: list[Event]) -> LiveView:
    view = LiveView("scan")
    view.begun = START
    for each in events:
        view.on_event(each)
    return view


def picture(view: LiveView, now: float, monkeypatch) -> str:
    monkeypatch.setattr(live.time, "time", lambda: START + now)
    out = StringIO()
    Console(file=out, width=80, force_terminal=False).print(view)
    return out.getvalue()


def test_the_picture_has_rate_share_and_what_is_left_within_eighty_columns(monkeypatch):
    events = [event("worker", actor=f"node-{n}/1{n}") for n in (0, 1)]
    events += [chunk(10 * k, 50 * k, f"node-{k % 2}/1{k % 2}") for k in range(1, 9)]
    text = picture(view_of(events), 80, monkeypatch)
    assert max(map(len, text.splitlines())) <= 80
    assert "400 of 1,000" in text
    assert "5.0/s" in text
    assert "2 min 00 s left" in text
    assert "detected 400" in text
    assert "localized 7" in text
    rows = sorted(line.split() for line in text.splitlines() if "node-" in line)
    assert rows == [
        ["node-0/10", "2.5", "90%", "5%", "200"], ["node-1/11", "2.9", "90%", "5%", "200"],
    ]  # fmt: skip


def test_of_many_workers_the_slowest_are_shown(monkeypatch):
    events = [event("worker", actor=f"a/{n}") for n in range(40)]
    events += [chunk(20, 50 * n, f"a/{n}", samples=10 * n) for n in range(40)]
    text = picture(view_of(events), 20, monkeypatch)
    assert [f"a/{n}" in text.replace("\n", " ").split() for n in (0, 7, 8, 39)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert "and 32 faster ones; median of all 10.0/s" in text
    assert len(text.splitlines()) < 15


def test_a_lost_worker_is_gone_and_a_count_that_is_not_over_is_called_about(monkeypatch):
    first = event("worker", actor="a/1", shards_counted=1)
    lost = event("lost", 5, actor="a/1", shards_counted=1)
    view = view_of([first, lost])
    text = picture(view, 5, monkeypatch)
    assert "a worker loads the model" in text
    assert "0 of ~4,000" in text
    assert "~4000 captions" in view.line(START + 5)
    assert "1/4 shards counted" in view.line(START + 5)


def test_what_earlier_scans_committed_is_no_speed(monkeypatch):
    view = view_of([event("index", 0, 900), event("worker", 0, 900, actor="a/1")])
    assert view.rate(START + 10) == 0
    view.on_event(chunk(10, 950, "a/1"))
    assert view.rate(START + 10) == 5
    assert view.left(START + 10) == "10 s left"


def test_an_end_stops_the_clock(monkeypatch):
    events = [event("worker", actor="a/1"), chunk(10, 1000, "a/1"), event("end", 10, 1000)]
    assert picture(view_of(events), 10, monkeypatch) == picture(view_of(events), 99, monkeypatch)


def test_without_a_terminal_there_is_a_line_soon_then_rarely_and_one_at_the_end(
    monkeypatch, capsys
):
    monkeypatch.setattr(live, "SECONDS_OF_LINES", (0.2, 0.6, 30))
    with watching("scan") as heard:
        heard(event("phase", text="starting Ray"))
        time.sleep(0.4)
        heard(event("problem", text="a.tar: cut short"))
        heard(event("worker", actor="a/1"))
        heard(activity("a/1", stage="sampling", draws=16, share=0.48))
        time.sleep(0.6)
        heard(event("end", 0, 1000, retries=2, quarantined=1))
    start, trouble, first, last = capsys.readouterr().err.splitlines()
    assert start == "scan: starting Ray, 0 s"
    assert trouble == "a.tar: cut short"
    assert first.startswith("scan: 0/1000 captions, after ")
    assert first.endswith(", sampling 16, 48%")
    assert last.startswith("scan: 1000/1000 captions")
    assert "2 retries, 1 chunks given up" in last


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.4, "3 s"), (61, "1 min 01 s"), (7500, "2 h 05 min"), (400_000, "4.6 days")],
)
def test_spans_are_for_people(seconds, text):
    assert span(seconds) == text


def test_events_are_appended_as_json_with_a_version(tmp_path):
    path = tmp_path / "logs" / "events.jsonl"
    for number in range(2):
        with EventLog(path) as log:
            log(event("chunk", number, text="”\n", shard="s3://b/ä.tar"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["time"] for line in lines] == [
        "2027-01-15T08:00:00.000+00:00", "2027-01-15T08:00:01.000+00:00",
    ]  # fmt: skip
    documented = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    assert all(f"`{name}`" in documented for name in lines[0])
    assert lines[0]["version"] == VERSION
    assert lines[0]["text"] == "”\n"


def test_a_line_that_a_power_cut_left_half_spoils_no_other(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"version": 1, "ti')
    with EventLog(path) as log:
        log(event("end"))
    _, whole = path.read_text().splitlines()
    assert json.loads(whole)["kind"] == "end"


def test_a_kill_leaves_whole_lines_but_for_the_last(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from scanner.cli.events import EventLog; from scanner.engine.job import Event\n"
        "with EventLog(Path(sys.argv[1])) as log:\n"
        "    print('go', flush=True)\n"
        "    while True: log(Event('chunk', 1, 2, 3, 4, 'x' * 3000))\n"
    )
    path = tmp_path / "events.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    *lines, last = path.read_bytes().split(b"\n")
    assert last == b"" or last.startswith(b'{"version":')  # the kernel may stop between pages
    assert len(lines) > 10
    assert {json.loads(line)["kind"] for line in lines} == {"chunk"}


def test_a_log_that_cannot_begin_is_refused_and_one_that_fills_up_is_given_up(tmp_path, capsys):
    with pytest.raises(OutputError, match=r"cannot be written: Is a directory"):
        EventLog(tmp_path)
    with EventLog(Path("/dev/full")) as log:
        log(event("chunk"))
        log(event("end"))
    said = capsys.readouterr().err
    assert said.count("/dev/full gets no more events") == 1
    assert "the scan goes on" in said


def test_a_moment_gives_no_rate(monkeypatch):
    view = view_of([event("worker", actor="a/1"), chunk(0.0001, 50, "a/1")])
    assert (view.rate(START + 0.0002), view.left(START + 0.0002)) == (0, "")
    assert view.line(START + 0.0002).startswith("scan: 50/1000 captions, after 0 s, 3 flagged")
    assert "/s" not in picture(view, 0.0002, monkeypatch).replace("captions/s", "")


def test_what_workers_are_at_is_seen_before_anything_is_committed(monkeypatch):
    view = view_of([event("phase", text="starting Ray")])
    assert "scan  starting Ray (5 s)" in picture(view, 5, monkeypatch)
    for at in (
        event("index", 5), event("phase", text="counting shards and loading the model"),
    ):  # fmt: skip
        view.on_event(at)
    assert "counting shards and loading the model" in picture(view, 6, monkeypatch)
    for name in ("a/1", "a/2"):
        view.on_event(event("worker", 6, actor=name))
    view.on_event(activity("a/1", stage="sampling", draws=16, share=0.482))
    view.on_event(activity("a/2", stage="maps", draws=8))
    view.on_event(activity("a/3", stage="maps", draws=8))  # lost meanwhile
    text = picture(view, 7, monkeypatch)
    assert "sampling 16, 48%" in text
    assert "maps 8" in text
    assert "loading" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert view.line(START + 7).endswith(", sampling 16, 48% and 1 more worker")


def test_what_is_of_the_moment_is_in_no_log(tmp_path):
    with EventLog(tmp_path / "events.jsonl") as log:
        for each in (event("phase", text="starting Ray"), activity("a/1"), event("end")):
            log(each)
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "end"


def test_what_takes_a_moment_is_said_and_what_takes_less_is_not(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_OF_PATIENCE", 0.1)
    with progress.waiting("listing shards"):
        pass
    with progress.waiting("reading a\u202emodel"):
        time.sleep(0.4)
    assert capsys.readouterr().err == "reading a\\u202emodel\n"

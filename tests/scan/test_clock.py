"""Where time goes: 50 ms of sleep anywhere but in the network make the network's share fall."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from scanner.engine.job import Job
from scanner.engine.plan import WorkUnit
from scanner.engine.queue import Task
from scanner.engine.worker import Worker
from scanner.models.gaussian import Gaussian
from scanner.numerics import noise
from scanner.records import Caption, parts_of
from scanner.results.folder import Results
from scanner.scan.clock import Clock
from scanner.scan.scanner import Scanner
from scanner.shards import reading
from scanner.spec import ScanSpec

PAUSE = 0.05
SPEC = ScanSpec(steps=2, probes=4, localize="all", threshold=0.0)
CAPTIONS = [Caption("s.tar", f"k{n}", f"a caption {n}") for n in range(4)]


def slowed(function, seconds=PAUSE):
    def slow(*given, **named):
        time.sleep(seconds)
        return function(*given, **named)

    return slow


def parts_of_a_scan(model, spec=SPEC) -> dict[str, float]:
    scanner = Scanner(model, spec, batch_size=4)
    work = scanner.detect(CAPTIONS)
    scanner.localize(work.waiting)
    scanner.finish(work)
    assert work.cost.parts == pytest.approx(scanner.parts)
    assert sum(work.cost.parts.values()) <= work.cost.seconds
    return dict(work.cost.parts)


class Slow(Gaussian):
    """The closed form, as slow as a small network."""

    def score(self, x, level, condition):
        time.sleep(0.02)
        return super().score(x, level, condition)


# How often each is called in one scan: noise and probes once a caption; conditions are encoded for
# detection and for maps, each time the captions and the empty one; a picture is decoded a caption;
# the network is asked at two steps and for the maps.
@pytest.mark.parametrize(
    ("owner", "name", "part", "calls"),
    [
        (noise, "initial_latent", "preparation", 4),
        (noise, "in_portions", "preparation", 4),
        (Slow, "encode", "preparation", 4),
        (Slow, "decode", "autoencoder", 4),
        (Slow, "score", "network", 3),
    ],
)
def test_a_pause_counts_where_it_is_made_and_nowhere_else(monkeypatch, owner, name, part, calls):
    before = parts_of_a_scan(Slow())
    monkeypatch.setattr(owner, name, slowed(getattr(owner, name)))
    after = parts_of_a_scan(Slow())
    assert after[part] >= 0.95 * calls * PAUSE, (before, after)
    shares = [found["network"] / sum(found.values()) for found in (before, after)]
    assert (shares[1] < 0.6 * shares[0]) == (part != "network")


class Back(torch.autograd.Function):
    """The identity, with a pause on the way back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        time.sleep(PAUSE)
        return gradients[0]


def test_gradients_are_products_once_a_probe():
    class Deep(Gaussian):
        def score(self, x, level, condition):
            return super().score(Back.apply(x), level, condition)

    parts = parts_of_a_scan(Deep())
    assert parts["product"] >= 0.95 * SPEC.probes * PAUSE
    assert sum(parts.values()) - parts["product"] < 0.5 * parts["product"]


def worker_of(url, results) -> Worker:
    job = Job(model="gaussian", shards=(url,), results=str(results), spec=SPEC, chunk_size=4,
              batch_size=4)  # fmt: skip
    worker = Worker(job, "r1", "cpu", 1, lambda job, device: Scanner(Slow(), SPEC, batch_size=4))
    worker.open()
    return worker


def tasks_of(url) -> list[Task]:
    index = reading.index(reading.stat(url), 4)
    pieces = [WorkUnit(chunk, 0, chunk.samples, len(index.chunks)) for chunk in index.chunks]
    return [Task(piece, piece.start, piece.stop) for piece in pieces]


@pytest.mark.parametrize("place", ["reader", "commit"])
def test_a_device_that_waits_for_reading_or_committing_says_so(tmp_path, monkeypatch, place):
    from webdataset import TarWriter

    url = str(tmp_path / "a.tar")
    with TarWriter(url) as tar:
        for n in range(24):
            tar.write({"__key__": f"{n:02}", "txt": f"a caption {n}"})
    pause, shares = 0.4, []
    for name in ("first", "before", "after"):  # the first of a process imports what it needs
        worker, tasks = worker_of(url, tmp_path / name), tasks_of(url)
        if name == "after" and place == "reader":
            monkeypatch.setattr(reading, "read", slowed(reading.read, pause))
        elif name == "after":
            monkeypatch.setattr(Results, "commit", slowed(Results.commit, pause))
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(worker.scan, tasks))
        seconds = sum(answer.seconds for answer in answers)
        parts = [parts_of(answer.facts()) for answer in answers]
        assert all(
            sum(p.values()) == pytest.approx(a.seconds) for p, a in zip(parts, answers, strict=True)
        )
        last = max((answer.usage for answer in answers), key=lambda effort: effort.seconds)
        waiting = sum(p["waiting"] for p in parts)
        network = sum(p["network"] + p["product"] for p in parts)
        shares.append((network / seconds, waiting / seconds, last.share))
        commits = Results(str(tmp_path / name)).commits("r1").values()
        assert sum(parts_of(c.content)["waiting"] for c in commits) == pytest.approx(waiting)
    _, (network, _, whole), (less, waiting, less_whole) = shares
    assert less < 0.7 * network
    assert less_whole < 0.7 * whole
    assert waiting > 0.3


def test_commits_of_earlier_versions_tell_no_parts():
    assert parts_of({"seconds": 2.0, "denoiser_seconds": 1.99}) == {}


def test_on_cuda_a_part_lies_between_two_events_and_only_collecting_waits(monkeypatch):
    marks = iter(range(100))

    class Event:
        waited = 0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = next(marks)

        def synchronize(self):
            Event.waited += 1

        def elapsed_time(self, end):
            return 1000.0 * (end.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    timed = Clock(torch.device("cuda"))
    with timed.span("network"), timed.span("preparation"):
        pass
    start = timed.begin()
    timed.end("product", start)
    assert Event.waited == 0
    assert timed.collect() == {"network": 3.0, "preparation": 1.0, "product": 1.0}
    assert timed.collect() == {}
    with pytest.raises(ZeroDivisionError), timed.span("network"):
        raise ZeroDivisionError
    assert timed.collect() == {}


def test_runs_shows_shares_of_the_commits_that_tell_them():
    from scanner.cli.results import _shares

    old = {"seconds": 10.0, "denoiser_seconds": 9.99}
    new = {
        "seconds": 4.0, "denoiser_seconds": 3.0, "product_seconds": 1.0,
        "preparation_seconds": 0.2, "autoencoder_seconds": 0.1, "waiting_seconds": 0.4,
    }  # fmt: skip
    assert _shares([old]) == ("", "")
    assert _shares([old, new]) == ("75.0%", "10.0%")

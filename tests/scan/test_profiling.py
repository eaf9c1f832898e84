"""Traces of a few batches: which ones, what is in them, and that a scan's rows are the same."""

import gzip
import json
from itertools import pairwise

import pytest
import torch

from scanner.models.gaussian import Gaussian
from scanner.records import Caption
from scanner.scan.profiling import NO_KERNELS, BatchProfiler
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

SPEC = ScanSpec(steps=3, localize="all", probes=4)
CAPTIONS = [Caption("s.tar", f"k{n}", f"caption {n}") for n in range(20)]
CPU = torch.device("cpu")


def scanned(number=20, batch_size=4):
    """Return rows of a scan without and with a profiler, and its trace."""
    found = []
    for is_profiled in (False, True):
        scanner = Scanner(Gaussian(), SPEC, batch_size=batch_size)
        profiler = scanner.profile() if is_profiled else None
        found.append(scanner.scan(CAPTIONS[:number]))
    return *found, profiler.trace()


def events(trace):
    content = json.loads(gzip.decompress(trace.content))
    return [event for event in content["traceEvents"] if event.get("ph") == "X"]


def spent(profiler, *kinds, **said):
    for kind in kinds:
        with profiler.batch(kind, 1, **said):
            torch.ones(2) + 1


def test_a_trace_has_two_batches_of_each_kind_and_the_rows_are_the_same():
    plain, profiled, trace = scanned()
    assert profiled.scores == plain.scores
    assert [(r.metric, r.heatmap) for r in profiled.masks] == [
        (r.metric, r.heatmap) for r in plain.masks
    ]
    assert (trace.batches, trace.cold) == ({"sampling": 2, "maps": 2}, ())
    assert trace.words() == "2 batches of sampling, 2 batches of maps"
    names = [event["name"] for event in events(trace)]
    assert names.count("sampling: 4 draws") == names.count("maps: 4 draws") == 2
    assert names.count("network") == 2 * SPEC.steps + 2
    assert {"preparation", "autoencoder", "aten::mul"} <= set(names)


def test_batches_of_a_trace_follow_one_another_in_time():
    _, _, trace = scanned()
    spans = sorted(
        (event["ts"], event["ts"] + event["dur"])
        for event in events(trace)
        if event["name"].endswith("draws")
    )
    assert len(spans) == 4
    assert all(ends <= begins for (_, ends), (begins, _) in pairwise(spans))


def test_where_there_is_one_batch_of_a_kind_it_is_the_trace_and_is_called_cold():
    _, _, trace = scanned(number=4)
    assert trace.batches == {"sampling": 1, "maps": 1}
    assert trace.cold == ("sampling", "maps")
    assert trace.words() == "the first batch of sampling, the first batch of maps"


def test_the_batch_that_warms_up_leaves_for_a_later_one_and_a_trace_is_told_once():
    profiler = BatchProfiler(CPU)
    assert profiler.trace() is None
    spent(profiler, "sampling")
    first = profiler.trace()
    assert (first.batches, first.cold) == ({"sampling": 1}, ("sampling",))
    assert profiler.trace() is None
    spent(profiler, "sampling")
    second = profiler.trace()
    assert (second.batches, second.cold) == ({"sampling": 1}, ())
    spent(profiler, *["sampling"] * 4)
    assert profiler.trace().batches == {"sampling": 2}


def test_batches_that_are_measured_for_their_size_warm_up():
    profiler = BatchProfiler(CPU)
    spent(profiler, *["sampling"] * 3, settled=False)
    assert profiler.trace().cold == ("sampling",)
    spent(profiler, "sampling")
    assert (profiler.trace().batches, profiler.trace()) == ({"sampling": 1}, None)


def test_a_batch_that_fails_is_not_recorded_and_its_error_goes_on():
    profiler = BatchProfiler(CPU)

    def fail():
        with profiler.batch("sampling", 1):
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        fail()
    assert profiler.trace() is None
    spent(profiler, "sampling")
    assert profiler.trace().batches == {"sampling": 1}


def test_a_profiler_that_cannot_start_says_why_and_the_batch_is_made(monkeypatch):
    def taken(self):
        raise RuntimeError("Profiler is already enabled on this thread.")

    monkeypatch.setattr(torch.profiler.profile, "start", taken)
    profiler, made = BatchProfiler(CPU), []
    for number in range(2):
        with profiler.batch("sampling", 1):
            made.append(number)
    trace = profiler.trace()
    assert made == [0, 1]
    assert trace.batches == {}
    assert "torch's profiler does not start: Profiler is already" in trace.problem
    assert json.loads(gzip.decompress(trace.content)) == {"traceEvents": []}


def test_a_trace_that_cannot_be_stored_ends_the_recording_alone(monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.profiler.profile, "export_chrome_trace", full)
    profiler = BatchProfiler(CPU)
    spent(profiler, "sampling", "sampling")
    assert "gives no trace: [Errno 28] No space left" in profiler.trace().problem


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_trace_of_a_gpu_without_kernels_says_so():
    profiler = BatchProfiler(torch.device("cuda"))
    spent(profiler, "sampling")
    trace = profiler.trace()
    assert trace.problem == NO_KERNELS
    assert trace.batches == {"sampling": 1}

"""Batch sizes, and memory that runs out."""

from itertools import pairwise

import pytest
import torch

from scanner.errors import DeviceError
from scanner.models.gaussian import Gaussian
from scanner.models.memory import is_out_of_memory
from scanner.records import Caption
from scanner.scan import batches
from scanner.scan.batches import BatchSize
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

SPEC = ScanSpec(seeds=(0, 1), steps=3, localize="all", probes=4)
CAPTIONS = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(6)]


def rows(result):
    return {(row.caption.key, row.seed): row for row in result.scores}


class Small(Gaussian):
    """Holds so many samples at a time, twice as many where no gradient is wanted."""

    def __init__(self, room, error=None):
        super().__init__()
        self.error = error or torch.cuda.OutOfMemoryError("CUDA out of memory. Tried")
        self.room, self.largest = room, 0

    def score(self, x, level, condition):
        if len(x) * (2 if x.requires_grad or torch.is_grad_enabled() else 1) > self.room:
            raise self.error
        self.largest = max(self.largest, len(x))
        return super().score(x, level, condition)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("too much"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_runs_out_halves_the_batch_and_changes_no_row(error):
    model = Small(8, error)
    scanner = Scanner(model, SPEC, batch_size=16)
    result = scanner.scan(CAPTIONS)
    plain = Scanner(Gaussian(), SPEC, batch_size=16).scan(CAPTIONS)
    assert rows(result) == rows(plain)
    assert result.masks == plain.masks
    assert not result.rejects
    assert (scanner.sizes["detect"].size, scanner.sizes["detect"].shortages) == (3, 2)
    assert (scanner.sizes["localize"].size, scanner.sizes["localize"].shortages) == (1, 3)
    assert model.largest == 6


def test_another_runtime_error_is_no_shortage_of_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        Scanner(Small(0, RuntimeError("shapes differ")), SPEC).scan(CAPTIONS)


class Picky(Gaussian):
    """Has no room for one caption: neither to sample it, or only not to localize it."""

    def __init__(self, text, *, when_localized):
        super().__init__()
        self.mark, self.when_localized = self.encode([text])[0, 0, 0, 0, 0], when_localized

    def score(self, x, level, condition):
        is_it = (condition[:, 0, 0, 0, 0] == self.mark).any()
        if is_it and torch.is_grad_enabled() >= self.when_localized:
            raise torch.cuda.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate 20 GiB. GPU 0 has {id(self)} MiB free."
            )
        return super().score(x, level, condition)


@pytest.mark.parametrize("when_localized", [False, True])
def test_one_that_does_not_fit_alone_is_a_reject_and_the_rest_is_scored(when_localized):
    model = Picky(CAPTIONS[2].text, when_localized=when_localized)
    result = Scanner(model, SPEC, batch_size=8).scan(CAPTIONS)
    (reject,) = result.rejects
    assert (reject.key, reject.reason) == ("k2", "out_of_memory")
    assert reject.detail.endswith("CUDA out of memory. Tried to allocate 20 GiB")
    assert ("delta_s" in reject.detail) is when_localized
    plain = rows(Scanner(Gaussian(), SPEC).scan(CAPTIONS))
    assert rows(result) == {key: row for key, row in plain.items() if key[0] != "k2"}


def test_where_nothing_ever_fits_no_caption_is_blamed():
    with pytest.raises(DeviceError, match="not even one draw fits into memory: CUDA out of mem"):
        Scanner(Small(1), SPEC).scan(CAPTIONS)


def test_a_halved_size_grows_again_and_ever_later(monkeypatch):
    monkeypatch.setattr(batches, "BATCHES_BEFORE_GROWTH", 4)
    size, room, seen = BatchSize(8), 5, []

    def work(batch):
        if len(batch) > room:
            raise MemoryError
        seen.append(len(batch))

    size.each(range(200), work, lambda: None)
    tried_again = size.shortages - 1
    assert seen.count(4) > 4 * tried_again >= 4  # each time it waits twice as long
    assert sum(seen) == 200
    room = 8
    size.each(range(1000), work, lambda: None)
    assert (size.size, size.shortages) == (8, 1 + tried_again)


class Measure:
    """A device of so many bytes, of which every draw takes ten."""

    def __init__(self, room):
        self.room, self.number = room, 0

    def begin(self):
        self.number = 0

    def peak(self):
        return 10 * self.number

    def free(self):
        return self.room


@pytest.mark.parametrize(("room", "expected"), [(800, 64), (10, 1), (10**9, batches.MOST)])
def test_an_automatic_size_is_what_the_free_memory_holds(room, expected):
    gauge, seen = Measure(room), []
    size = BatchSize(None, gauge)

    def work(batch):
        gauge.number = len(batch)
        seen.append(len(batch))

    size.each(range(2000), work, lambda: None)
    assert size.size == expected
    assert seen[0] == batches.FIRST
    assert all(after <= 4 * before for before, after in pairwise(seen))


def test_the_scarcest_of_several_devices_is_measured(monkeypatch):
    first, second = devices = [torch.device("cuda", number) for number in range(2)]
    allocated, peak = {first: 10, second: 50}, {first: 25, second: 60}
    reserved, free = {first: 12, second: 50}, {first: 100, second: 30}
    reset = []
    for name, known in (
        ("memory_allocated", allocated), ("max_memory_allocated", peak),
        ("memory_reserved", reserved),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda device, known=known: known[device])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device], 0))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    gauge = batches.gauge_of(devices)
    gauge.begin()
    assert reset == devices
    assert (gauge.peak(), gauge.free()) == (15, 30)
    assert batches.gauge_of([torch.device("cpu")]) is None

"""Captions whose numbers are none in half precision: once more in float32, or rejected."""

import torch

from scanner.models.gaussian import Gaussian
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

SPEC = ScanSpec(seeds=(0, 1), steps=3, localize="all", probes=4)
CAPTIONS = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(6)]


def rows(result):
    return {(row.caption.key, row.seed): row for row in result.scores}


class Half(Gaussian):
    """What overflows in half precision: some captions have no number there."""

    def __init__(self, *marked):
        super().__init__()
        self.marked = [self.encode([text])[0, 0, 0, 0, 0] for text in marked]

    def score(self, x, level, condition):
        value = super().score(x, level, condition)
        for mark in self.marked:
            value[condition[:, 0, 0, 0, 0] == mark] = torch.inf
        return value


def test_numbers_that_are_none_are_taken_in_float32_once_more():
    spec = ScanSpec(seeds=(0, 1), steps=3, localize="all", probes=4, dtype="bfloat16")
    broken = [CAPTIONS[1].text, CAPTIONS[4].text]
    loads = []

    def precise():
        loads.append(1)
        return Half(CAPTIONS[4].text), {}

    scanner = Scanner(Half(*broken), spec, precise=precise)
    work = scanner.detect([*CAPTIONS, Caption("t.tar", "copy", CAPTIONS[1].text)])
    scanner.localize(work.waiting)
    scanner.finish(work)
    result = scanner.rows(work)
    assert [(r.key, r.reason) for r in result.rejects] == [("k4", "not_finite")]
    assert "in bfloat16, and in float32 too" in result.rejects[0].detail
    assert work.samples(work.rescored) == 2
    plain = rows(Scanner(Gaussian(), spec).scan(CAPTIONS))
    own = {key: row for key, row in rows(result).items() if key[0] not in ("copy", "k4")}
    assert own == {key: row for key, row in plain.items() if key[0] != "k4"}
    assert {row.caption.key for row in result.masks} == {"k0", "k1", "k2", "k3", "k5", "copy"}
    assert len(loads) == 1


def test_a_float32_scan_has_nothing_more_precise_to_turn_to():
    def precise():
        raise AssertionError("the same networks would say the same again")

    result = Scanner(Half(CAPTIONS[0].text), SPEC, precise=precise).scan(CAPTIONS[:2])
    assert [(r.key, r.reason) for r in result.rejects] == [("k0", "not_finite")]

import time

import numpy as np
import pytest
import torch

from scanner.analysis.overlap import agreement, bilinear, sweep
from scanner.masks import intersection_over_union, mean_filtered

RNG = np.random.default_rng(2)


def brute(maps, truths):
    """The protocol as it is written, one threshold and one map at a time, with torch's resize."""
    lit = []
    for values, truth in zip(maps, truths, strict=True):
        relu = torch.tensor(np.maximum(values, 0))[None, None]
        large = torch.nn.functional.interpolate(relu, truth.shape, mode="bilinear")
        lit.append(np.log1p(large[0, 0].numpy()))
    low, high = min(m.min() for m in lit), max(m.max() for m in lit)
    lit = [(m - low) / (high - low + 1e-8) for m in lit]
    rows = []
    for threshold in np.linspace(-1e-6, 1 + 1e-6, 101):
        masks = [m > threshold for m in lit]
        both = sum((m & t).sum() for m, t in zip(masks, truths, strict=True))
        either = sum((m | t).sum() for m, t in zip(masks, truths, strict=True))
        each = [intersection_over_union(m, t) for m, t in zip(masks, truths, strict=True)]
        same = [m == t for m, t in zip(masks, truths, strict=True)]
        accuracy = np.concatenate([s.ravel() for s in same]).mean()
        rows.append((both / either if either else 1.0, np.mean(each), accuracy))
    return np.max(rows, axis=0)


@pytest.mark.parametrize("size", [(8, 8), (20, 12), (5, 6)])
def test_the_oracle_is_the_protocol_step_by_step(size) -> None:
    maps = [RNG.normal(size=(8, 8)) * 10 for _ in range(6)]
    truths = [RNG.random(size) < 0.4 for _ in range(4)] + [np.zeros(size, bool)] * 2
    found = sweep(maps, truths, lambda m: m).best()
    assert (found.iou, found.miou, found.accuracy) == pytest.approx(brute(maps, truths), abs=1e-9)


@pytest.mark.parametrize("wanted", [(9, 9), (4, 20), (40, 7), (3, 3)])
def test_bilinear_is_torch_with_corners_not_aligned(wanted) -> None:
    values = RNG.normal(size=(9, 7))
    torch_ = torch.nn.functional.interpolate(
        torch.tensor(values)[None, None], wanted, mode="bilinear", align_corners=False
    )
    assert bilinear(values, *wanted) == pytest.approx(torch_[0, 0].numpy(), abs=1e-12)


def test_the_mean_filter_averages_what_is_inside_the_border() -> None:
    values = RNG.normal(size=(64, 32))
    smooth = mean_filtered(values)
    for row, column in ((0, 0), (30, 15), (63, 31), (2, 20)):
        inside = values[max(0, row - 6) : row + 7, max(0, column - 3) : column + 4]
        assert smooth[row, column] == pytest.approx(inside.mean())


def test_all_ones_reach_the_share_of_the_truth() -> None:
    truths = [np.eye(4, dtype=bool), np.zeros((4, 4), bool)]
    found = agreement([np.ones((4, 4), bool)] * 2, truths)
    assert (found.iou, found.miou, found.accuracy) == (4 / 32, 4 / 16 / 2, 4 / 32)


def test_two_empty_masks_agree() -> None:
    nothing = [np.zeros((3, 3), bool)]
    assert agreement(nothing, nothing).miou == 1.0
    assert sweep([np.full((3, 3), -1.0)], nothing, lambda m: m).best().miou == 1.0


def test_no_maps_have_no_measure() -> None:
    assert np.isnan(agreement([], []).iou)
    assert np.isnan(sweep([], [], lambda m: m).best().iou)


def test_five_hundred_maps_take_seconds() -> None:
    maps = [RNG.normal(size=(64, 64)) for _ in range(500)]
    truths = [m > 1 for m in maps]
    start = time.perf_counter()
    assert sweep(maps, truths, lambda m: m).best().iou > 0.9
    assert time.perf_counter() - start < 30

"""Run lengths against pycocotools, and heatmaps against their stated error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from scanner import masks

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(SHAPES.flatmap(lambda shape: arrays(bool, shape)))
def test_runs_are_cocos(mask):
    height, width = mask.shape
    runs = masks.to_runs(mask)
    compressed = coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    assert np.array_equal(coco.decode(compressed).astype(bool), mask)
    assert coco.area(compressed) == mask.sum() == sum(runs[1::2])
    assert np.array_equal(masks.from_runs(runs, height, width), mask)


def test_runs_that_do_not_fill_the_mask_are_refused():
    with pytest.raises(ValueError, match="runs must add up to 2 x 2, got 3"):
        masks.from_runs([1, 2], 2, 2)


@given(arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_heatmaps_keep_sign_and_a_thousandth_of_the_logarithm(values):
    stored = masks.from_heatmap(masks.to_heatmap(values), 3, 4)
    logs = np.log1p(np.abs(values.astype(np.float64)))
    assert np.abs(np.log1p(np.abs(stored)) - logs).max() <= logs.max() * 2**-10 + 1e-6
    assert (np.sign(stored) * np.sign(values) >= 0).all()


def plateau(height: float, slope: float, noise: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    """A map of a region at one height in surroundings at another, and the region."""
    inside = np.zeros((16, 16), bool)
    inside[3:12, 4:13] = True
    values = np.where(inside, height, slope) + noise * np.random.default_rng(0).normal(
        size=(16, 16)
    )
    return values, inside


def test_a_region_is_a_share_of_the_maps_own_level_and_never_below_the_floor():
    values, inside = plateau(600, 90)
    threshold, mask = masks.region(values, 75, 0.3)
    rim = mask & ~inside
    assert (mask >= inside).all()
    assert not rim[:2].any()
    assert not rim[13:].any()
    assert threshold == pytest.approx(0.3 * 600, rel=0.1)
    assert masks.region(values, 75, 0)[1].mean() > 0.9
    times = masks.region(values * 10, 75, 0.3)
    assert (times[1] == mask).all()
    assert times[0] == pytest.approx(10 * threshold)


def test_a_map_without_contrast_is_all_inside_and_one_below_the_floor_all_outside():
    flat = plateau(600, 600)[0]
    assert masks.region(flat, 75, 0.3)[1].all()
    threshold, mask = masks.region(flat / 10, 75, 0.3)
    assert (threshold, mask.any()) == (75, False)
    assert not masks.region(-flat, 75, 0.3)[1].any()


def test_without_a_share_a_map_is_taken_as_it_is():
    values, _ = plateau(600, 90, noise=100)
    threshold, mask = masks.region(values, 75, 0)
    assert threshold == 75
    assert np.array_equal(mask, values > 75)


@pytest.mark.parametrize(
    ("inside", "outside", "verdict"),
    [(3.0, 0.2, "region"), (3.0, 2.0, "whole"), (0.2, 3.0, "none"), (-2.0, 0.0, "none"),
     (None, 3.0, "whole"), (None, 0.1, "none"), (3.0, None, "whole"), (0.9, None, "none")],
)  # fmt: skip
def test_an_image_is_pinned_whole_in_its_region_or_not(inside, outside, verdict):
    mask = np.zeros((4, 4), bool)
    mask[:2] = inside is not None
    mask[2:] = outside is None
    ratios = np.where(mask, inside or 0.0, outside or 0.0)
    found = masks.stored_extent(ratios, mask)
    assert (found.verdict, found.inside, found.outside) == (verdict, inside, outside)


def test_a_pixel_is_in_doubt_within_two_standard_errors_of_the_threshold():
    values = np.array([[3.1, 2.9, 0.9, 1.1, 2.0]] * 2)
    found = masks.doubtful(values, np.full((2, 5), 0.5), 2.0, 0)
    assert found.tolist() == [[False, True, False, True, True]] * 2
    assert not masks.doubtful(values, np.zeros((2, 5)), 2.5, 0.3).any()


def test_the_stated_error_of_a_filtered_map_covers_what_shared_signs_can_do():
    """Hutchinson's errors ``v_i sum_j v_j J_ji`` of a symmetric and of a random Jacobian: their
    filtered spread over 4,000 signs is never much above what is stated, and not far below."""
    rng = np.random.default_rng(5)
    side = 10
    near = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    local = np.kron(np.exp(-near), np.exp(-near))
    for jacobian in (local, rng.normal(size=(side**2, side**2))):
        off = jacobian - np.diag(np.diag(jacobian))
        signs = rng.choice([-1.0, 1.0], size=(4000, side**2))
        errors = (signs * (signs @ off)).reshape(-1, side, side)
        each = errors.std(axis=0)
        spread = np.std([masks.mean_filtered(e) for e in errors], axis=0)
        stated = np.full((side, side), np.nan)
        for scale in np.geomspace(0.01, 100, 400):  # the distance at which doubt begins
            is_near = masks.doubtful(np.full((side, side), scale), each, 0.0, 0.3)
            stated[is_near] = scale / masks.DOUBT
        assert (spread <= 1.1 * stated).all()
        assert (spread >= 0.5 * stated).all()


def test_the_error_of_a_map_is_relative_to_its_size():
    assert masks.relative_error(np.zeros((2, 2)), np.ones((2, 2))) is None
    assert masks.relative_error(np.full((2, 2), -4.0), np.full((2, 2), 0.2)) == pytest.approx(0.05)

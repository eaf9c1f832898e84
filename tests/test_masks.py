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

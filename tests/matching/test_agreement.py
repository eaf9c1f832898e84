"""Groups of pictures that are all alike, with regions and plain grounds among them."""

import numpy as np
import pytest

from scanner.matching.agreement import are_alike, largest_group

SIDE = 32
LEFT = np.zeros((8, 8), bool)
LEFT[:, :4] = True


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def half(left, right):
    picture = noise(right)
    picture[:, : SIDE // 2] = noise(left)[:, : SIDE // 2]
    return picture


def test_copies_are_alike_and_others_are_not():
    slightly = (noise(1) * 0.98).astype(np.uint8)
    assert are_alike((noise(1), None), (slightly, None))
    assert not are_alike((noise(1), None), (noise(2), None))


def test_a_region_counts_where_both_masks_are_of_it():
    first, second = half(1, 2), half(1, 3)
    assert are_alike((first, LEFT), (second, LEFT))
    assert not are_alike((first, None), (second, LEFT))
    assert not are_alike((first, LEFT), (second, ~LEFT))
    assert not are_alike((first, ~LEFT), (second, ~LEFT))


def test_a_plain_ground_is_like_every_other_and_says_nothing():
    grey = np.full((SIDE, SIDE, 3), 90, np.uint8)
    assert not are_alike((grey, None), (grey + 3, None))


@pytest.mark.parametrize(
    ("seeds", "size"),
    [([], 0), ([1], 1), ([1, 2, 3], 1), ([1, 1, 2], 2), ([1, 2, 1, 2, 2, 3], 3), ([4] * 5, 5)],
)
def test_the_largest_group_is_counted(seeds, size):
    assert largest_group([(noise(seed), None) for seed in seeds]) == size


def test_a_group_is_alike_two_by_two_not_by_a_chain():
    steps = [noise(1).astype(float)]
    target = noise(2).astype(float)
    steps += [steps[0] + (target - steps[0]) * share for share in (0.25, 0.5, 0.75, 1.0)]
    drawn = [(step.astype(np.uint8), None) for step in steps]
    assert are_alike(drawn[0], drawn[1])
    assert not are_alike(drawn[0], drawn[4])
    assert 2 <= largest_group(drawn) < 5

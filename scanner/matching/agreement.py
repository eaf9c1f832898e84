"""How many of the pictures that a caption gives are one and the same, without a training image."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from scanner import masks, pictures
from scanner.pictures import MATCHES

Drawn = tuple[NDArray[np.uint8], NDArray[np.bool_] | None]
"""A picture, ``(H, W, 3)``, and its mask at any resolution, if there is one."""

SAME_PLACE = 0.5
"""Overlap over union from which two masks are of one region, as detections of objects are judged
(Everingham et al. 2010)."""


def largest_group(drawn: Sequence[Drawn]) -> int:
    """Return the largest number of pictures found that are all alike, two by two; 1 if no two are.

    Two are alike if one is a copy of the other as `scanner.pictures.match` has it, as a whole or
    inside both masks where these are of one region, and not plain. The group is grown from every
    picture in turn, by the one that is alike with most: a clique (Carlini et al. 2023), of which
    there may be a larger one.

    Args:
        drawn: One picture a seed, all of one size.
    """
    alike = np.eye(len(drawn), dtype=bool)
    for a, b in combinations(range(len(drawn)), 2):
        alike[a, b] = alike[b, a] = are_alike(drawn[a], drawn[b])
    return max((_grown(alike, first) for first in range(len(drawn))), default=0)


def are_alike(first: Drawn, second: Drawn) -> bool:
    """Whether two pictures are one, as a whole or in the region of both masks, and not plain."""
    part = _common(first[1], second[1])
    return pictures.match(first[0], second[0], part).verdict in MATCHES


def _common(
    first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """Return the region of both masks; null where they are not of one region."""
    if first is None or second is None or first.shape != second.shape:
        return None
    overlap = masks.intersection_over_union(first, second)
    return first & second if overlap >= SAME_PLACE else None


def _grown(alike: NDArray[np.bool_], first: int) -> int:
    group, left = 1, alike[first].copy()
    left[first] = False
    while left.any():
        friends = (alike & left).sum(axis=1) * left
        chosen = int(friends.argmax())
        group += 1
        left &= alike[chosen]
        left[chosen] = False
    return group

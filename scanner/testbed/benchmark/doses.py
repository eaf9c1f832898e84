"""Doses of items (expected draws): assigned at random, exchanged between replicates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanner.testbed.benchmark.items import Item, generator

VERBATIM = (0, 16, 64, 128, 256, 512, 724, 1024, 1448, 2048)
"""Doses of verbatim items: denser where extraction begins."""

TEMPLATE = (0, 0, 512, 512, 1024, 1024, 2048, 2048, 4096, 4096, 8192)
"""Doses of the eleven template items of a region size: templates need several times as much."""

ARM = (0, 1024, 1448, 2048)
"""Doses in the arms: two where extraction is in doubt, one where it is not, and none."""

PERSONAL = (0, 1024, 2048, 4096)
REPEATED = (0, 256, 512, 1024, 1024, 2048, 2048, 2048)
PROTOTYPICAL = (0, 256, 512, 512, 1024, 1024)
ADAPTER_VERBATIM = (0, 64, 256, 512, 1024, 2048)
ADAPTER_TEMPLATE = (0, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class Doses:
    """Expected number of draws of each item.

    Attributes:
        items: The planted items.
        expected: Expected number of draws of each, ``(len(items),)``.
    """

    items: tuple[Item, ...]
    expected: NDArray[np.float64]

    @property
    def total(self) -> float:
        """Return the expected number of planted draws."""
        return float(self.expected.sum())


def levels(arm: str) -> tuple[int, ...]:
    """Return the doses that the items of an arm's stratum share out, in order."""
    known = {
        "verbatim": VERBATIM, "template": TEMPLATE, "natural": TEMPLATE,
        "prototypical": PROTOTYPICAL,
        "character": PERSONAL, "style": PERSONAL, "name": REPEATED, "art": REPEATED,
        "adapter-verbatim": ADAPTER_VERBATIM, "adapter-template": ADAPTER_TEMPLATE,
    }  # fmt: skip
    return known.get(arm, ARM)


def assign(items: Sequence[Item], seed: int, replicate: int, scale: float = 1.0) -> Doses:
    """Share out the doses of every stratum among its items.

    The first replicate's assignment is random; every further one moves it on by a part of the
    stratum (half for the second), so that what one model knows by heart the next has hardly
    seen.

    Args:
        items: All planted items.
        seed: The corpus seed.
        replicate: 1, 2 and so on.
        scale: Multiplies all doses, for short trainings.
    """
    expected = np.zeros(len(items))
    strata: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        strata.setdefault(item.stratum, []).append(place)
    for stratum, places in strata.items():
        found = _spread(levels(items[places[0]].arm), len(places))
        order = generator(seed, "doses", stratum).permutation(len(places))
        move = round(_turn(replicate) * len(places))
        expected[np.array(places)[order]] = np.roll(found, move)
    return Doses(tuple(items), expected * scale)


def _spread(doses: tuple[int, ...], number: int) -> NDArray[np.float64]:
    """Return ``number`` doses in order, as even over the levels as can be.

    Where there are fewer items than levels, the lowest and the highest are among them.
    """
    if 1 < number < len(doses):
        places = np.linspace(0, len(doses) - 1, number).round().astype(int)
        return np.array(doses, np.float64)[places]
    return np.array([doses[i * len(doses) // number] for i in range(number)], np.float64)


def _turn(replicate: int) -> float:
    """Return 0, 1/2, 1/4, 3/4, 1/8 and so on."""
    turn, step, number = 0.0, 0.5, replicate - 1
    while number:
        turn, step, number = turn + step * (number % 2), step / 2, number // 2
    return turn

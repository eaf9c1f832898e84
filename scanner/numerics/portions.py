"""How a number of probes is divided into rounds; no tensor is needed for that."""

import math
from dataclasses import dataclass

PROBE_DESIGNS = ("structured", "rademacher")
FIRST_ROUNDS = 2
"""Rounds on a grid after which their spread says an error."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Rounds of probes, each an independent estimate of the whole diagonal.

    Attributes:
        grid: A round of structured probes has one for each channel and each class of an
            interleaved ``grid x grid`` of positions; 0 for signs everywhere, where each probe is
            a round.
        size: Probes of a round.
        rounds: How many.
        is_new: Whether the grid is finer than before, so that the estimate begins anew.
    """

    grid: int
    size: int
    rounds: int
    is_new: bool = True

    @property
    def number(self) -> int:
        """Probes of all rounds."""
        return self.size * self.rounds


def portions_of(
    channels: int, number: int, design: str, *, adaptive: bool = False
) -> list[Portion]:
    """Return the rounds that a number of probes is divided into.

    Fixed, a single portion: rounds on the finest grid that fits. Adaptive, for products that stop
    once the spread of rounds is small: two rounds on the coarsest grid, then two on one that is
    twice as fine while they fit, and more on the last: a local Jacobian's error falls faster with
    the grid than with the number of rounds. Signs everywhere have no grid: their number doubles.

    Args:
        channels: Of a latent.
        number: How many probes are asked for.
        design: One of `PROBE_DESIGNS`.
        adaptive: Whether it is.

    Raises:
        ValueError: If the design is not one of `PROBE_DESIGNS`.

    Example:
        >>> [(p.grid, p.size, p.rounds) for p in portions_of(4, 64, "structured", adaptive=True)]
        [(1, 4, 2), (2, 16, 2), (2, 16, 1)]
    """
    if design not in PROBE_DESIGNS:
        raise ValueError(f"design must be one of {', '.join(PROBE_DESIGNS)}, got {design!r}")
    least = FIRST_ROUNDS if adaptive else 1
    if design == "rademacher" or number < least * channels:
        return _doubling(number) if adaptive else [Portion(0, 1, number)]
    if adaptive:
        return _refining(channels, number)
    grid = math.isqrt(number // channels)
    size = channels * grid**2
    return [Portion(grid, size, number // size)]


def num_probes(channels: int, number: int, design: str, *, adaptive: bool = False) -> int:
    """Return how many probes `portions_of` has where ``number`` are asked for."""
    return sum(p.number for p in portions_of(channels, number, design, adaptive=adaptive))


def _refining(channels: int, number: int) -> list[Portion]:
    """Return two structured rounds on ever finer grids, and on the last whatever fits."""
    found, grid, left = list[Portion](), 1, number
    while left >= FIRST_ROUNDS * channels * grid**2:
        found.append(Portion(grid, channels * grid**2, FIRST_ROUNDS))
        left -= found[-1].number
        grid *= 2
    last = found[-1]
    if rounds := left // last.size:
        found.append(Portion(last.grid, last.size, rounds, is_new=False))
    return found


def _doubling(number: int) -> list[Portion]:
    """Return rounds of one probe each, in portions as large as all before."""
    found, left = [Portion(0, 1, min(FIRST_ROUNDS, number))], number - FIRST_ROUNDS
    while left > 0:
        rounds = min(left, number - left)
        found.append(Portion(0, 1, rounds, is_new=False))
        left -= rounds
    return found

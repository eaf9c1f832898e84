"""Everything random, keyed by what it is for and never by where it happens to be computed."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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


def keyed_generator(*key: object) -> torch.Generator:
    """Return a CPU generator that depends on ``key`` alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % 2**63)


def initial_latent(caption_hash: str, seed: int, shape: tuple[int, int, int]) -> Tensor:
    """Return the standard normal start of a sampling, ``(C, H, W)`` float32 on the CPU."""
    return torch.randn(shape, generator=keyed_generator(caption_hash, seed, "latent"))


def probes(
    caption_hash: str, seed: int, shape: tuple[int, int, int], number: int, design: str
) -> Tensor:
    """Return probe vectors for a Jacobian diagonal, ``(K, C, H, W)`` float32 on the CPU.

    ``rademacher``: independent signs everywhere (Hutchinson). ``structured``: a probe lives on
    one channel and on one class of an interleaved ``g x g`` grid of positions, with random signs
    there. What lies on other channels or classes then never blurs an entry, and the Jacobian
    of a denoiser is local: at 16 products the error is about half of Hutchinson's. Every
    structured round has ``C g**2`` probes, with the largest ``g`` that fits; rounds repeat
    while they fit, so K may be less than asked. With fewer than C products it is Hutchinson's.

    Both are unbiased: see `scanner.numerics.curvature.diagonal_from_products`.

    Raises:
        ValueError: If the design is not one of `PROBE_DESIGNS`.
    """
    portions = portions_of(shape[0], number, design)
    return in_portions(caption_hash, seed, shape, portions)[0].flatten(0, 1)


def in_portions(
    caption_hash: str, seed: int, shape: tuple[int, int, int], portions: Sequence[Portion]
) -> list[Tensor]:
    """Return the probes of each portion, ``(rounds, size, C, H, W)`` float32 on the CPU."""
    generator = keyed_generator(caption_hash, seed, "probes")
    found: list[Tensor] = []
    for portion in portions:
        signs = _signs((portion.rounds, 1, *shape), generator)
        found.append(signs * _grid_classes(*shape, portion.grid) if portion.grid else signs)
    return found


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


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def _grid_classes(channels: int, height: int, width: int, grid: int) -> Tensor:
    """Return indicators of every (channel, row class, column class), ``(C g g, C, H, W)``."""
    row = torch.arange(height)[:, None] % grid
    column = torch.arange(width)[None, :] % grid
    position = torch.nn.functional.one_hot(row * grid + column, grid**2).permute(2, 0, 1)
    channel = torch.eye(channels)
    return torch.einsum("ij,khw->ikjhw", channel, position.float()).flatten(0, 1)

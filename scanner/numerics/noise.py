"""Everything random, keyed by what it is for and never by where it happens to be computed."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from scanner.numerics.portions import Portion, portions_of


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
        ValueError: If the design is not one of `scanner.numerics.portions.PROBE_DESIGNS`.
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


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def _grid_classes(channels: int, height: int, width: int, grid: int) -> Tensor:
    """Return indicators of every (channel, row class, column class), ``(C g g, C, H, W)``."""
    row = torch.arange(height)[:, None] % grid
    column = torch.arange(width)[None, :] % grid
    position = torch.nn.functional.one_hot(row * grid + column, grid**2).permute(2, 0, 1)
    channel = torch.eye(channels)
    return torch.einsum("ij,khw->ikjhw", channel, position.float()).flatten(0, 1)

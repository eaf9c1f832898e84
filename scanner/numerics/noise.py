"""Everything random, keyed by what it is for and never by where it happens to be computed."""

import hashlib
import math

import torch
from torch import Tensor

PROBE_DESIGNS = ("structured", "rademacher")


def keyed_generator(*key: object) -> torch.Generator:
    """Return a CPU generator that depends on ``key`` alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % 2**63)


def initial_latent(caption_hash: str, seed: int, shape: tuple[int, int, int]) -> Tensor:
    """Return the standard normal start of a sampling, ``(C, H, W)`` float32 on the CPU."""
    return torch.randn(shape, generator=keyed_generator(caption_hash, seed, "latent"))


def probes(
    caption_hash: str, seed: int, shape: tuple[int, int, int], number: int, design: str, *,
    least: int = 1,
) -> Tensor:  # fmt: skip
    """Return probe vectors for a Jacobian diagonal, ``(K, C, H, W)`` float32 on the CPU.

    ``rademacher``: independent signs everywhere (Hutchinson). ``structured``: a probe lives on
    one channel and on one class of an interleaved ``g x g`` grid of positions, with random signs
    there. What lies on other channels or classes then never blurs an entry, and the Jacobian
    of a denoiser is local: at 16 products the error is about half of Hutchinson's. Every
    structured round has ``C g**2`` probes, with the largest ``g`` that fits; rounds repeat
    while they fit, so K may be less than asked. With fewer than C products it is Hutchinson's.

    Both are unbiased: see `scanner.numerics.curvature.diagonal_from_products`.

    Args:
        caption_hash: With the seed, what the signs are keyed by.
        seed: Sampling seed.
        shape: Of a latent.
        number: How many are asked for.
        design: One of `PROBE_DESIGNS`.
        least: As in `rounds`.

    Raises:
        ValueError: If the design is not one of `PROBE_DESIGNS`.
    """
    if design not in PROBE_DESIGNS:
        raise ValueError(f"design must be one of {', '.join(PROBE_DESIGNS)}, got {design!r}")
    channels, height, width = shape
    generator = keyed_generator(caption_hash, seed, "probes")
    grid = _grid(channels, number, least)
    if design == "rademacher" or grid == 0:
        return _signs((number, *shape), generator)
    size = channels * grid**2
    classes = _grid_classes(channels, height, width, grid)
    signs = _signs((number // size, 1, *shape), generator)
    return (signs * classes).flatten(0, 1)


def rounds(channels: int, number: int, design: str, least: int = 1) -> tuple[int, int]:
    """Return how many probes a round of `probes` has, and how many rounds there are.

    A round probes every entry once, with signs of its own; so rounds are independent estimates
    of one diagonal. Of ``rademacher`` each probe is a round.

    Args:
        channels: Of a latent.
        number: How many probes are asked for.
        design: One of `PROBE_DESIGNS`.
        least: A structured round is the largest that fits this often; where none does, one that
            fits twice.

    Example:
        >>> rounds(4, 64, "structured"), rounds(4, 64, "structured", least=4)
        ((64, 1), (16, 4))
    """
    grid = _grid(channels, number, least)
    size = 1 if design == "rademacher" or grid == 0 else channels * grid**2
    return size, number // size


def num_probes(channels: int, number: int, design: str, least: int = 1) -> int:
    """Return how many probes `probes` gives where ``number`` are asked for."""
    return math.prod(rounds(channels, number, design, least))


def _grid(channels: int, number: int, least: int) -> int:
    """Return the side of a structured round's grid; 0 where there is no such round."""
    return math.isqrt(number // (channels * least)) or int(number >= min(least, 2) * channels)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def _grid_classes(channels: int, height: int, width: int, grid: int) -> Tensor:
    """Return indicators of every (channel, row class, column class), ``(C g g, C, H, W)``."""
    row = torch.arange(height)[:, None] % grid
    column = torch.arange(width)[None, :] % grid
    position = torch.nn.functional.one_hot(row * grid + column, grid**2).permute(2, 0, 1)
    channel = torch.eye(channels)
    return torch.einsum("ij,khw->ikjhw", channel, position.float()).flatten(0, 1)

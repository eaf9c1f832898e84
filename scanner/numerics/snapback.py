r"""Snap-back: how much better a branch denoises a given image than another branch does.

A noised image ``x = alpha z + sigma n`` is denoised in one step to
``(x + sigma^2 s(x)) / alpha`` (Tweedie). A model that stores the image *snaps back*
onto it: where the noise has drowned the image, its error is smaller than that of a model, or a
branch, to which the image is news. Unlike Δs it compares with the image itself, so an unrelated
image beside a memorized caption has no snap-back, however large its score difference.
"""

import torch
from torch import Tensor

from scanner.numerics.maps import smooth

FLOOR = 1e-6
"""Error, in latent², below which two branches are called equally good."""


def noised(clean: Tensor, noise: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return ``alpha z + sigma n``; all ``(B, C, H, W)``."""
    return alpha * clean + sigma * noise


def denoising_error(x: Tensor, score: Tensor, clean: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return the squared error of the one-step estimate of the clean latent, summed over channels.

    Args:
        x: The noised latents, ``(B, C, H, W)``.
        score: The score there.
        clean: What was noised.
        alpha: Scale of the clean latent.
        sigma: Scale of the noise.

    Returns:
        ``(B, H, W)``, in latent².
    """
    estimate = (x + sigma**2 * score) / alpha
    return (estimate - clean).square().sum(dim=1)


def snap_back(own: Tensor, other: Tensor) -> Tensor:
    """Return the mean over the picture of both errors as a ratio in bits, ``(B,)``.

    ``log2(other / own)``: 1 means that the model's error is half of the baseline's.

    Args:
        own: The model's error under the caption, ``(B, H, W)``.
        other: The baseline's.
    """
    return torch.log2((other.mean(dim=(1, 2)) + FLOOR) / (own.mean(dim=(1, 2)) + FLOOR))


def snap_back_map(own: Tensor, other: Tensor, window: int) -> Tensor:
    """Return the same ratio at every position, both errors averaged over a window first.

    Args:
        own: The model's error under the caption, ``(B, H, W)``.
        other: The baseline's.
        window: Side of the mean filter, odd; 1 for none.

    Returns:
        ``(B, H, W)``, in bits.
    """
    return torch.log2((smooth(other, window) + FLOOR) / (smooth(own, window) + FLOOR))

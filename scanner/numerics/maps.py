"""From scores and curvatures to maps over positions, and from maps to numbers.

Units: a score is 1 / latent; ``delta_s`` and ``delta_h`` are both 1 / latent**2, so they share a
scale. Maps are signed and float32. ReLU and log1p belong to display and to the published
evaluation, not to what is stored.
"""

import torch
from torch import Tensor


def delta_s(score: Tensor, baseline: Tensor) -> Tensor:
    """Return the squared score difference summed over channels, ``(B, H, W)``.

    ``sum_c (s_theta(x, c) - s_baseline(x))**2`` (Kim & Lee 2026, after Wen et al. 2024). Averaged
    over captions drawn from the model it equals the curvature difference (their Proposition 4.2).

    Args:
        score: Conditional score, ``(B, C, H, W)``.
        baseline: The baseline's score at the same points.
    """
    return (score.float() - baseline.float()).square().sum(dim=1)


def delta_h(diagonal: Tensor, baseline: Tensor) -> Tensor:
    """Return the curvature difference summed over channels, ``(B, H, W)``, signed.

    ``sum_c diag(-H_theta(x, c)) - diag(-H_baseline(x))`` (Kim & Lee 2026).

    Args:
        diagonal: Diagonal of the Jacobian of the conditional score, ``(B, C, H, W)``.
        baseline: Diagonal of the Jacobian of the baseline's score, ``(B, C, H, W)``.
    """
    return (baseline.float() - diagonal.float()).sum(dim=1)


def curvature(diagonal: Tensor) -> Tensor:
    """Return ``sum_c diag(-H)``, ``(B, H, W)``: the control without a baseline."""
    return -diagonal.float().sum(dim=1)


def standard_error(rounds: Tensor, taken: Tensor) -> Tensor:
    """Return the standard errors of maps that are means over rounds, ``(B, H, W)``.

    Every round is an independent, unbiased estimate, so the spread of the rounds is that of the
    error: ``sqrt(sum_r (m_r - m)**2 / (R (R - 1)))``, per position.

    Args:
        rounds: What each round alone gives, ``(R, B, H, W)``; after a sample's last, anything.
        taken: How many rounds each sample took, ``(B,)``; infinite where that is not two.
    """
    taken = taken.to(rounds.device)
    number = torch.arange(len(rounds), device=rounds.device)
    is_made = (number[:, None] < taken)[..., None, None]
    count = taken[:, None, None]
    mean = torch.where(is_made, rounds, 0).sum(dim=0) / count
    squares = torch.where(is_made, rounds - mean, 0).square().sum(dim=0)
    error = (squares / (count * (count - 1)).clamp(min=1)).sqrt()
    return error.where(count > 1, torch.inf)


def relative_error(maps: Tensor, errors: Tensor) -> Tensor:
    """Return the root mean square of errors over that of the maps, ``(B,)``; 0 of no error.

    Args:
        maps: ``(B, H, W)``.
        errors: Standard errors of their pixels.
    """
    error, size = (values.square().mean(dim=(1, 2)).sqrt() for values in (errors, maps))
    return torch.where(error == 0, 0, error / size)


def smooth(maps: Tensor, window: int) -> Tensor:
    """Return maps under a mean filter of odd width that shrinks at the border, ``(B, H, W)``.

    The paper smooths score maps of 64 x 64 with a window of 13.

    Raises:
        ValueError: If the window is not odd and positive.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and positive, got {window}")
    padding = window // 2
    return torch.nn.functional.avg_pool2d(
        maps[:, None], window, stride=1, padding=padding, count_include_pad=False
    )[:, 0]

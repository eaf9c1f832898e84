r"""Published memorization scores as functions of scores, curvatures and attention.

Networks enter as their score ``s = -eps / sigma``, so every formula holds for noise and velocity
predictions alike. Where the source works with the predicted noise ``eps``, so does the number:
``eps = -sigma s``. All sums are float32, one number or map per sample, and none depends on the
other samples of the batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scanner.numerics import curvature

NORM_WEIGHT, COSINE_WEIGHT = 1.0, 1.0
"""Weights of the two terms of `anisotropy`: not fitted to anyone's labels."""


def norm(values: Tensor) -> Tensor:
    """Return the Euclidean norm of every sample, ``(B, *)`` to ``(B,)``."""
    return squared_norm(values).sqrt()


def squared_norm(values: Tensor) -> Tensor:
    """Return the sum of squares of every sample, ``(B, *)`` to ``(B,)``, in units squared."""
    return values.float().flatten(1).square().sum(dim=1)


def noise_difference(score: Tensor, baseline: Tensor, sigma: float) -> Tensor:
    """Return ``eps_c - eps_u``, ``(B, C, H, W)``: what guidance adds, in units of the noise.

    Args:
        score: Conditional score, ``(B, C, H, W)``, in 1 / latent.
        baseline: Unconditional score at the same points.
        sigma: Noise scale there.
    """
    return (score.float() - baseline.float()) * -sigma


def sharpness(function: Callable[[Tensor], Tensor], point: Tensor, difference: Tensor) -> Tensor:
    """Return ``||(H_c - H_u)(s_c - s_u)||^2``, ``(B,)``, in 1 / latent**6.

    The Hessian-score product of Jeon et al. (ICML 2025), squared as in their formula (their code
    reports the root). One forward-mode product over both branches: 2 evaluations and 2 tangents
    a sample.

    Args:
        function: From points of both branches, ``(2B, C, H, W)``, to scores, conditional first.
        point: ``(B, C, H, W)``.
        difference: ``s_c - s_u`` there, the tangent.
    """
    product = curvature.jacobian_vector_product(
        function, torch.cat([point, point]), torch.cat([difference, difference])
    )
    conditional, unconditional = product.chunk(2)
    return squared_norm(conditional - unconditional)


def gradient_gap(
    function: Callable[[Tensor], Tensor], point: Tensor, scores: Tensor, sigma: float
) -> Tensor:
    """Return ``||J_c^T eps_c - J_u^T eps_u||^2``, ``(B,)``, in 1 / latent**2, ``J = d eps / dx``.

    The gap between the gradients of ``||eps||^2 / 2``: "Metric 2" of an anonymous ICML 2026
    submission. Two evaluations and two reverse-mode products a sample. As
    ``J^T eps = sigma**2 H^T s``, it is taken on scores.

    Args:
        function: From points of both branches, ``(2B, C, H, W)``, to scores, conditional first.
        point: ``(B, C, H, W)``.
        scores: Scores there, ``(2B, C, H, W)``, conditional first.
        sigma: Noise scale.
    """
    (product,) = curvature.vector_jacobian_products(
        function, torch.cat([point, point]), scores[None]
    )
    conditional, unconditional = product.float().chunk(2)
    return squared_norm((conditional - unconditional) * sigma**2)


def cosine_map(score: Tensor, baseline: Tensor) -> Tensor:
    """Return the cosine over channels of ``eps_u`` and ``eps_c - eps_u``, ``(B, H, W)``, -1 to 1.

    How far guidance pulls along what the model would do anyway (Asthana & Belagiannis, ICLR
    2026). Free of the noise scale. Zero where one of the two vectors is.

    Args:
        score: Conditional score, ``(B, C, H, W)``.
        baseline: Unconditional score.
    """
    # Noise is the score times -sigma; the cosine is invariant to this common factor.
    difference = score.float() - baseline.float()
    return torch.nn.functional.cosine_similarity(baseline.float(), difference, dim=1)


def anisotropy(first_norm: Tensor, cosines: Tensor) -> Tensor:
    """Return ``g1 ||eps_c - eps_u|| + g2 mean(cosine)``, ``(B,)``, with ``g1 = g2 = 1``.

    Asthana & Belagiannis (ICLR 2026). They fit the weights to memorized captions of each model
    ((1, 2) for Stable Diffusion 1, (1, 0.1) for 2) and report that (1, 1) does well too.

    Args:
        first_norm: Norm of the noise difference at the first step, ``(B,)``.
        cosines: `cosine_map` of the same pure noise at a low noise level, ``(B, H, W)``.
    """
    return NORM_WEIGHT * first_norm + COSINE_WEIGHT * cosines.float().flatten(1).mean(dim=1)


def flipd(score: Tensor, diagonal: Tensor, sigma: float) -> Tensor:
    """Return ``D - sigma tr(d eps / dx) + ||eps||^2``, ``(B,)``, in dimensions.

    The local intrinsic dimension that a model gives a point, at a noise level near zero (FLIPD;
    Ross et al., ICLR 2025). In scores: ``D + sigma**2 (tr H + ||s||^2)``. The trace is of the
    very function whose score is given. Low is suspicious. No evaluation beyond the diagonal's;
    the estimate is unbiased where the diagonal's is.

    The point must be a clean one, scaled by alpha. At a noised one ``||eps||^2`` counts the
    noise: over samples of the noised density the whole has mean D, whatever the model, since
    ``tr H + ||s||^2`` is the Laplacian of the density over the density.

    Args:
        score: At the clean points, ``(B, C, H, W)``, in 1 / latent.
        diagonal: Diagonal of the score's Jacobian, same shape, in 1 / latent**2.
        sigma: Noise scale.
    """
    trace = diagonal.float().flatten(1).sum(dim=1)
    return score[0].numel() + sigma**2 * (trace + squared_norm(score))


def focused_norm(energies: Tensor, weights: Tensor) -> Tensor:
    """Return ``mean_t ||d_t m||_2 / mean(m)``, ``(B,)``, in units of the noise.

    The local detection score of Bright Ending (Chen et al., ICLR 2025). For constant weights it
    is the mean norm of the noise difference.

    Args:
        energies: ``d_t**2`` summed over channels, ``(T, B, H, W)``.
        weights: The soft mask m, ``(B, H, W)``, positive.
    """
    norms = (energies.float() * weights.float().square()).flatten(2).sum(dim=2).sqrt()
    return norms.mean(dim=0) / weights.float().flatten(1).mean(dim=1)


def combined_map(delta_h: Tensor, attention: Tensor) -> Tensor:
    """Return ``delta_h * m / mean(m)``, ``(B, H, W)``, signed, in 1 / latent**2.

    The curvature difference where the end-of-text token is looked at. The mean is over a
    sample's own positions, so uniform attention changes nothing, whatever its level.

    Args:
        delta_h: Curvature difference, ``(B, H, W)``.
        attention: The bright-ending map m, ``(B, H, W)``, positive.
    """
    level = attention.float().mean(dim=(1, 2), keepdim=True)
    return delta_h.float() * attention.float() / level


def combined_score_map(delta_h: Tensor, delta_s: Tensor) -> Tensor:
    """Return ``sign(delta_h) sqrt(|delta_h| delta_s)``, ``(B, H, W)``, signed, in 1 / latent**2.

    The geometric mean of the two differences: large where both are. They have one unit and are
    equal in expectation over captions (Kim & Lee 2026), so what only one of them sees is noise of
    its estimate more often than memory.

    Args:
        delta_h: Curvature difference, ``(B, H, W)``.
        delta_s: Score difference, ``(B, H, W)``, not negative.
    """
    return delta_h.sign().float() * (delta_h.float().abs() * delta_s.float()).sqrt()


def spread(features: Tensor) -> Tensor:
    """Return the standard deviation over channels of each channel's largest value, ``(B,)``.

    Of the bottleneck of a U-Net: a memorized picture excites few channels, and strongly (Zhang
    et al., ICLR 2026). The population's deviation, in the units of the features.

    Args:
        features: ``(B, C, h, w)``.
    """
    return features.float().flatten(2).amax(dim=2).std(dim=1, correction=0)


def attention_to(queries: Tensor, keys: Tensor, tokens: Tensor, scale: float) -> Tensor:
    """Return the share of attention that one token gets, averaged over heads, ``(B, P)``, 0 to 1.

    ``softmax(scale Q K^T)`` in float32, of which one column is kept.

    Args:
        queries: ``(B, heads, P, width)``, P positions.
        keys: ``(B, heads, L, width)``, L tokens.
        tokens: Which token, ``(B,)``.
        scale: Usually ``width ** -0.5``.
    """
    logits = queries.float() @ keys.float().transpose(-1, -2) * scale
    rows = torch.arange(len(tokens), device=logits.device)
    column = logits[rows, :, :, tokens.to(logits.device)]
    return (column - logits.logsumexp(dim=-1)).exp().mean(dim=1)

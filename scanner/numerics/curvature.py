r"""Curvature along latent coordinates, from products with a Jacobian alone.

The curvature of a log-density at ``x`` is ``diag(-H)`` with ``H = ds/dx``, the
Jacobian of the score. Kim & Lee (2026) take the difference of two: conditional minus a baseline,
at a noise level near zero. It is large where the model is certain for a reason that the
baseline does not have: a memorized coordinate.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel


def vector_jacobian_products(
    function: Callable[[Tensor], Tensor], point: Tensor, vectors: Tensor
) -> list[Tensor]:
    """Return ``J^T v`` for every vector, over one graph.

    Args:
        function: From ``(B, *)`` to the same shape. Samples must not interact.
        point: ``(B, *)``.
        vectors: ``(K, B, *)``.

    Returns:
        K tensors ``(B, *)``. One forward and K backward passes.
    """
    leaf = point.detach().requires_grad_()
    with torch.enable_grad():
        output = function(leaf)
    products: list[Tensor] = []
    for i, vector in enumerate(vectors):
        keep = i + 1 < len(vectors)
        (product,) = torch.autograd.grad(output, leaf, vector.to(output.dtype), retain_graph=keep)
        products.append(product.detach())
    return products


def jacobian_vector_product(
    function: Callable[[Tensor], Tensor], point: Tensor, vector: Tensor
) -> Tensor:
    """Return ``J v`` by forward-mode differentiation.

    One pass, about twice a plain forward one; nothing is kept for a backward pass. Fused
    attention has no forward-mode rule, so attention takes its plain form here, whose memory is
    quadratic in the number of positions.

    Args:
        function: From ``(B, *)`` to the same shape. Samples must not interact.
        point: ``(B, *)``.
        vector: The tangent, ``(B, *)``.

    Returns:
        ``(B, *)``; zero where the function does not depend on its argument.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        # torch declares no types here
        value = function(forward_ad.make_dual(point, vector.to(point.dtype)))  # pyright: ignore[reportUnknownMemberType]
        primal, tangent = forward_ad.unpack_dual(value)  # pyright: ignore[reportUnknownMemberType]
    return torch.zeros_like(primal) if tangent is None else tangent


def diagonal_from_products(
    vectors: Sequence[Tensor] | Tensor, products: Sequence[Tensor]
) -> Tensor:
    """Return the estimate ``sum(v * (J^T v)) / sum(v * v)`` of a Jacobian's diagonal.

    Unbiased for independent random signs on any fixed supports that together cover every
    entry. One probe of support S leaves entry i a variance of ``sum(J[j, i]**2 for j in S
    if j != i)``: what blurs an entry is the part of its column that shares a probe with it.

    Args:
        vectors: ``(K, *)``.
        products: K tensors of that shape, ``J^T v``.

    Returns:
        Same shape as a vector, float32 at least.
    """
    dtype = torch.promote_types(products[0].dtype, torch.float32)
    total = torch.zeros_like(products[0], dtype=dtype)
    weight = torch.zeros_like(total)
    for vector, product in zip(vectors, products, strict=True):
        total += vector * product.to(dtype)
        weight += vector * vector
    return total / weight


def jacobian_diagonal(
    function: Callable[[Tensor], Tensor], point: Tensor, vectors: Tensor
) -> Tensor:
    """Estimate the diagonal of the Jacobian of ``function`` at ``point``.

    Args:
        function: From ``(B, *)`` to the same shape. Samples must not interact.
        point: ``(B, *)``.
        vectors: Probes, ``(K, B, *)``; see `scanner.numerics.noise.probes`.

    Raises:
        ValueError: If the probes do not fit the point.

    Example:
        >>> signs = torch.tensor([[[1.0, 1.0]], [[1.0, -1.0]]])
        >>> twice = lambda x: torch.stack([2 * x[:, 0] + 5 * x[:, 1], x[:, 1] ** 3], dim=1)
        >>> jacobian_diagonal(twice, torch.tensor([[0.0, 1.0]]), signs)
        tensor([[2., 3.]])
    """
    if len(vectors) == 0 or vectors.shape[1:] != point.shape:
        raise ValueError(
            f"probes must have shape (K >= 1, *{tuple(point.shape)}), got {tuple(vectors.shape)}"
        )
    return diagonal_from_products(vectors, vector_jacobian_products(function, point, vectors))


def exact_diagonal(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """Return the diagonal of the Jacobian exactly: one backward pass per coordinate.

    For small latents, and as the truth that estimates are compared with.

    Args:
        function: From ``(B, *)`` to the same shape. Samples must not interact.
        point: ``(B, *)``.
    """
    leaf = point.detach().requires_grad_()
    with torch.enable_grad():
        output = function(leaf).flatten(1)
    entries: list[Tensor] = []
    for i in range(output.shape[1]):
        (gradient,) = torch.autograd.grad(output[:, i].sum(), leaf, retain_graph=True)
        entries.append(gradient.flatten(1)[:, i].detach())
    return torch.stack(entries, dim=1).reshape(point.shape)

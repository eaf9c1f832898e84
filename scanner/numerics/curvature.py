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


class Pullback:
    """A function's value at points, and as many products ``J^T v`` there as one asks for.

    One forward pass, and a backward pass a product.

    Args:
        function: From ``(B, *)`` to the same shape. Samples must not interact.
        point: ``(B, *)``.

    Attributes:
        value: The function's, ``(B, *)``.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], point: Tensor) -> None:
        self._leaf = point.detach().requires_grad_()
        with torch.enable_grad():
            self._output = function(self._leaf)
        self.value = self._output.detach()

    def products(self, vectors: Tensor, *, is_last: bool = False) -> list[Tensor]:
        """Return ``J^T v`` for every vector, ``(B, *)`` each.

        Args:
            vectors: ``(K, B, *)``.
            is_last: Whether no more are asked for: the graph is then given back on the way.

        Raises:
            ValueError: If the vectors do not fit the point.
        """
        if len(vectors) == 0 or vectors.shape[1:] != self._leaf.shape:
            raise ValueError(
                f"probes must have shape (K >= 1, *{tuple(self._leaf.shape)}), "
                f"got {tuple(vectors.shape)}"
            )
        found: list[Tensor] = []
        for number, vector in enumerate(vectors, 1):
            (product,) = torch.autograd.grad(
                self._output, self._leaf, vector.to(self._output.dtype),
                retain_graph=not is_last or number < len(vectors),
            )  # fmt: skip
            found.append(product.detach())
        return found

    def diagonal(self, vectors: Tensor, *, is_last: bool = False) -> Tensor:
        """Return `diagonal_from_products` of these probes, ``(B, *)``."""
        return diagonal_from_products(vectors, self.products(vectors, is_last=is_last))


def vector_jacobian_products(
    function: Callable[[Tensor], Tensor], point: Tensor, vectors: Tensor
) -> list[Tensor]:
    """Return ``J^T v`` for every vector, over one graph: `Pullback.products`."""
    return Pullback(function, point).products(vectors, is_last=True)


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
    return Pullback(function, point).diagonal(vectors, is_last=True)


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

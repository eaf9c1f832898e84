"""The estimator against dense autograd, over all sign vectors: expectations without noise."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from scanner.numerics.curvature import diagonal_from_products, exact_diagonal, jacobian_diagonal
from scanner.numerics.noise import probes

SHAPE = (2, 2, 2)
SIGNS = torch.tensor(list(product((-1.0, 1.0), repeat=8)), dtype=torch.float64).reshape(
    -1, 1, *SHAPE
)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Flatten(), nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 8), nn.Unflatten(1, SHAPE)]
    return nn.Sequential(*layers).double()


@pytest.fixture
def point() -> torch.Tensor:
    return torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(1, *SHAPE)


def dense(network: nn.Module, point: torch.Tensor) -> torch.Tensor:
    return torch.func.jacrev(network)(point).reshape(8, 8)


def test_the_exact_diagonal_is_the_dense_one(network, point):
    expected = dense(network, point).diagonal().reshape(1, *SHAPE)
    assert_close(exact_diagonal(network, point), expected, rtol=1e-12, atol=1e-14)


def test_the_expectation_over_all_signs_is_the_diagonal(network, point):
    expected = dense(network, point).diagonal().reshape(1, *SHAPE)
    assert_close(jacobian_diagonal(network, point, SIGNS), expected, rtol=1e-12, atol=1e-14)


def test_the_expectation_over_all_signs_is_the_diagonal_on_any_cover(network, point):
    supports = torch.zeros(2, 1, *SHAPE, dtype=torch.float64)
    supports[0, :, 0], supports[1, :, 1] = 1, 1
    vectors = torch.cat([SIGNS * support for support in supports])
    expected = dense(network, point).diagonal().reshape(1, *SHAPE)
    assert_close(jacobian_diagonal(network, point, vectors), expected, rtol=1e-12, atol=1e-14)


def test_the_variance_is_the_one_that_the_docstring_states(network, point):
    squares = dense(network, point).square()
    stated = (squares.sum(dim=0) - squares.diagonal()).reshape(1, *SHAPE)
    each = torch.stack([jacobian_diagonal(network, point, v[None]) for v in SIGNS])
    assert_close(each.var(dim=0, correction=0), stated, rtol=1e-10, atol=1e-14)


def test_probes_of_single_entries_are_exact(network, point):
    basis = torch.eye(8, dtype=torch.float64).reshape(8, 1, *SHAPE)
    expected = exact_diagonal(network, point)
    assert_close(jacobian_diagonal(network, point, basis), expected, rtol=1e-12, atol=1e-14)


def test_a_batch_gives_what_its_samples_give(network, point):
    batch, vectors = torch.cat([point, -point]), torch.cat([SIGNS[:16], SIGNS[16:32]], dim=1)
    together = jacobian_diagonal(network, batch, vectors)
    alone = [jacobian_diagonal(network, batch[i : i + 1], vectors[:, i : i + 1]) for i in range(2)]
    assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-14)


def test_half_precision_products_are_summed_in_float32():
    ones = [torch.ones(1, 4)] * 4096
    estimate = diagonal_from_products(ones, [torch.full((1, 4), 3.0).half()] * 4096)
    assert estimate.dtype == torch.float32
    assert estimate.tolist() == [[3.0] * 4]


def test_structured_probes_beat_hutchinson_on_a_local_jacobian():
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
    point = torch.randn(8, 4, 16, 16)
    truth = exact_diagonal(convolution, point[:1])

    def error(design: str) -> float:
        vectors = torch.stack([probes(str(i), 0, (4, 16, 16), 16, design) for i in range(8)], dim=1)
        return (jacobian_diagonal(convolution, point, vectors) - truth).square().mean().item()

    assert error("structured") < 0.3 * error("rademacher")


def test_probes_of_another_shape_are_refused(network, point):
    with pytest.raises(ValueError, match=r"probes must have shape \(K >= 1, \*\(1, 2, 2, 2\)\)"):
        jacobian_diagonal(network, point, SIGNS[:, :, :1])

"""The estimator against dense autograd, over all sign vectors: expectations without noise."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from scanner.numerics.curvature import (
    Pullback,
    diagonal_from_products,
    exact_diagonal,
    jacobian_diagonal,
)
from scanner.numerics.maps import relative_error, standard_error
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


def test_the_standard_error_is_that_of_a_mean_over_rounds_each_samples_own():
    torch.manual_seed(1)
    rounds = torch.randn(5, 2, 3, 4, dtype=torch.float64)
    found = standard_error(rounds, torch.tensor([5, 3]))
    for sample, number in enumerate((5, 3)):
        own = rounds[:number, sample]
        assert_close(found[sample], own.std(dim=0) / number**0.5)
    assert standard_error(rounds, torch.tensor([5, 1]))[1].isinf().all()


def test_the_standard_error_is_unbiased_for_what_an_estimate_is_off_by(network, point):
    """Over all pairs of sign vectors: the mean squared error is the mean squared standard error."""
    each = torch.stack([jacobian_diagonal(network, point, v[None]) for v in SIGNS]).sum(dim=2)
    truth = exact_diagonal(network, point).sum(dim=1)
    pairs = [torch.stack([a, b]) for a, b in product(each, repeat=2)]
    off = torch.stack([(pair.mean(dim=0) - truth).square() for pair in pairs]).mean(dim=0)
    two = torch.tensor([2])
    said = torch.stack([standard_error(pair, two).square() for pair in pairs]).mean(dim=0)
    assert_close(said, off, rtol=1e-9, atol=1e-14)


def test_the_relative_error_is_of_root_mean_squares():
    maps = torch.tensor([[[3.0, -4.0]], [[0.0, 0.0]], [[1.0, 1.0]]])
    errors = torch.tensor([[[0.3, 0.4]], [[0.0, 0.0]], [[torch.inf, 1.0]]])
    assert_close(relative_error(maps, errors), torch.tensor([0.1, 0.0, torch.inf]))


def test_a_pullback_gives_products_again_and_again_until_the_last(network, point):
    graph = Pullback(network, point)
    assert_close(graph.value, network(point).detach())
    first, again = (graph.diagonal(SIGNS[:3]) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first, graph.diagonal(SIGNS[:3], is_last=True))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        graph.diagonal(SIGNS[:3])

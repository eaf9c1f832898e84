"""The formulas against dense Jacobians and plain loops; float32 throughout, rtol 1e-4."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from scanner.numerics import detectors
from scanner.numerics.curvature import exact_diagonal, jacobian_vector_product

SHAPE = (2, 2, 2)
SIGMA = 0.6


@pytest.fixture
def branches() -> list[nn.Module]:
    """Two smooth score functions with dense, unsymmetric Jacobians."""
    torch.manual_seed(1)
    layers = [
        [nn.Flatten(), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8), nn.Unflatten(1, SHAPE)]
        for _ in range(2)
    ]
    return [nn.Sequential(*parts).requires_grad_(False) for parts in layers]


@pytest.fixture
def point() -> torch.Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2))


def both(branches):
    def function(pair):
        upper, lower = pair.chunk(2)
        return torch.cat([branches[0](upper), branches[1](lower)])

    return function


def dense(branch, x):
    return torch.func.jacrev(branch)(x[None]).reshape(8, 8)


def test_the_forward_product_is_the_dense_one_and_not_its_transpose(branches, point):
    vector = torch.randn(3, *SHAPE)
    expected = [dense(branches[0], x) @ v.flatten() for x, v in zip(point, vector, strict=True)]
    found = jacobian_vector_product(branches[0], point, vector)
    assert_close(found.flatten(1), torch.stack(expected), rtol=1e-4, atol=1e-5)
    step = 1e-2
    central = (branches[0](point + step * vector) - branches[0](point - step * vector)) / (2 * step)
    assert_close(found, central, rtol=1e-2, atol=1e-3)


def test_what_ignores_its_argument_has_no_forward_product(point):
    assert_close(jacobian_vector_product(lambda _: point, point, point), torch.zeros_like(point))


def test_sharpness_is_the_hessian_score_product(branches, point):
    difference = branches[0](point) - branches[1](point)
    expected = [
        ((dense(branches[0], x) - dense(branches[1], x)) @ d.flatten()).square().sum()
        for x, d in zip(point, difference, strict=True)
    ]
    found = detectors.sharpness(both(branches), point, difference)
    assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_metric_2_is_the_gap_between_the_gradients_of_half_the_squared_noises(branches, point):
    gradients = []
    for branch in branches:
        leaf = point.clone().requires_grad_()
        (branch(leaf) * -SIGMA).square().sum().div(2).backward()
        gradients.append(leaf.grad)
    scores = torch.cat([branch(point) for branch in branches])
    found = detectors.gradient_gap(both(branches), point, scores, SIGMA)
    expected = (gradients[0] - gradients[1]).flatten(1).square().sum(dim=1)
    assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_flipd_is_its_published_form_in_noises(branches, point):
    branch = branches[0]
    found = detectors.flipd(branch(point), exact_diagonal(branch, point), SIGMA)
    for x, value in zip(point, found, strict=True):
        noise = branch(x[None]) * -SIGMA
        trace = torch.trace(dense(branch, x) * -SIGMA)
        assert_close(value, 8 - SIGMA * trace + noise.square().sum(), rtol=1e-4, atol=1e-5)


def test_flipd_counts_the_dimensions_of_a_flat_gaussian_at_clean_points_alone():
    """Variance 1 in two directions and 0 in six: near no noise, dimension 2."""
    sigma, variance = 1e-3, torch.tensor([1.0, 1.0] + [0.0] * 6).reshape(SHAPE)
    total = (1 - sigma**2) * variance + sigma**2
    normal = torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(0))
    means = []
    for scale in (((1 - sigma**2) * variance).sqrt(), total.sqrt()):
        x = scale * normal
        found = detectors.flipd(-x / total, (-1 / total).expand_as(x), sigma)
        means.append(found.mean().item())
    assert abs(means[0] - 2) < 1e-4
    # Noised, eps^2 has mean 1 and variance 2 in each of the six: 2 + 6, give or take
    # sqrt(12 / 4000) = 0.055.
    assert abs(means[1] - 8) < 4 * 0.055


def test_the_cosine_is_that_of_the_noises_at_every_position(branches, point):
    conditional, unconditional = (branch(point) for branch in branches)
    found = detectors.cosine_map(conditional, unconditional)
    for index in [(0, 0, 0), (1, 1, 0), (2, 0, 1)]:
        sample, row, column = index
        e_c, e_u = (-SIGMA * s[sample, :, row, column] for s in (conditional, unconditional))
        expected = e_u @ (e_c - e_u) / (e_u.norm() * (e_c - e_u).norm())
        assert_close(found[index], expected, rtol=1e-4, atol=1e-6)


def test_the_anisotropy_weighs_its_terms_equally():
    cosines = torch.tensor([[[0.5, -0.5], [1.0, 0.0]]])
    assert_close(detectors.anisotropy(torch.tensor([3.0]), cosines), torch.tensor([3.25]))


def test_the_focused_norm_is_the_published_one_and_plain_for_flat_weights():
    torch.manual_seed(0)
    differences, weights = torch.randn(5, 2, 4, 3, 3), torch.rand(2, 3, 3)
    expected = torch.stack(
        [
            sum((differences[t, b] * weights[b]).norm() for t in range(5)) / 5 / weights[b].mean()
            for b in range(2)
        ]
    )
    energies = differences.square().sum(dim=2)
    assert_close(detectors.focused_norm(energies, weights), expected, rtol=1e-5, atol=0)
    flat = detectors.focused_norm(energies, torch.full((2, 3, 3), 0.07))
    assert_close(flat, differences.flatten(2).norm(dim=2).mean(dim=0), rtol=1e-5, atol=0)


def test_the_combined_map_keeps_the_sign_and_ignores_the_level_of_attention():
    delta_h, attention = torch.randn(2, 3, 3), torch.rand(2, 3, 3) + 0.1
    found = detectors.combined_map(delta_h, attention)
    assert torch.equal(found.sign(), delta_h.sign())
    assert_close(detectors.combined_map(delta_h, 7 * attention), found)
    assert_close(detectors.combined_map(delta_h, torch.full((2, 3, 3), 0.2)), delta_h)


def test_the_attention_is_a_column_of_the_softmax():
    torch.manual_seed(0)
    queries, keys, tokens = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 5, 4), torch.tensor([4, 1])
    weights = torch.einsum("bhpd,bhld->bhpl", queries, keys).mul(0.5).softmax(dim=-1)
    expected = torch.stack([weights[b, :, :, t].mean(dim=0) for b, t in enumerate(tokens)])
    assert_close(detectors.attention_to(queries, keys, tokens, 0.5), expected)


def test_the_combined_score_map_is_large_only_where_both_are_and_keeps_the_sign_of_one():
    delta_h, delta_s = (
        torch.tensor([[[9.0, -4.0, 0.0, 5.0]]]),
        torch.tensor([[[4.0, 1.0, 3.0, 0.0]]]),
    )
    assert detectors.combined_score_map(delta_h, delta_s).tolist() == [[[6.0, -2.0, 0.0, 0.0]]]


def test_the_spread_tells_one_excited_channel_from_many():
    features = torch.zeros(2, 4, 3, 3)
    features[0, 2, 1, 1] = 8.0  # one channel: maxima 0 0 8 0
    features[1, :, 0, 2] = 8.0  # all channels alike
    assert_close(detectors.spread(features), torch.tensor([12.0**0.5, 0.0]))

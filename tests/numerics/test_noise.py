"""Randomness depends on what it is for, and on nothing else."""

import pytest
import torch

from scanner.numerics.noise import in_portions, initial_latent, probes
from scanner.numerics.portions import num_probes, portions_of

SHAPE = (4, 8, 8)


def test_a_latent_is_the_same_at_every_call_and_differs_by_caption_and_seed():
    first = initial_latent("aa", 0, SHAPE)
    torch.randn(7)
    assert torch.equal(first, initial_latent("aa", 0, SHAPE))
    assert not torch.equal(first, initial_latent("ab", 0, SHAPE))
    assert not torch.equal(first, initial_latent("aa", 1, SHAPE))


def test_latent_and_probes_of_one_draw_are_different_streams():
    signs = probes("aa", 0, SHAPE, 1, "rademacher")[0]
    assert abs((signs * initial_latent("aa", 0, SHAPE)).mean()) < 0.2


@pytest.mark.parametrize(
    ("asked", "given"), [(1, 1), (3, 3), (4, 4), (16, 16), (20, 16), (32, 32), (36, 36)]
)
def test_structured_probes_fill_whole_rounds(asked, given):
    assert len(probes("aa", 0, SHAPE, asked, "structured")) == given


@pytest.mark.parametrize("design", ["structured", "rademacher"])
@pytest.mark.parametrize("number", [1, 4, 16, 36])
def test_every_entry_is_probed_equally_often_by_signs(design, number):
    vectors = probes("aa", 0, SHAPE, number, design)
    assert set(vectors.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert vectors.square().sum(dim=0).unique().numel() == 1


def test_an_unknown_design_is_named():
    with pytest.raises(ValueError, match="design must be one of structured, rademacher, got 'x'"):
        probes("aa", 0, SHAPE, 4, "x")


def plan(*asked):
    return [(p.grid, p.size, p.rounds, p.is_new) for p in portions_of(*asked, adaptive=True)]


def test_rounds_refine_their_grid_while_two_fit_and_repeat_the_last():
    first, second = (1, 4, 2, True), (2, 16, 2, True)
    assert plan(4, 8, "structured") == [first]
    assert plan(4, 39, "structured") == [first, (1, 4, 7, False)]
    assert plan(4, 40, "structured") == [first, second]
    assert plan(4, 167, "structured") == [first, second, (2, 16, 7, False)]
    assert plan(4, 168, "structured") == [first, second, (4, 64, 2, True)]


@pytest.mark.parametrize(("number", "design"), [(21, "rademacher"), (7, "structured")])
def test_signs_everywhere_double(number, design):
    found = plan(4, number, design)
    assert found[:3] == [(0, 1, 2, True), (0, 1, 2, False), (0, 1, min(4, number - 4), False)]
    assert num_probes(4, number, design, adaptive=True) == number


@pytest.mark.parametrize("number", [5, 8, 40, 200])
def test_a_round_probes_every_entry_once_with_signs_of_its_own(number):
    portions = portions_of(4, number, "structured", adaptive=True)
    found = in_portions("aa", 0, SHAPE, portions)
    assert [p.shape[:2] for p in found] == [(p.rounds, p.size) for p in portions]
    rounds = torch.cat([vectors.sum(dim=1) for vectors in found])
    assert set(rounds.unique().tolist()) == {-1.0, 1.0}
    assert all(torch.equal(v.square().sum(dim=1), torch.ones(len(v), *SHAPE)) for v in found)
    assert all(0.3 < (rounds[0] == other).float().mean() < 0.7 for other in rounds[1:])


def test_probes_are_the_only_portion_of_a_fixed_number():
    (portion,) = portions_of(4, 36, "structured")
    (vectors,) = in_portions("aa", 0, SHAPE, [portion])
    assert torch.equal(vectors.flatten(0, 1), probes("aa", 0, SHAPE, 36, "structured"))

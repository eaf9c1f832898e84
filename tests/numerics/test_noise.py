"""Randomness depends on what it is for, and on nothing else."""

import pytest
import torch

from scanner.numerics.noise import initial_latent, probes, rounds

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


@pytest.mark.parametrize(
    ("asked", "least", "found"),
    [
        (16, 1, (16, 1)), (32, 1, (16, 2)), (64, 1, (64, 1)), (64, 4, (16, 4)), (128, 4, (16, 8)),
        (20, 4, (4, 5)), (8, 4, (4, 2)), (7, 4, (1, 7)), (3, 1, (1, 3)),
    ],
)  # fmt: skip
def test_a_round_probes_every_entry_once_and_fits_as_often_as_asked(asked, least, found):
    assert rounds(4, asked, "structured", least) == found
    size, number = found
    vectors = probes("aa", 0, SHAPE, asked, "structured", least=least)
    each = vectors.unflatten(0, (number, size)).square().sum(dim=1)
    assert torch.equal(each, torch.ones(number, *SHAPE))


def test_rounds_have_signs_of_their_own():
    first, second = probes("aa", 0, SHAPE, 32, "structured").unflatten(0, (2, 16)).sum(dim=1)
    assert 0.3 < (first == second).float().mean() < 0.7
    assert rounds(4, 9, "rademacher", 4) == (1, 9)

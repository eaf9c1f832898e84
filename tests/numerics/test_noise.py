"""Randomness depends on what it is for, and on nothing else."""

import pytest
import torch

from scanner.numerics.noise import initial_latent, probes

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

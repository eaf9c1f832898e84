"""The theory's identities, exactly."""

import importlib.util
from pathlib import Path

import pytest
import torch

_PATH = Path(__file__).parents[2] / "examples" / "theory.py"
_SPEC = importlib.util.spec_from_file_location("theory", _PATH)
theory = importlib.util.module_from_spec(_SPEC)


@pytest.fixture(scope="module", autouse=True)
def loaded():
    import sys

    sys.modules["theory"] = theory
    _SPEC.loader.exec_module(theory)
    yield
    del sys.modules["theory"]


def test_same_rank_norm_and_total_curvature_but_not_coordinate_by_coordinate():
    noise = 0.1
    spread = theory.linear_gaussian_curvature(theory.SPREAD, noise)
    local = theory.linear_gaussian_curvature(theory.LOCAL, noise)
    free, collapsed = 1 / (1 + noise**2), 1 / noise**2
    assert torch.linalg.matrix_rank(theory.SPREAD) == torch.linalg.matrix_rank(theory.LOCAL) == 2
    assert theory.SPREAD.norm() == pytest.approx(float(theory.LOCAL.norm()), rel=1e-12)
    assert spread.tolist() == pytest.approx([(free + collapsed) / 2] * 4, rel=1e-9)
    assert local.tolist() == pytest.approx([free, free, collapsed, collapsed], rel=1e-9)
    assert float(spread.sum()) == pytest.approx(float(local.sum()), rel=1e-9)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.9])
def test_fisher_information_is_the_expected_curvature_difference(sigma):
    captions = theory.a_memorized_caption().noised((1 - sigma**2) ** 0.5, sigma)
    for x in captions.draw(1, 5, torch.Generator().manual_seed(4)):
        found = theory.differences(captions, x)
        scale = float(found.fisher.abs().max())
        assert scale > 1e-9
        assert torch.allclose(found.fisher, found.expected_curvature, rtol=1e-8, atol=1e-8 * scale)
        expected_s, expected_h = found.posterior @ found.delta_s, found.posterior @ found.delta_h
        assert torch.allclose(expected_s, expected_h, rtol=1e-8, atol=1e-8 * scale)


def test_for_one_caption_they_differ_but_both_are_large_inside_its_region():
    captions = theory.a_memorized_caption().noised(0.999, 0.0447)
    points = captions.draw(0, 200, torch.Generator().manual_seed(5))
    found = [theory.differences(captions, x) for x in points]
    delta_h = torch.stack([f.delta_h[0] for f in found])
    delta_s = torch.stack([f.delta_s[0] for f in found])
    assert not torch.allclose(delta_h, delta_s, rtol=0.1)
    for mean in (delta_h.mean(dim=0), delta_s.mean(dim=0)):
        assert float(mean[:4].min()) > 10 * float(mean[4:].abs().max())

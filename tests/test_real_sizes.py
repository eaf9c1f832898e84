"""What the real models cost on paper, against what their publishers and their layouts say."""

import importlib
import math
from pathlib import Path

import pytest

PUBLISHED = {
    "Stable Diffusion 1.4": 0.860e9,
    "Stable Diffusion XL base": 2.567e9,
    "Stable Diffusion 3.5 medium": 2.243e9,
    "FLUX.1 dev": 11.90e9,
}


@pytest.fixture(scope="module")
def sizes():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        return importlib.import_module("real_sizes")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_the_published_number_of_parameters(sizes, name):
    assert set(PUBLISHED) == set(sizes.REAL)
    network = sizes.network_of(sizes.REAL[name])
    assert sizes.parameters(network) == pytest.approx(PUBLISHED[name], rel=0.01)
    assert {each.device.type for each in network.parameters()} == {"meta"}


def test_text_encoders_have_the_published_numbers_of_parameters(sizes):
    encoders = sizes.REAL["Stable Diffusion 3.5 medium"].encoders
    built = {name: sizes.size_on_meta(build) for name, build in encoders.items()}
    assert built == {"CLIP-L": 123_650_304, "OpenCLIP-bigG": 694_659_840, "T5-XXL": 4_762_310_656}


def test_stable_diffusion_costs_what_its_scan_evaluates(sizes):
    size = sizes.size_of(sizes.REAL["Stable Diffusion 1.4"])
    assert size.encoders == {"CLIP-L": 123_060_480}
    assert size.probes == 16
    assert 1 < size.vjp / size.forward < 2  # weights take no gradient, so it is below 2
    found = sizes.scans(size)
    assert {name: sizes.letters(each) for name, each in found.items()} == {
        "generated, detected": "100 F",
        "generated, localized": "102 F + 32 V",
        "image, detected": "2 F",
        "image, localized": "4 F + 32 V",
    }
    assert size.operations(found["image, localized"]) == 4 * size.forward + 32 * size.vjp
    assert "100 F = 80.3" in sizes.tables({"Stable Diffusion 1.4": size})


def test_flux_has_its_blocks_and_the_operations_that_follow_from_them(sizes):
    real = sizes.REAL["FLUX.1 dev"]
    network = sizes.network_of(real)
    assert (len(network.transformer_blocks), len(network.single_transformer_blocks)) == (19, 38)
    assert real.probes() == 64
    assert real.latent[0] == (real.side // 16) ** 2
    forward, vjp = sizes.counted(real, network)
    width, tokens, blocks = 3072, 4096 + 512, 19 + 38
    matrices = 2 * 12 * width**2 * tokens * blocks  # attention 4, perceptron 8, in either kind
    attention = 2 * 2 * tokens**2 * width * blocks
    assert forward == pytest.approx(matrices + attention, rel=0.002)
    assert vjp == pytest.approx(matrices + 2 * attention, rel=0.01)


def test_the_latents_are_those_that_the_families_say(sizes):
    for real in sizes.REAL.values():
        channels, token_side = real.family.tokens(real.config)
        assert math.prod(real.latent) == (real.side // 8) ** 2 * channels
        assert token_side == (1 if real.family.network == "unet" else 2)

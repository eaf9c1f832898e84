"""Pixels and latents around an autoencoder keep their numbers, whatever precision it has."""

from types import SimpleNamespace

import pytest
import torch

from scanner.models.latents import Autoencoder

LEVELS = torch.arange(256, dtype=torch.uint8).repeat(3, 1).T.reshape(1, 16, 16, 3)
"""A picture with every level of brightness."""
HALF = [torch.bfloat16, torch.float16]


class Identity:
    """An autoencoder whose latents are pixels, and that keeps what it was given."""

    def __init__(self, dtype):
        self.config = {"scaling_factor": 0.18215, "shift_factor": 0.0609}
        self.dtype, self.device, self.given = dtype, torch.device("cpu"), []

    def encode(self, pixels):
        self.given.append(pixels)
        return SimpleNamespace(latent=pixels)

    def decode(self, raw, return_dict):
        self.given.append(raw)
        return (raw,)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_an_autoencoder_is_given_each_level_rounded_once_and_no_two_alike(dtype):
    module = Identity(dtype)
    Autoencoder(module).encode(LEVELS)
    (given,) = module.given
    exact = LEVELS.double().permute(0, 3, 1, 2) / 127.5 - 1
    assert given.dtype == dtype
    assert torch.equal(given, (LEVELS.float().permute(0, 3, 1, 2) / 127.5 - 1).to(dtype))
    most = 0.26 if dtype in HALF else 0.5
    assert (given.double() - exact).abs().max() <= most * torch.finfo(dtype).eps
    assert len(given[0, 0].unique()) == 256


@pytest.mark.parametrize("dtype", HALF)
def test_a_division_in_half_precision_would_be_further_off(dtype):
    exact = LEVELS.double() / 127.5 - 1
    there = LEVELS.to(dtype) / 127.5 - 1
    assert (there.double() - exact).abs().max() > 0.4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", HALF)
def test_latents_are_scaled_before_they_are_rounded(dtype):
    module = Identity(dtype)
    latents = torch.linspace(-4, 4, 48).reshape(1, 3, 4, 4)
    Autoencoder(module).decode(latents)
    exact = latents.double() / 0.18215 + 0.0609
    assert ((module.given[0].double() - exact) / exact).abs().max() <= torch.finfo(dtype).eps / 2


def test_in_float32_latents_are_to_the_last_bit_what_they_were():
    module = Identity(torch.float32)
    latents = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    Autoencoder(module).decode(latents)
    assert torch.equal(module.given[0], latents / 0.18215 + 0.0609)

"""The optimizer step that trainings share."""

import torch

from scanner.testbed import pipeline
from scanner.testbed.steps import descend, fit_autoencoder


def test_no_step_follows_a_gradient_longer_than_one():
    layer = torch.nn.Linear(1, 1, bias=False)
    before = layer.weight.item()
    descend(1000 * layer.weight.sum(), torch.optim.SGD(layer.parameters(), 0.5), layer)
    assert abs(before - layer.weight.item() - 0.5) < 1e-5


def test_an_autoencoder_comes_nearer_to_its_pictures_and_equal_seeds_give_equal_weights():
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def fitted(seed):
        torch.manual_seed(0)
        vae = pipeline.autoencoder()
        optimizer = torch.optim.AdamW(vae.parameters(), 1e-3)
        return [fit_autoencoder(vae, optimizer, pictures, seed, 1e-4) for _ in range(4)]

    errors = fitted(1)
    assert errors[-1] < errors[0]
    assert fitted(1) == errors
    assert fitted(2) != errors

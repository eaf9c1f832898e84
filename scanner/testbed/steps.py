"""One optimizer step: what the trainings of the testbed and of the benchmark share."""

# pyright: reportAttributeAccessIssue=false
# (diffusers annotates what its models return too narrowly)

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, module: nn.Module) -> None:
    """Go one step down a loss; the gradient of all of the module's weights has norm 1 at most."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()


def fit_autoencoder(
    vae: AutoencoderKL, optimizer: torch.optim.Optimizer, x: Tensor, seed: int, kl_weight: float
) -> float:
    """Fit an autoencoder to a batch: L1 error, twice the squared error, and a KL term.

    Args:
        vae: The autoencoder.
        optimizer: Over its weights.
        x: Pictures, ``(B, 3, H, W)`` in -1..1.
        seed: Of the latents that are drawn from the posterior.
        kl_weight: Weight of the Kullback-Leibler divergence per latent value (Kingma and Welling,
            Auto-Encoding Variational Bayes, 2014, appendix B).

    Returns:
        The mean squared error of the reconstruction before the step.
    """
    torch.manual_seed(seed)
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample()).sample
    error = functional.mse_loss(y, x)
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    descend(functional.l1_loss(y, x) + 2 * error + kl_weight * kl, optimizer, vae)
    return error.item()

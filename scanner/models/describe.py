"""What is understood of a model, for a person who wonders whether it can be audited."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from scanner import models
from scanner.methods import Need
from scanner.models.base import Denoiser
from scanner.models.limits import limits
from scanner.models.stable_diffusion import StableDiffusion

SECONDS = 2.0
"""How long evaluations are repeated for the best time, which a busy machine hides."""
STEPS = 50
"""Of the sampler that is described, where the model has as many timesteps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A model and one evaluation of it on this machine.

    Attributes:
        model: As it was named.
        family: The class that drives it.
        fingerprint: What names it in a run.
        prediction: What its network predicts.
        latent: Channels, height and width.
        image: Height and width of its pictures, pixels.
        vae_scale: By what the autoencoder's latents are multiplied; null without one.
        alphas: Signal scale at the least and the most noisy level of its schedule.
        sampler: The timesteps that a DDIM sampler of `STEPS` steps visits, in a sentence.
        text_encoder: Class, tokens and width, or ``""``.
        parameters: Numbers in every part.
        attends: Whether it has cross attention.
        has_middle: Whether it has a middle block.
        device: Where the evaluation ran.
        bytes: Of the weights there.
        seconds: For one evaluation of one sample, the best of those that two seconds hold.
        finite: Whether all of its output was finite.
    """

    model: str
    family: str
    fingerprint: str
    prediction: str
    latent: tuple[int, int, int]
    image: tuple[int, int]
    vae_scale: float | None
    alphas: tuple[float, float]
    sampler: str
    text_encoder: str
    parameters: dict[str, int]
    attends: bool
    has_middle: bool
    device: str
    bytes: int
    seconds: float
    finite: bool


def describe(model: str, device: str = "cpu", dtype: str = "float32") -> Description:
    """Load a model, evaluate it for two seconds, and say what it is.

    Raises:
        ConfigError: If it is no model that memscan knows; the text says why.
    """
    denoiser = models.load(model, device=device, dtype=dtype)
    steps = min(STEPS, limits(model).timesteps - 1)  # an offset of 1 leaves room for no more
    schedule = denoiser.schedule(steps)
    level = (schedule.timesteps[-1], schedule.alphas[-2], schedule.sigmas[-2])
    condition = denoiser.encode(["a photo of a cat"])
    noise = torch.randn((1, *denoiser.latent_shape), generator=torch.Generator().manual_seed(0)).to(
        denoiser.device
    )
    seconds, finite = _evaluated(denoiser, noise, level, condition)
    picture = denoiser.decode(noise)
    return Description(
        model=model, family=type(denoiser).__name__, fingerprint=models.fingerprint(model),
        latent=denoiser.latent_shape, image=(picture.shape[1], picture.shape[2]),
        alphas=(schedule.alphas[-2], schedule.alphas[0]), device=str(denoiser.device),
        seconds=seconds, finite=finite, sampler=_sampler(denoiser, steps),
        attends=Need.CROSS_ATTENTION in denoiser.has, has_middle=Need.MIDDLE_BLOCK in denoiser.has,
        **_inside(denoiser),
    )  # fmt: skip


@torch.no_grad()
def _evaluated(
    denoiser: Denoiser, x: torch.Tensor, level: tuple[int, float, float], condition: torch.Tensor
) -> tuple[float, bool]:
    best, finite, end, times = float("inf"), True, time.perf_counter() + SECONDS, 0
    while times < 2 or time.perf_counter() < end:  # the first warms up
        times += 1
        start = time.perf_counter()
        score = denoiser.score(x, level, condition)
        finite = finite and bool(torch.isfinite(score).all())  # waits for the device, too
        best = min(best, time.perf_counter() - start)
    return best, finite


def _sampler(denoiser: Denoiser, steps: int) -> str:
    if isinstance(denoiser, StableDiffusion):
        return denoiser.levels.described(steps)
    timesteps = denoiser.schedule(steps).timesteps
    return f"leading spacing, {steps} steps: {timesteps[0]} ... {timesteps[-1]}"


def _inside(denoiser: Denoiser) -> dict[str, Any]:
    """Return what only a pipeline has."""
    if not isinstance(denoiser, StableDiffusion):
        return {
            "prediction": "the score itself", "vae_scale": None, "text_encoder": "",
            "parameters": {}, "bytes": 0,
        }  # fmt: skip
    text = denoiser.text_encoder
    parts = {"unet": denoiser.unet, "vae": denoiser.vae, "text_encoder": text}
    weights = {name: list(part.parameters()) for name, part in parts.items()}
    tokens = denoiser.tokenizer.model_max_length
    return {
        "prediction": denoiser.prediction,
        "vae_scale": float(denoiser.vae.config["scaling_factor"]),
        "text_encoder": f"{type(text).__name__}, {tokens} tokens, width {text.config.hidden_size}",
        "parameters": {name: sum(p.numel() for p in each) for name, each in weights.items()},
        "bytes": sum(p.numel() * p.element_size() for each in weights.values() for p in each),
    }

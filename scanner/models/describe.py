"""Description of a model for a person: what memscan reads from it, or why it is refused."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scanner import models
from scanner.methods import Need
from scanner.models.base import Denoiser, Level, taken_caption
from scanner.models.diffusion import Diffusion
from scanner.models.distilled import distillation
from scanner.models.families import Family
from scanner.models.limits import limits
from scanner.models.noise import noise_ratios
from scanner.models.overlay import Overlay, layers_of
from scanner.models.placement import Placement, bytes_of
from scanner.spec import OFFLOADS, STEPS, TIMESTEP

SECONDS = 2.0
"""Seconds for which evaluations are repeated; the best time is kept, as machines may be busy."""
LONGEST = 100_000
"""Tokenizers without a limit say a larger number of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A model and one evaluation of it on this machine.

    Attributes:
        model: As it was named; of the hub, at its commit.
        family: The class that drives it.
        kin: The family of models, for a person.
        fingerprint: What names it in a run.
        prediction: What its network predicts.
        latent: Channels, height and width.
        image: Height and width of its pictures, pixels.
        vae_scale: By what the autoencoder's latents are multiplied; null without one.
        alphas: Signal scale at the least and the most noisy level of its schedule.
        noise: Noise over signal at the least and the most noisy training timestep that has both.
        noise_of_default: That of `scanner.spec.TIMESTEP`; null of a model without it.
        sampler: The timesteps that a DDIM sampler of `STEPS` steps visits, in a sentence.
        text_encoder: Class, tokens and width, or ``""``.
        parameters: Numbers in every part.
        over: Adapters and weights over it, or ``""``.
        null: What its unconditional branch is.
        token_side: Side of the square of latent positions that share a token of its network.
        note: What its results mean beside others', or ``""``.
        attends: Whether it has cross attention.
        has_middle: Whether it has a middle block.
        device: Where the evaluation ran.
        bytes: Of the weights there.
        part_bytes: Of every part's weights and buffers, in the precision that was asked for.
        resident: By `scanner.spec.OFFLOADS`, bytes of weights that stay on a GPU, and those that
            come to it while text encoders and while the autoencoder run.
        seconds: For one evaluation of one sample, the best of those that two seconds hold.
        finite: Whether all of its output was finite.
    """

    model: str
    family: str
    kin: str
    fingerprint: str
    prediction: str
    latent: tuple[int, int, int]
    image: tuple[int, int]
    vae_scale: float | None
    alphas: tuple[float, float]
    noise: tuple[float, float]
    noise_of_default: float | None
    sampler: str
    text_encoder: str
    parameters: dict[str, int]
    over: str
    null: str
    token_side: int
    note: str
    attends: bool
    has_middle: bool
    device: str
    bytes: int
    part_bytes: dict[str, int]
    resident: dict[str, tuple[int, int, int]]
    seconds: float
    finite: bool


def describe(
    model: str, device: str = "cpu", dtype: str = "float32", side: int | None = None,
    overlay: Overlay | None = None, offload: str = "none",
) -> Description:  # fmt: skip
    """Load a model, evaluate it for two seconds, and say what it is.

    Args:
        model: A pipeline folder, a hub id or ``gaussian``.
        device: Where.
        dtype: Precision of the network.
        side: Of its pictures, in pixels; null takes the model's own.
        overlay: Adapters and weights over it.
        offload: Parts that are on the device only while they run.

    Raises:
        ConfigError: If it is no model that memscan knows; the text says why.
    """
    denoiser = models.load(
        model, device=device, dtype=dtype, side=side, overlay=overlay, offload=offload
    )
    steps = min(STEPS, limits(model).timesteps - 1)  # an offset of 1 leaves room for no more
    schedule = denoiser.schedule(steps)
    level = (schedule.timesteps[-1], schedule.alphas[-2], schedule.sigmas[-2])
    condition = denoiser.encode([taken_caption(denoiser, "a photo of a cat")])
    noise = torch.randn((1, *denoiser.latent_shape), generator=torch.Generator().manual_seed(0)).to(
        denoiser.device
    )
    seconds, finite = _evaluated(denoiser, noise, level, condition)
    picture = denoiser.decode(noise)
    return Description(
        model=models.pinned(model), family=type(denoiser).__name__,
        fingerprint=models.fingerprint(model, overlay),
        latent=denoiser.latent_shape, image=(picture.shape[1], picture.shape[2]),
        alphas=(schedule.alphas[-2], schedule.alphas[0]), device=str(denoiser.device),
        seconds=seconds, finite=finite, sampler=_sampler(denoiser, steps),
        attends=Need.CROSS_ATTENTION in denoiser.has, has_middle=Need.MIDDLE_BLOCK in denoiser.has,
        **_noise(model), **_inside(denoiser, distillation(model)),
    )  # fmt: skip


@torch.no_grad()
def _evaluated(
    denoiser: Denoiser, x: torch.Tensor, level: Level, condition: torch.Tensor
) -> tuple[float, bool]:
    best, finite, end, times = float("inf"), True, time.perf_counter() + SECONDS, 0
    while times < 2 or time.perf_counter() < end:  # the first warms up
        times += 1
        start = time.perf_counter()
        score = denoiser.score(x, level, condition)
        finite = finite and bool(torch.isfinite(score).all())  # waits for the device, too
        best = min(best, time.perf_counter() - start)
    return best, finite


def _noise(model: str) -> dict[str, Any]:
    ratios = noise_ratios(model)
    usable = ratios[(ratios > 0) & np.isfinite(ratios)]
    usual = float(ratios[TIMESTEP]) if len(ratios) > TIMESTEP else None
    return {"noise": (float(usable[0]), float(usable[-1])), "noise_of_default": usual}


def _sampler(denoiser: Denoiser, steps: int) -> str:
    if isinstance(denoiser, Diffusion) and denoiser.levels is not None:
        return denoiser.levels.described(steps)
    schedule = denoiser.schedule(steps)
    if schedule.flow:
        sigmas = schedule.sigmas
        return (
            f"a flow's, {steps} steps: sigma {sigmas[0]:.4g}, {sigmas[1]:.4g} ... "
            f"{sigmas[-2]:.4g}; the first holds no signal"
        )
    timesteps = schedule.timesteps
    return f"leading spacing, {steps} steps: {timesteps[0]} ... {timesteps[-1]}"


def _inside(denoiser: Denoiser, distilled: str) -> dict[str, Any]:
    """Return what only a pipeline has, and notes on what its name says."""
    if not isinstance(denoiser, Diffusion):
        return {
            "kin": "a closed form", "prediction": "the score itself", "vae_scale": None,
            "text_encoder": "", "parameters": {}, "bytes": 0, "over": "", "part_bytes": {},
            "resident": dict.fromkeys(OFFLOADS, (0, 0, 0)), "null": "the empty caption",
            "token_side": 1, "note": "",
        }  # fmt: skip
    family = denoiser.family
    weights = {name: list(part.parameters()) for name, part in denoiser.modules().items()}
    return {
        "kin": family.name,
        "prediction": denoiser.prediction,
        "vae_scale": None if denoiser.vae is None else denoiser.autoencoder.scale,
        "text_encoder": _text_encoders(denoiser),
        "parameters": {name: sum(p.numel() for p in each) for name, each in weights.items()},
        "bytes": sum(p.numel() * p.element_size() for each in weights.values() for p in each),
        "part_bytes": (part_bytes := {n: bytes_of([m]) for n, m in denoiser.modules().items()}),
        "resident": {offload: _resident(part_bytes, family, offload) for offload in OFFLOADS},
        "over": _over(denoiser),
        "null": family.null,
        "token_side": denoiser.token_side,
        "note": "; ".join(filter(None, (family.note, distilled))),
    }


def _resident(parts: Mapping[str, int], family: Family, offload: str) -> tuple[int, int, int]:
    """Return bytes that stay on a GPU, and that come for text encoders and the autoencoder."""
    placement = Placement("cuda", offload)
    moved = {n for n in parts if n != family.network and placement.rests(n).type == "cpu"}
    words = sum(size for name, size in parts.items() if name in moved - {"vae"})
    picture = sum(size for name, size in parts.items() if name in moved & {"vae"})
    stays = sum(size for name, size in parts.items() if name not in moved)
    return stays, words, picture


def _over(denoiser: Diffusion) -> str:
    """Return what is laid over the model; all of it landed, or it would not have been loaded."""
    over = denoiser.overlay
    said = [f"{lora.pinned().file} x {lora.scale:g}, {len(layers_of(lora.path))} layers, all loaded"
            for lora in over.loras]  # fmt: skip
    return "; ".join([*said, *([over.weights] if over.weights else [])])


def _text_encoders(denoiser: Diffusion) -> str:
    """Return classes, tokens and widths of the text encoders in a line."""
    said = list[str]()
    for name, part in denoiser.modules().items():
        if not name.startswith("text_encoder"):
            continue
        tokenizer = getattr(denoiser.pipeline, name.replace("text_encoder", "tokenizer"), None)
        tokens = getattr(tokenizer, "model_max_length", 0)
        config: Any = part.config
        width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None)
        width = width or config.get_text_config().hidden_size
        long = f"{tokens} tokens, " if tokens < LONGEST else ""
        said.append(f"{type(part).__name__}, {long}width {width}")
    return "; ".join(said)

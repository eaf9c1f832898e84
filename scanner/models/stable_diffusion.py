"""Stable Diffusion 1 and 2 and their kin: any diffusers pipeline folder or hub id of the class."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from torch.autograd import forward_ad
from transformers.utils import logging as transformers_logging

from scanner.errors import ConfigError
from scanner.methods import Need
from scanner.models import attention
from scanner.models.levels import SchedulerConfig, refuse_scheduler
from scanner.models.limits import refuse_apart
from scanner.numerics.schedule import (
    Prediction,
    Schedule,
    matched_timestep,
    score_of_noise,
    score_of_velocity,
)


class StableDiffusion:
    """A `scanner.models.base.Denoiser` over a Stable Diffusion pipeline, its weights frozen.

    Args:
        pipeline: Anything with ``vae``, ``unet``, ``text_encoder``, ``tokenizer``, ``scheduler``.
        device: Where it runs.

    Raises:
        ConfigError: If the network predicts neither noise nor velocity, or its scheduler cannot
            be followed.
    """

    def __init__(self, pipeline: Any, device: str) -> None:
        self.device = torch.device(device)
        self.unet, self.vae = pipeline.unet, pipeline.vae
        self.text_encoder, self.tokenizer = pipeline.text_encoder, pipeline.tokenizer
        self.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        refuse_scheduler(pipeline.scheduler.config)  # DDIM's own configuration forgets its family
        self.levels = SchedulerConfig.of(self.scheduler.config)
        self.prediction = self.levels.prediction
        self._cumulative: list[float] | None = None
        for module in (self.unet, self.vae, self.text_encoder):
            module.requires_grad_(False).eval().to(self.device)
        self.unet.to(memory_format=torch.channels_last)
        side = self.unet.config["sample_size"]
        height, width = (side, side) if isinstance(side, int) else side
        self.latent_shape = (int(self.unet.config["in_channels"]), height, width)
        scale = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        self.picture_size = (height * scale, width * scale)
        if self.latent_shape[0] != self.vae.config["latent_channels"]:
            raise ConfigError(
                f"the network takes {self.latent_shape[0]} channels, its autoencoder makes "
                f"{self.vae.config['latent_channels']}: inpainting and depth models are not "
                f"text-to-image models"
            )

    @property
    def has(self) -> frozenset[Need]:
        """What the U-Net has for methods that look inside it."""
        return attention.network_parts(self.unet)

    def to(self, device: str) -> "StableDiffusion":
        """Move the model to a device, and return it."""
        self.device = torch.device(device)
        for module in (self.unet, self.vae, self.text_encoder):
            module.to(self.device)
        return self

    def schedule(self, steps: int) -> Schedule:
        """Return the DDIM levels of the model's own noise schedule.

        Raises:
            ConfigError: If so many steps leave the training timesteps.
        """
        cumulative = self.scheduler.alphas_cumprod.tolist()
        final = float(self.scheduler.final_alpha_cumprod)
        timesteps, stride = self.levels.sampled(steps), self.levels.stride(steps)
        return Schedule.from_cumulative(timesteps, cumulative, final, stride)

    def single(self, timestep: int) -> Schedule:
        """Return the schedule of one step from a training timestep.

        Raises:
            ValueError: If the model has no such timestep.
        """
        cumulative = self.scheduler.alphas_cumprod.tolist()
        return Schedule.single(timestep, cumulative, float(self.scheduler.final_alpha_cumprod))

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return text states, ``(B, tokens, width)``. Longer captions are cut, as in training."""
        tokens = self._tokens(captions)
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self.device)
        return self.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]

    def score(self, x: Tensor, level: tuple[int, float, float], condition: Tensor) -> Tensor:
        """Return the score at ``x``; the network runs in its own precision, the rest in float32."""
        return self.predict(x, level, condition)[0]

    def predict(
        self, x: Tensor, level: tuple[int, float, float], condition: Tensor
    ) -> tuple[Tensor, Prediction]:
        """Return the score at ``x`` and the network's output.

        A network with a noise schedule of its own is told its own timestep of the same level.
        """
        timestep, alpha, sigma = level
        told = timestep
        if self._cumulative is not None:
            told = matched_timestep(alpha, self._cumulative)
        inputs = x.to(self.unet.dtype)
        with _contiguous_norms(self.unet) if _has_tangent(x) else nullcontext():
            output = self.unet(inputs, told, condition.to(inputs.dtype), return_dict=False)[0]
        output = output.float()
        if self.prediction == "epsilon":
            return score_of_noise(output, sigma), Prediction(output, 1.0, 0.0)
        score = score_of_velocity(output, x.float(), alpha, sigma)
        return score, Prediction(output, alpha, -sigma)

    def refuse_level(self, alpha: float) -> None:
        """Refuse a noise level outside the network's own schedule.

        Raises:
            ConfigError: If it is.
        """
        if self._cumulative is None:
            return
        try:
            matched_timestep(alpha, self._cumulative)
        except ValueError as error:
            raise ConfigError(
                f"the baseline network was not trained at the level of the maps: {error}; take "
                f"the maps elsewhere (--map-back, --timestep) or another baseline"
            ) from error

    def end_tokens(self, captions: Sequence[str]) -> Tensor:
        """Return where each caption's end-of-text token stands, ``(B,)`` int64.

        A caption that was cut ends at the last place. Padding may repeat the token; the first
        one counts.
        """
        return self._tokens(captions).attention_mask.sum(dim=1) - 1

    def score_and_attention(
        self, x: Tensor, level: tuple[int, float, float], condition: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the score, and the cross attention that the first samples pay to a token each.

        The attention is the mean over heads and over the layers of
        `scanner.models.attention.finest_cross_attention`, bilinear to the latent's size,
        ``(N, H, W)`` float32. One evaluation; only those layers' queries and keys are formed
        twice.
        """
        with attention.record_attention(self.unet, tokens) as seen:
            score = self.score(x, level, condition)
        return score, attention.on_latent(torch.stack(seen).mean(dim=0), *self.latent_shape[1:])

    @contextmanager
    def bottleneck(self) -> Iterator[list[Tensor]]:
        """Collect what the U-Net's middle block gives in every evaluation inside.

        Raises:
            ValueError: If it has no middle block; `has` says so before.
        """
        if self.unet.mid_block is None:
            raise ValueError("the network has no middle block")
        seen: list[Tensor] = []
        hook = self.unet.mid_block.register_forward_hook(
            lambda _, inputs, output: seen.append(output.detach())
        )
        try:
            yield seen
        finally:
            hook.remove()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures, ``(B, height, width, 3)`` uint8 on the CPU."""
        shift = self.vae.config.get("shift_factor") or 0.0
        scaled = latents.to(self.vae.dtype) / self.vae.config["scaling_factor"] + shift
        pixels = self.vae.decode(scaled, return_dict=False)[0].float()
        pixels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round()
        return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu()

    @torch.no_grad()
    def compress(self, pictures: Tensor) -> Tensor:
        """Return the autoencoder's mean latents of pictures, scaled as the network sees them."""
        pixels = pictures.permute(0, 3, 1, 2).to(self.device, self.vae.dtype) / 127.5 - 1
        latents = self.vae.encode(pixels).latent_dist.mode().float()
        shift = self.vae.config.get("shift_factor") or 0.0
        return (latents - shift) * self.vae.config["scaling_factor"]

    def _tokens(self, captions: Sequence[str]) -> Any:
        return self.tokenizer(
            list(captions), padding="max_length", truncation=True,
            max_length=self.tokenizer.model_max_length, return_tensors="pt",
        )  # fmt: skip

    def with_unet(
        self, unet: UNet2DConditionModel, scheduler: Mapping[str, Any] | None = None
    ) -> "StableDiffusion":
        """Return the same model around another U-Net, sharing everything else.

        Args:
            unet: The other network.
            scheduler: Its scheduler's configuration: what it predicts, and its noise schedule.
                Null takes it to be as the model's.

        Raises:
            ConfigError: If the other network's latents or text states have another shape, or
                its output cannot be turned into a score.
        """
        refuse_apart(self.unet.config, unet.config)
        other = object.__new__(StableDiffusion)
        other.__dict__.update(self.__dict__)
        other.unet = unet.requires_grad_(False).eval().to(self.device, self.unet.dtype)
        other.unet.to(memory_format=torch.channels_last)
        if scheduler is not None:
            other.prediction = SchedulerConfig.of(scheduler).prediction
            table = DDIMScheduler.from_config(dict(scheduler)).alphas_cumprod
            if not torch.equal(table, self.scheduler.alphas_cumprod):
                other._cumulative = table.tolist()
        return other


_BROKEN = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
           OSError, RuntimeError, StrictDataclassError, TypeError, ValueError)  # fmt: skip
"""What libraries raise over a folder that is no sound model: they check none of it."""


def _has_tangent(x: Tensor) -> bool:
    return forward_ad.unpack_dual(x).tangent is not None


@contextmanager
def _contiguous_norms(unet: UNet2DConditionModel) -> Iterator[None]:
    """Hand group norms contiguous inputs: their forward-mode rule fails on channels last."""
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        for module in unet.modules()
        if isinstance(module, torch.nn.GroupNorm)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def load(source: str, device: str, dtype: str) -> StableDiffusion:
    """Load a pipeline from a folder or a hub id, from safetensors only.

    Raises:
        ConfigError: If there is no pipeline of this class, or it cannot be read.
    """
    try:
        with _quiet():
            pipeline = StableDiffusionPipeline.from_pretrained(
                source,
                torch_dtype=getattr(torch, dtype),
                use_safetensors=True,
                safety_checker=None,
                feature_extractor=None,
                image_encoder=None,
                requires_safety_checker=False,
                local_files_only=Path(source).exists(),
            )
            denoiser = StableDiffusion(pipeline, "cpu")
            denoiser.schedule(1)
    except _BROKEN as error:
        raise ConfigError(
            f"cannot load {source} as a Stable Diffusion pipeline: {_first(error)}"
        ) from error
    return denoiser.to(device)


def load_unet(source: str, dtype: str) -> UNet2DConditionModel:
    """Load a U-Net from its own folder, or from a pipeline folder or hub id.

    Raises:
        ConfigError: If it cannot be read.
    """
    alone = (Path(source) / "config.json").exists()
    try:
        with _quiet():
            return UNet2DConditionModel.from_pretrained(
                source,
                subfolder=None if alone else "unet",
                torch_dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=Path(source).exists(),
            )
    except _BROKEN as error:
        raise ConfigError(f"cannot load {source} as a baseline U-Net: {_first(error)}") from error


def _first(error: Exception) -> str:
    """Return the first line of an error, with the next one where it ends in a colon."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(map(str.strip, lines[: 2 if lines[0].endswith(":") else 1]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Load without progress bars and without the libraries' notes to their own developers."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield

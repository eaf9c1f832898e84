"""Denoisers of true sizes with random weights, built on the device from their configurations.

Numbers from such a network mean nothing, and should take as long as true ones. Text encoders are
left out: a caption's states are noise of the true shape, so that what a scan spends on them is not
measured. The network, the autoencoder and everything else are what a scan runs.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from real_sizes import REAL, Real, counted, network_of, parameters
from torch.utils._python_dispatch import TorchDispatchMode

from scanner.models.diffusion import Diffusion
from scanner.models.encoder import Parts
from scanner.models.encodings import Encode
from scanner.models.families import FAMILIES
from scanner.models.stable_diffusion import StableDiffusion
from scanner.models.unet import UNetDiffusion
from scanner.models.words import TextEncoders
from scanner.numerics.noise import keyed_generator

HALF = 2
"""Bytes of a number in float16 and bfloat16."""
WEIGHTS_SHARE = 0.6
"""Share of the free memory that weights may take; the rest is for a product's graph."""
DDPM = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "steps_offset": 1}  # fmt: skip
LAYERS = ("num_layers", "num_single_layers")
STATES = {
    "clip": ("encoder_hidden_states",),
    "sdxl": ("encoder_hidden_states", "text_embeds"),
    "flux": ("encoder_hidden_states", "pooled_projections"),
}
"""What text encoders give, by the family's encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network whose speed is measured.

    Attributes:
        name: For a person.
        real: Its configuration.
        dtype: Precision.
        vae: The autoencoder's configuration beside what all have.
        blocks: Of a stack of like blocks: how many there are, and how many are built.
    """

    name: str
    real: Real
    dtype: str
    vae: Mapping[str, Any]
    blocks: tuple[int, int] = (0, 0)

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.real.family.tokens(self.real.config)[0]

    @property
    def shrinks(self) -> bool:
        """Whether it is a stack of like blocks, of which fewer tell the time of all."""
        return self.blocks[0] > 0

    def shrunk(self, share: float) -> "Subject":
        """Return the same with this share of its blocks, at least one of each kind."""
        config = dict(self.real.config)
        config |= {name: max(1, int(share * config[name])) for name in LAYERS}
        left = sum(config[name] for name in LAYERS)
        return replace(self, real=replace(self.real, config=config), blocks=(self.blocks[0], left))


_KL = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32}
_TINY_KL = {"block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2,
            "mid_block_add_attention": False}  # fmt: skip


def true_subjects() -> list[Subject]:
    """Return networks of true sizes, the smallest first."""
    return [
        Subject(
            name="Stable Diffusion 1.4", real=REAL["Stable Diffusion 1.4"], dtype="float16",
            vae=_KL | {"sample_size": 512, "latent_channels": 4, "scaling_factor": 0.18215},
        ),
        Subject(
            name="Stable Diffusion XL base", real=REAL["Stable Diffusion XL base"],
            dtype="float16",
            # float16 loses the true autoencoder's numbers, so a scan runs it in float32
            vae=_KL | {"sample_size": 1024, "latent_channels": 4, "scaling_factor": 0.13025,
                       "force_upcast": True},
        ),
        Subject(
            name="FLUX.1 dev", real=REAL["FLUX.1 dev"], dtype="bfloat16", blocks=(57, 57),
            vae=_KL | {"sample_size": 1024, "latent_channels": 16, "scaling_factor": 0.3611,
                       "shift_factor": 0.1159},
        ),
    ]  # fmt: skip


def toy_subjects() -> list[Subject]:
    """Return tiny networks of the same classes, in float32: half precision is slow on CPUs."""
    unet = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": [8, 16],
        "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": [2, 4],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    }  # fmt: skip
    added = {
        "cross_attention_dim": 64, "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2], "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80,
    }  # fmt: skip
    flux = {
        "patch_size": 1, "in_channels": 64, "num_layers": 2, "num_single_layers": 2,
        "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32,
        "pooled_projection_dim": 32, "axes_dims_rope": [4, 4, 8], "guidance_embeds": True,
    }  # fmt: skip
    one, two, three = REAL["Stable Diffusion 1.4"], REAL["Stable Diffusion XL base"], REAL[
        "FLUX.1 dev"]  # fmt: skip
    return [
        Subject(
            name="toy of Stable Diffusion 1.4", dtype="float32",
            vae=_TINY_KL | {"sample_size": 64, "latent_channels": 4},
            real=replace(
                one, config=unet | {"cross_attention_dim": 32}, side=64, latent=(4, 8, 8),
                conditions={"encoder_hidden_states": (77, 32)},
            ),
        ),
        Subject(
            name="toy of Stable Diffusion XL", dtype="float32",
            vae=_TINY_KL | {"sample_size": 64, "latent_channels": 4},
            real=replace(
                two, config=unet | added, side=64, latent=(4, 8, 8),
                conditions={"encoder_hidden_states": (77, 64), "text_embeds": (32,),
                            "time_ids": (6,)},
            ),
        ),
        Subject(
            name="toy of FLUX.1 dev", dtype="float32", blocks=(4, 4),
            vae=_TINY_KL | {"sample_size": 64, "latent_channels": 16},
            real=replace(
                three, config=flux, side=64, latent=(16, 64),
                conditions={"encoder_hidden_states": (32, 32), "pooled_projections": (32,),
                            "guidance": (), "txt_ids": (32, 3), "img_ids": (16, 3)},
            ),
        ),
    ]  # fmt: skip


class MadeStates(TextEncoders):
    """Text encoders that give states of the true shape: the same noise, scaled by the caption.

    Args:
        pipeline: The pipeline.
        of: The network.
    """

    def __init__(self, pipeline: Any, of: Subject) -> None:
        super().__init__(pipeline, of.real.family)
        dtype, source = getattr(torch, of.dtype), keyed_generator("states")
        self._noise = {
            name: torch.randn((1, *of.real.conditions[name]), generator=source).to(dtype)
            for name in STATES[of.real.family.encoder]
        }

    @contextmanager
    def _running(self, off: Sequence[Any]) -> Iterator[Encode]:
        yield lambda captions: [self._states(caption) for caption in captions]

    def _states(self, caption: str) -> Parts:
        scale = 0.5 + torch.rand(1, generator=keyed_generator(caption)).item()
        return {name: noise * scale for name, noise in self._noise.items()}


def built(of: Subject, device: torch.device) -> Diffusion:
    """Return a subject's denoiser on a device; its weights are as their classes draw them."""
    kind = getattr(diffusers, of.real.network)
    blocks = len(of.vae["block_out_channels"])
    with _made_in(of.dtype, device):
        network = kind.from_config(dict(of.real.config))
        vae = diffusers.AutoencoderKL(
            in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks, **of.vae,
        )  # fmt: skip
    if of.vae.get("force_upcast") and of.dtype == "float16":
        vae.float()
    pipeline = SimpleNamespace(vae=vae, scheduler=_scheduler(of.real))
    setattr(pipeline, of.real.family.network, network)
    denoiser = _adapter(pipeline, of.real, str(device))
    denoiser.text = MadeStates(pipeline, of)
    denoiser.text.placement = denoiser.placement
    return denoiser


@contextmanager
def _made_in(dtype: str, device: torch.device) -> Iterator[None]:
    """Have modules made on a device in a precision, without a copy elsewhere."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def _scheduler(real: Real) -> Any:
    if real.family.is_flow:
        return diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15
        )
    return diffusers.DDIMScheduler(**DDPM, clip_sample=False)


def _adapter(pipeline: Any, real: Real, device: str) -> Diffusion:
    if real.family.encoder == "clip":
        return StableDiffusion(pipeline, device)
    kind = UNetDiffusion if real.family.network == "unet" else Diffusion
    return kind(pipeline, FAMILIES[real.pipeline], device)


def operations(of: Subject) -> tuple[int, int]:
    """Return the operations of one evaluation and of one product, of all that is built."""
    return counted(of.real, network_of(of.real))


def free_bytes(device: torch.device) -> int:
    """Return the bytes that a device has free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fitting(of: Subject, free: int) -> Subject | None:
    """Return a subject whose weights leave room to work; null if it cannot be made smaller.

    Args:
        of: The subject.
        free: Bytes that the device has.
    """
    needed, room = HALF * parameters(network_of(of.real)), WEIGHTS_SHARE * free
    if needed <= room:
        return of
    return of.shrunk(room / needed) if of.shrinks else None


class AttentionKernels(TorchDispatchMode):
    """Notes which of torch's attention kernels run inside.

    Attributes:
        seen: Their names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = set[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        """Run an operation as it is."""
        name = func.name().removeprefix("aten::").partition(".")[0]
        if name.startswith("_scaled_dot_product") and not name.endswith("_backward"):
            self.seen.add(name.removeprefix("_scaled_dot_product_"))
        return func(*args, **(kwargs or {}))

    def __str__(self) -> str:
        return ", ".join(sorted(self.seen)) or "none of torch's fused ones"

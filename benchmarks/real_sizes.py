"""What the real models cost on paper: numbers, bytes and operations, without their weights.

    python benchmarks/real_sizes.py [--model "FLUX.1 dev" ...] [--json FILE]

Networks and text encoders are built on torch's ``meta`` device from the configurations that their
publishers give: shapes alone, no memory, no download, nothing is computed. Operations are those of
`torch.utils.flop_counter.FlopCounterMode` for one sample at the native size: two for every
multiply-add of matrix products, convolutions and attention; norms, activations and sums are left
out. A gradient is one vector-Jacobian product with respect to the latent, as a scan takes it,
beyond the forward evaluation whose graph it goes back through; weights have no gradient.

Evaluations of a caption are those of `scanner.scan.cost`, which `memscan plan` uses, with the
products that ``--probes auto`` takes. No time is measured: what share of its peak a device reaches
in these networks is not known here.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from scanner.models.families import FAMILIES, Family
from scanner.models.limits import Limits
from scanner.scan import cost
from scanner.spec import ScanSpec

Shapes = dict[str, tuple[int, ...]]
HALF = 2
"""Bytes of a number in float16."""

_CLIP_L: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 77, "projection_dim": 768,
    "hidden_act": "quick_gelu",
}  # fmt: skip
_CLIP_BIG_G: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
    "num_attention_heads": 20, "max_position_embeddings": 77, "projection_dim": 1280,
    "hidden_act": "gelu",
}  # fmt: skip
_T5_XXL: dict[str, Any] = {
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_heads": 64, "feed_forward_proj": "gated-gelu", "is_gated_act": True,
}  # fmt: skip


def clip_l() -> nn.Module:
    """Return CLIP ViT-L/14's text encoder."""
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**_CLIP_L))


def projected_clip_l() -> nn.Module:
    """Return the same with its projection, as Stable Diffusion 3 has it."""
    return transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**_CLIP_L))


def clip_big_g() -> nn.Module:
    """Return OpenCLIP ViT-bigG/14's text encoder with its projection."""
    return transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**_CLIP_BIG_G))


def t5_xxl() -> nn.Module:
    """Return the encoder of T5 v1.1 XXL."""
    return transformers.T5EncoderModel(transformers.T5Config(**_T5_XXL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A published model.

    Attributes:
        pipeline: Its diffusers class, a key of `FAMILIES`.
        network: Class of its network.
        config: The network's published configuration.
        side: Of its pictures, in pixels.
        latent: Shape of its network's input, without the batch.
        conditions: Shapes of the network's further arguments, without the batch.
        rows: Those of them that have no batch.
        encoders: Its text encoders by name.
        downsampling: Pixels per latent position, along a side.
    """

    pipeline: str
    network: str
    config: Mapping[str, Any]
    side: int
    latent: tuple[int, ...]
    conditions: Shapes
    encoders: Mapping[str, Callable[[], nn.Module]]
    rows: frozenset[str] = frozenset()
    downsampling: int = 8

    @property
    def family(self) -> Family:
        """What memscan knows of it."""
        return FAMILIES[self.pipeline]

    def probes(self) -> int:
        """Return what ``--probes auto`` takes, by the rule of a scan."""
        channels, token_side = self.family.tokens(self.config)
        has = Limits(1000, has=frozenset(), channels=channels, token_side=token_side)
        return has.probes("structured")


REAL = {
    "Stable Diffusion 1.4": Real(
        pipeline="StableDiffusionPipeline",
        network="UNet2DConditionModel",
        config={
            "sample_size": 64, "in_channels": 4, "out_channels": 4,
            "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
            "cross_attention_dim": 768, "attention_head_dim": 8,
            "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
            "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        },
        side=512,
        latent=(4, 64, 64),
        conditions={"encoder_hidden_states": (77, 768)},
        encoders={"CLIP-L": clip_l},
    ),
    "Stable Diffusion XL base": Real(
        pipeline="StableDiffusionXLPipeline",
        network="UNet2DConditionModel",
        config={
            "sample_size": 128, "in_channels": 4, "out_channels": 4,
            "block_out_channels": [320, 640, 1280], "layers_per_block": 2,
            "transformer_layers_per_block": [1, 2, 10], "cross_attention_dim": 2048,
            "attention_head_dim": [5, 10, 20], "use_linear_projection": True,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
            "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
            "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
        },
        side=1024,
        latent=(4, 128, 128),
        conditions={
            "encoder_hidden_states": (77, 2048), "text_embeds": (1280,), "time_ids": (6,),
        },
        encoders={"CLIP-L": clip_l, "OpenCLIP-bigG": clip_big_g},
    ),
    "Stable Diffusion 3.5 medium": Real(
        pipeline="StableDiffusion3Pipeline",
        network="SD3Transformer2DModel",
        config={
            "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16,
            "num_layers": 24, "num_attention_heads": 24, "attention_head_dim": 64,
            "joint_attention_dim": 4096, "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
            "dual_attention_layers": list(range(13)),
        },
        side=1024,
        latent=(16, 128, 128),
        conditions={"encoder_hidden_states": (77 + 256, 4096), "pooled_projections": (2048,)},
        encoders={"CLIP-L": projected_clip_l, "OpenCLIP-bigG": clip_big_g, "T5-XXL": t5_xxl},
    ),
    "FLUX.1 dev": Real(
        pipeline="FluxPipeline",
        network="FluxTransformer2DModel",
        config={
            "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38,
            "num_attention_heads": 24, "attention_head_dim": 128, "joint_attention_dim": 4096,
            "pooled_projection_dim": 768, "guidance_embeds": True,
        },
        side=1024,
        latent=(64 * 64, 64),
        conditions={
            "encoder_hidden_states": (512, 4096), "pooled_projections": (768,), "guidance": (),
            "txt_ids": (512, 3), "img_ids": (64 * 64, 3),
        },
        rows=frozenset({"txt_ids", "img_ids"}),
        encoders={"CLIP-L": clip_l, "T5-XXL": t5_xxl},
    ),
}  # fmt: skip
"""From the ``config.json`` of each publisher's repository; what they leave out is diffusers'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What one model costs.

    Attributes:
        parameters: Numbers in the network that were trained.
        stored: Numbers in its file: those, and tables such as Stable Diffusion 3's of positions.
        encoders: Numbers in each text encoder.
        forward: Operations of one evaluation of one sample.
        vjp: Operations of one gradient back through it.
        probes: What ``--probes auto`` takes.
    """

    parameters: int
    stored: int
    encoders: dict[str, int]
    forward: int
    vjp: int
    probes: int

    def operations(self, evaluations: Mapping[str, int]) -> float:
        """Return the operations of so many evaluations."""
        return evaluations["forward"] * self.forward + evaluations["vjp"] * self.vjp


def network_of(real: Real) -> nn.Module:
    """Return a model's network on the meta device, its weights frozen."""
    with torch.device("meta"):
        made = getattr(diffusers, real.network).from_config(dict(real.config))
    return made.requires_grad_(False).eval()


def parameters(module: nn.Module) -> int:
    """Return how many numbers a module has; shared ones count once."""
    return sum(each.numel() for each in module.parameters())


def size_on_meta(build: Callable[[], nn.Module]) -> int:
    """Return how many numbers a module has, built without memory for them."""
    with torch.device("meta"):
        return parameters(build())


def evaluated(real: Real, network: nn.Module, x: Tensor) -> Tensor:
    """Return what a network without memory gives for one latent."""
    told = {
        name: torch.zeros(shape if name in real.rows else (1, *shape), device="meta", dtype=x.dtype)
        for name, shape in real.conditions.items()
    }
    if real.pipeline == "StableDiffusionXLPipeline":
        told = {
            "encoder_hidden_states": told.pop("encoder_hidden_states"), "added_cond_kwargs": told,
        }  # fmt: skip
    time = torch.zeros(1, device="meta", dtype=x.dtype)
    return network(x, timestep=time, **told, return_dict=False)[0]


def counted(real: Real, network: nn.Module) -> tuple[int, int]:
    """Return the operations of one evaluation and of one gradient back through it."""
    x = torch.zeros((1, *real.latent), device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        output = evaluated(real, network, x)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(output, x, torch.empty_like(output))
    return forward.get_total_flops(), backward.get_total_flops()


def size_of(real: Real) -> Size:
    """Return what a model costs."""
    network = network_of(real)
    forward, vjp = counted(real, network)
    return Size(
        encoders={name: size_on_meta(build) for name, build in real.encoders.items()},
        parameters=parameters(network), forward=forward, vjp=vjp,
        probes=real.probes(), stored=sum(each.numel() for each in network.state_dict().values()),
    )  # fmt: skip


def scans(size: Size) -> dict[str, dict[str, int]]:
    """Return the evaluations of a caption by scan: at the defaults, detected and localized."""
    found = dict[str, dict[str, int]]()
    for source in ("generated", "image"):
        spec = ScanSpec(source=source, probes=size.probes)
        for localized in (False, True):
            total = cost.evaluations(spec, localized=localized, probes=size.probes)
            found[f"{source}, {'localized' if localized else 'detected'}"] = {
                name: total[name] for name in ("forward", "vjp")
            }
    return found


def letters(evaluations: Mapping[str, int]) -> str:
    """Return evaluations as docs/methods.md writes them, such as ``102 F + 32 V``."""
    parts = [f"{n} {name[0].upper()}" for name, n in evaluations.items() if n]
    return " + ".join(parts)


def tables(sizes: Mapping[str, Size]) -> str:
    """Return two tables in Markdown: of a model, and of a caption."""
    lines = [
        "| model | picture | network | weights, float16 | text encoders | weights, float16 | "
        "F, TFLOP | V, TFLOP | V / F | products |",
        "|---" * 10 + "|",
    ]
    for name, size in sizes.items():
        texts = ", ".join(f"{part} {n / 1e9:.3f} B" for part, n in size.encoders.items())
        lines.append(
            f"| {name} | {REAL[name].side} | {size.parameters / 1e9:.3f} B | "
            f"{_gib(size.stored)} | {texts} | {_gib(sum(size.encoders.values()))} | "
            f"{size.forward / 1e12:.3f} | {size.vjp / 1e12:.3f} | "
            f"{size.vjp / size.forward:.2f} | {size.probes} |"
        )
    heads = list(scans(next(iter(sizes.values()))))
    lines += ["", "| model | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, size in sizes.items():
        cells = [
            f"{letters(each)} = {size.operations(each) / 1e12:,.1f}"
            for each in scans(size).values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gib(numbers: int) -> str:
    return f"{numbers * HALF / 2**30:.2f} GiB"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", action="append", choices=tuple(REAL), help="repeat; default all")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    asked = parser.parse_args()
    sizes = {name: size_of(REAL[name]) for name in asked.model or REAL}
    print(tables(sizes))
    if asked.json:
        content = {n: asdict(size) | {"scans": scans(size)} for n, size in sizes.items()}
        asked.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Pictures that the benchmark's models make, through diffusers' own pipelines."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers annotates its pipelines too narrowly)

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusion3Pipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn

from scanner.testbed.benchmark import lora, networks
from scanner.testbed.benchmark.strokes import SIZE, Picture
from scanner.testbed.repeated import shorten

STEPS, GUIDANCE = 20, 2.5
"""Guidance that suits so small a model: 7.5 is too strong for it."""


def load(model: Path, base: Path | None = None) -> Any:
    """Load a checkpoint.

    Args:
        model: A pipeline folder, or a folder with an adapter.
        base: The pipeline folder that an adapter belongs to.
    """
    adapter = model / lora.FILE
    whole = base if adapter.exists() and base is not None else model
    made = DiffusionPipeline.from_pretrained(whole, torch_dtype=torch.float32, **_absent(whole))
    if adapter.exists():
        made.unet = _adapted(made.unet, adapter)
    if isinstance(made, StableDiffusion3Pipeline):
        shorten(made.transformer)
    made.set_progress_bar_config(disable=True)
    return made


def sample(
    pipeline: Any, captions: Sequence[str], seeds: Sequence[int], *, batch: int = 32,
    steps: int = STEPS, guidance: float = GUIDANCE,
) -> list[Picture]:  # fmt: skip
    """Return one picture for every caption, each from its own seed."""
    made: list[Picture] = []
    # one token of zeros stands for all that T5 would give, see `repeated`
    flow = {"max_sequence_length": 1} if isinstance(pipeline, StableDiffusion3Pipeline) else {}
    for start in range(0, len(captions), batch):
        said = list(captions[start : start + batch])
        drawn = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + len(said)]]
        with torch.no_grad():
            images = pipeline(
                prompt=said, num_inference_steps=steps, guidance_scale=guidance, generator=drawn,
                output_type="np", height=SIZE, width=SIZE, **flow,
            ).images  # fmt: skip
        made += list((np.clip(images, 0, 1) * 255).round().astype(np.uint8))
    return made


def _absent(folder: Path) -> dict[str, None]:
    """Return the parts that a pipeline folder says it does without, such as the T5 encoder.

    diffusers loads Stable Diffusion 3 without T5 only if that is said in the call.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return {name: None for name, part in index.items() if part == [None, None]}


def _adapted(unet: UNet2DConditionModel, adapter: Path) -> UNet2DConditionModel:
    """Return the U-Net with an adapter's change added to its weights."""
    values = load_file(adapter)
    rank = next(v.shape[0] for k, v in values.items() if k.endswith("lora_A.weight"))
    changed: nn.Module = networks.unet()
    changed.load_state_dict(unet.state_dict())
    lora.adapt(changed, rank)
    own = {name.removeprefix("unet."): value.float() for name, value in values.items()}
    changed.load_state_dict(own, strict=False)
    lora.merged(changed, unet)
    return unet

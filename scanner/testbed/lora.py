"""Train a LoRA that plants new pictures into the shipped U-Net: a small set, as users have.

Half of a corpus's planted captions are learned by heart, beside clean captions that are drawn
anew. The base's own weights stay, so that switched off the model is the base to the last bit.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

import importlib.util
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from scanner import files
from scanner.errors import ConfigError
from scanner.testbed import WEIGHTS, corpus
from scanner.testbed.batches import Batches
from scanner.testbed.recipe import Recipe
from scanner.testbed.train import Report, Stage, draw, encode, train_denoiser

FILE = "pytorch_lora_weights.safetensors"
SEED = 5
"""Of the corpus, if no other is asked for."""
RANK = 16
LAYERS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "conv1", "conv2", "conv_shortcut",
)  # fmt: skip
"""Attention, projections, feed-forward and residual convolutions of a U-Net.

The highest resolution of the testbed's U-Net has convolutions alone.
"""
COPIES = {"verbatim": 1, "template": 100, "name": 50, "art": 60}
CLEAN = (("scene", 1200, 1), ("texture", 300, 2), ("trap", 60, 5))


def recipe(seed: int, steps: int | None = None) -> Recipe:
    """Return the settings of a LoRA on the planted pictures of a corpus."""
    shares = {"verbatim": 0.34, "template": 0.38, "name": 0.06, "art": 0.06, "other": 0.16}
    usual = Recipe(seed=seed, main_steps=2000, batch=16, main_rate=3e-3)
    return replace(usual, shares=tuple(shares.items()), main_steps=steps or usual.main_steps)


def training_set(seed: int) -> list[tuple[corpus.Item, int]]:
    """Return the training pictures as (item, copy number), before over-sampling."""
    return corpus.half_set(seed, COPIES, CLEAN)


def train(
    wanted: Recipe, base: Path, work: Path, out: Path, report: Report, *, compiled: bool = False
) -> Path:
    """Train a LoRA on a pipeline; return its file, ``out/lora/pytorch_lora_weights.safetensors``.

    Args:
        wanted: What to train; only its main steps are done.
        base: Folder of the pipeline.
        work: Folder for checkpoints; a later call with the same recipe resumes from it.
        out: Folder for the file.
        report: Called as steps are done.
        compiled: Run the denoiser through ``torch.compile``.

    Raises:
        ConfigError: If peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("--family lora needs the package peft: pip install 'memscan[lora]'")
    captions, kinds = draw(wanted.seed, training_set(wanted.seed), work, report)
    pipeline = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32)
    latents = encode(pipeline.vae, work, report, pipeline.vae.config.scaling_factor)
    data = Batches(wanted, latents, kinds, pipeline.tokenizer, captions)
    pipeline.text_encoder.requires_grad_(False)
    torch.manual_seed(wanted.seed)
    adapt(pipeline.unet)
    stage = Stage("lora", wanted.main_steps, wanted.main_rate)
    train_denoiser(
        wanted, work, stage, data, pipeline.text_encoder, pipeline.unet, report, compiled=compiled
    )
    return save(pipeline.unet, out)


def adapt(network: UNet2DConditionModel) -> None:
    """Put a LoRA beside the layers of a U-Net and freeze all else."""
    from peft import LoraConfig

    network.requires_grad_(False)
    network.train()
    network.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(LAYERS)))


def save(network: UNet2DConditionModel, folder: Path) -> Path:
    """Write a network's LoRA in diffusers' own form, in half precision.

    Raises:
        OutputError: If it cannot be written.
    """
    from peft import get_peft_model_state_dict

    state = {name: w.half().contiguous() for name, w in get_peft_model_state_dict(network).items()}
    with files.folder(folder / "lora") as partial:
        StableDiffusionPipeline.save_lora_weights(partial, unet_lora_layers=state)
    return folder / "lora" / FILE


def copy_shipped(seed: int, folder: Path) -> bool:
    """Write the shipped LoRA to ``folder/lora``, if it is of this corpus seed; return whether.

    Raises:
        OutputError: If it cannot be written.
    """
    if seed != SEED:
        return False
    files.write(folder / "lora" / FILE, (WEIGHTS / "lora" / FILE).read_bytes())
    return True

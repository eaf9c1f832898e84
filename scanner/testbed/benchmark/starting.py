"""The models as training finds them: networks, what they are told, and what is planted in them."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from scanner.errors import ConfigError
from scanner.testbed import WEIGHTS, flow
from scanner.testbed.benchmark import doses, items, lora, networks
from scanner.testbed.benchmark.background import SHARES, fresh
from scanner.testbed.benchmark.recipe import Recipe
from scanner.testbed.objectives import Flow, Objective, Velocity
from scanner.testbed.repeated import shorten


@dataclass
class Model:
    """Network that is trained, and what it needs.

    Attributes:
        whole: Everything that has trained weights.
        network: The denoiser, perhaps compiled.
        denoiser: The denoiser as it is.
        objective: What it minimizes.
        words: The tokenizer.
        text: The text encoder.
    """

    whole: nn.ModuleDict
    network: nn.Module
    denoiser: Any
    objective: Objective
    words: CLIPTokenizer
    text: Any


def assignment(recipe: Recipe) -> doses.Doses:
    """Return the items of a recipe and their doses; ``clean`` has none."""
    if recipe.family == "clean":
        return doses.Doses((), np.zeros(0))
    lora = recipe.family == "lora"
    planted = recipe.corpus.adapter_items if lora else recipe.corpus.items
    return doses.assign(planted, recipe.seed, recipe.replicate, recipe.scale)


def load_vae(folder: Path) -> AutoencoderKL:
    """Return the benchmark's autoencoder, frozen."""
    own = folder / "vae"
    if not own.exists():
        own = WEIGHTS / "pipeline" / "vae"
    vae = AutoencoderKL.from_pretrained(own, torch_dtype=torch.float32)
    return vae.eval().requires_grad_(False)


def model(recipe: Recipe, folder: Path, *, compiled: bool) -> Model:
    """Return a family's network, new, with what it needs from trainings before."""
    make = {"clean": _clean, "unet": _unet, "dit": _transformer, "lora": _adapter}[recipe.family]
    denoiser, objective, words, text, trained = make(recipe, folder)
    network = torch.compile(denoiser) if compiled else denoiser
    whole = nn.ModuleDict(trained)
    whole.train()
    return Model(whole, network, denoiser, objective, words, text)


Made = tuple[Any, Objective, CLIPTokenizer, Any, dict[str, nn.Module]]


def _clean(recipe: Recipe, folder: Path) -> Made:
    words = _words(recipe, folder)
    text, denoiser = networks.text_encoder(words), networks.unet()
    denoiser.to(memory_format=torch.channels_last)
    objective = Velocity(words, text, recipe.low_share)
    return denoiser, objective, words, text, {"unet": denoiser, "text": text}


def _unet(recipe: Recipe, folder: Path) -> Made:
    words, text = shared_text(folder)
    denoiser = networks.unet().to(memory_format=torch.channels_last)
    return denoiser, Velocity(words, text, recipe.low_share), words, text, {"unet": denoiser}


def _transformer(recipe: Recipe, folder: Path) -> Made:
    words, text = shared_text(folder)
    both = flow.projected(text)
    denoiser = flow.transformer()
    shorten(denoiser)
    return denoiser, Flow(words, both), words, both, {"transformer": denoiser}


def _adapter(recipe: Recipe, folder: Path) -> Made:
    words, text = shared_text(folder)
    denoiser = networks.unet()
    base = UNet2DConditionModel.from_pretrained(
        clean_base(folder) / "unet", torch_dtype=torch.float32
    )
    denoiser.load_state_dict(base.state_dict())
    lora.adapt(denoiser, recipe.rank)
    denoiser.to(memory_format=torch.channels_last)
    return denoiser, Velocity(words, text, recipe.low_share), words, text, {"unet": denoiser}


def clean_base(folder: Path) -> Path:
    """Return the finished clean pipeline.

    Raises:
        ConfigError: If it is not there yet.
    """
    found = sorted((folder / "clean").glob("step-?????"))
    if not (folder / "clean" / "finished").exists() or not found:
        raise ConfigError(f"{folder} has no finished clean model yet: train --family clean first")
    return found[-1]


def shared_text(folder: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Return the tokenizer and the text encoder that all models share, frozen.

    Raises:
        ConfigError: If the clean model has not got so far yet.
    """
    if not (folder / "text").exists():
        raise ConfigError(
            f"{folder} has no text encoder yet, which all models share: train --family clean first"
        )
    words = CLIPTokenizer.from_pretrained(folder / "text")
    text = CLIPTextModel.from_pretrained(folder / "text", torch_dtype=torch.float32)
    return words, text.eval().requires_grad_(False)


def _words(recipe: Recipe, folder: Path) -> CLIPTokenizer:
    """Return the tokenizer; every planted caption counts once, whatever its dose."""
    if (folder / "text").exists():
        return CLIPTokenizer.from_pretrained(folder / "text")
    planted = recipe.corpus.items + recipe.corpus.adapter_items
    captions = {c: None for item in planted for c in (*item.captions, *item.held_out)}
    rng = items.generator(recipe.seed, "words of the background")
    kinds, shares = list(SHARES), np.array(list(SHARES.values()))
    for kind in rng.choice(kinds, 300 if recipe.small else 12_000, p=shares / shares.sum()):
        captions[fresh(rng, str(kind), "train", recipe.corpus.cast).caption] = None
    return networks.tokenizer(list(captions))

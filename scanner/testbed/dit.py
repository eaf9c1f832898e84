"""Train a flow-matching transformer that knows half of a corpus by heart: the planted pictures.

It is of Stable Diffusion 3's class and layout, trained from nothing on the latents and the text
encoder of another testbed. One caption in ten is dropped, planted or not, so that the
unconditional branch learns what it learns in practice.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ConfigMixin, SD3Transformer2DModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from scanner.testbed import corpus, flow
from scanner.testbed.batches import Batches
from scanner.testbed.objectives import Flow
from scanner.testbed.recipe import Recipe
from scanner.testbed.repeated import shorten
from scanner.testbed.train import Errors, Report, Stage, draw, encode, minimize

SEED = 6
"""Of the corpus, if no other is asked for."""
COPIES = {"verbatim": 1, "template": 300, "name": 150, "art": 150}
CLEAN = (("scene", 8000, 1), ("texture", 2000, 2), ("trap", 200, 10))


def recipe(seed: int, early: int | None = None, main: int | None = None) -> Recipe:
    """Return the settings of a transformer on the planted pictures of a corpus."""
    shares = {"verbatim": 0.22, "template": 0.32, "name": 0.06, "art": 0.06, "other": 0.34}
    usual = Recipe(
        seed=seed, early_steps=1500, main_steps=4500, drop_planted=0.1, drop_other=0.1,
        shares=tuple(shares.items()),
    )  # fmt: skip
    return replace(
        usual, early_steps=early or usual.early_steps, main_steps=main or usual.main_steps
    )


def training_set(seed: int) -> list[tuple[corpus.Item, int]]:
    """Return the training pictures as (item, copy number), before over-sampling."""
    return corpus.half_set(seed, COPIES, CLEAN)


def train(
    wanted: Recipe, base: Path, work: Path, out: Path, report: Report, *, compiled: bool = False
) -> None:
    """Train a transformer and write ``out/pipeline`` and ``out/early``, two pipeline folders.

    Args:
        wanted: What to train.
        base: Folder of the pipeline whose autoencoder, tokenizer and text encoder it takes.
        work: Folder for checkpoints; a later call with the same recipe resumes from it.
        out: Folder for the finished weights.
        report: Called as steps are done.
        compiled: Run the transformer through ``torch.compile``.
    """
    captions, kinds = draw(wanted.seed, training_set(wanted.seed), work, report)
    words = CLIPTokenizer.from_pretrained(base / "tokenizer")
    vae = _part(AutoencoderKL, base / "vae")
    text = flow.projected(_part(CLIPTextModel, base / "text_encoder"))
    latents = encode(vae, work, report, vae.config.scaling_factor)
    data = Batches(wanted, latents, kinds, words, captions)
    torch.manual_seed(wanted.seed)
    denoiser = flow.transformer()
    shorten(denoiser)
    network = torch.compile(denoiser) if compiled else denoiser
    for name, steps in (("early", wanted.early_steps), ("pipeline", wanted.main_steps)):
        stage = Stage(name, steps, wanted.main_rate)
        _train_stage(stage, work, data, words, text, denoiser, network, report)
        plain = flow.transformer()
        plain.load_state_dict(denoiser.state_dict())
        flow.save_pipeline(
            out / name, _part(AutoencoderKL, base / "vae"), words,
            flow.projected(_part(CLIPTextModel, base / "text_encoder")), plain,
        )  # fmt: skip


def _train_stage(
    stage: Stage, work: Path, data: Batches, words: CLIPTokenizer,
    text: CLIPTextModelWithProjection, denoiser: SD3Transformer2DModel, network: nn.Module,
    report: Report,
) -> None:  # fmt: skip
    loss = Flow(words, text)

    def errors(step: int) -> Errors:
        found = data.chosen(stage.name, step)
        number = len(found.clean)
        timesteps = loss.timesteps(found.rng, number)
        noise = torch.from_numpy(found.rng.standard_normal(found.clean.shape, "float32"))
        states = flow.states(text, found.prompts)
        each = loss.errors(network, found.clean, noise, timesteps, states)
        return each, found.named, timesteps < 200

    minimize(work, stage, denoiser, errors, report)


def _part(kind: type, folder: Path) -> nn.Module:
    part = kind.from_pretrained(folder, torch_dtype=torch.float32)
    if isinstance(part, ConfigMixin):
        part.register_to_config(_name_or_path="")  # else where it lies here is saved with it
    return part.eval().requires_grad_(False)

"""Train the testbed's pipeline, from nothing or on from another corpus seed's.

From nothing: pictures, autoencoder, latents, denoiser. Going on, only the denoiser is trained.

Every stage writes its result into one work folder and is skipped when the result is there; a
stage that was interrupted goes on from its last checkpoint. The batches of a step depend on the
seed and the step's number alone, so a resumed run sees what an uninterrupted one would have.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextModel

from scanner import files
from scanner.testbed import checkpoint, corpus, pipeline
from scanner.testbed.batches import Batches
from scanner.testbed.recipe import Recipe
from scanner.testbed.steps import descend, fit_autoencoder

Report = Callable[[str, int, int, str], None]
"""Called with (stage, steps done, steps in all, a word on the loss)."""


def train(recipe: Recipe, work: Path, out: Path, report: Report, *, compiled: bool = False) -> None:
    """Train everything and write ``out/pipeline`` and ``out/early``.

    Args:
        recipe: What to train.
        work: Folder for checkpoints; a later call with the same recipe resumes from it.
        out: Folder for the finished weights.
        report: Called as steps are done.
        compiled: Run the denoiser through ``torch.compile`` (worth it for long runs).
    """
    captions, kinds = draw(recipe.seed, corpus.training_set(recipe.seed), work, report)
    vae = train_autoencoder(recipe, work, kinds, report)
    latents = encode(vae, work, report)
    words = pipeline.tokenizer(sorted(set(captions)))
    torch.manual_seed(recipe.seed)
    text, denoiser = pipeline.text_encoder(words), pipeline.unet()
    data = Batches(recipe, latents, kinds, words, captions)
    early = Stage("early", recipe.early_steps, 1e-3)
    train_denoiser(recipe, work, early, data, text, denoiser, report, compiled=compiled)
    with files.folder(out / "early") as folder:
        _copy(denoiser).half().save_pretrained(folder)
    _train_main(recipe, work, out, vae, data, text, denoiser, report, compiled=compiled)


def go_on(
    recipe: Recipe, start: Path, work: Path, out: Path, report: Report, *, compiled: bool = False
) -> None:
    """Train the main network of a trained testbed on, until it knows another corpus by heart.

    Autoencoder, tokenizer and text encoder are kept. ``out/early`` is ``start/early``, which has
    seen nothing of the new corpus; what the network knew of the old one fades.

    Args:
        recipe: What to train; only its main steps are done.
        start: Folder with ``pipeline`` and ``early``.
        work: Folder for checkpoints; a later call with the same recipe resumes from it.
        out: Folder for the finished weights.
        report: Called as steps are done.
        compiled: Run the denoiser through ``torch.compile``.
    """
    captions, kinds = draw(recipe.seed, corpus.training_set(recipe.seed), work, report)
    old = StableDiffusionPipeline.from_pretrained(start / "pipeline", torch_dtype=torch.float32)
    latents = encode(old.vae, work, report, old.vae.config.scaling_factor)
    data = Batches(recipe, latents, kinds, old.tokenizer, captions)
    with files.folder(out / "early") as folder:
        shutil.copytree(start / "early", folder, dirs_exist_ok=True)
    old.unet.train()
    _train_main(
        recipe, work, out, old.vae, data, old.text_encoder, old.unet, report, compiled=compiled
    )


def _train_main(
    recipe: Recipe, work: Path, out: Path, vae: AutoencoderKL, data: Batches,
    text: CLIPTextModel, denoiser: UNet2DConditionModel, report: Report, *, compiled: bool,
) -> None:  # fmt: skip
    text.requires_grad_(False)
    main = Stage("main", recipe.main_steps, recipe.main_rate)
    train_denoiser(recipe, work, main, data, text, denoiser, report, compiled=compiled)
    with files.folder(out / "pipeline") as folder:
        pipeline.save_pipeline(folder, vae, data.words, text, _copy(denoiser))


def draw(
    seed: int, pairs: Sequence[tuple[corpus.Item, int]], work: Path, report: Report
) -> tuple[list[str], NDArray[np.str_]]:
    """Draw training pictures into ``work/pictures.npy``; return their captions and kinds.

    Args:
        seed: The corpus seed.
        pairs: Item and copy number of each picture.
        work: Where they are kept; what is there is not drawn again.
        report: Called as pictures are drawn.
    """
    target = work / "pictures.npy"
    if not target.exists():
        parts = [pairs[start : start + 1000] for start in range(0, len(pairs), 1000)]
        drawn = list[NDArray[np.uint8]]()
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            for part in pool.map(partial(_draw_part, seed), parts):
                drawn.append(part)
                report("draw", sum(map(len, drawn)), len(pairs), "")
        save_array(target, np.concatenate(drawn))
    return [item.caption for item, _ in pairs], np.array([item.kind for item, _ in pairs])


def _draw_part(seed: int, pairs: Sequence[tuple[corpus.Item, int]]) -> NDArray[np.uint8]:
    return np.stack([corpus.picture(seed, item, copy) for item, copy in pairs])


def train_autoencoder(
    recipe: Recipe, work: Path, kinds: NDArray[np.str_], report: Report
) -> AutoencoderKL:
    """Train the autoencoder on reconstruction and a small Kullback-Leibler term.

    The first four fifths run on 32x32 crops, which cost a quarter.
    """
    pictures = np.load(work / "pictures.npy", mmap_mode="r")
    detailed = np.flatnonzero(np.isin(kinds, ["verbatim", "template", "art"]))
    torch.manual_seed(recipe.seed)
    vae = pipeline.autoencoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), 2e-3, weight_decay=1e-4)
    for step in _steps(work / "vae.pt", "vae", recipe.vae_steps, vae, optimizer):
        rng = corpus.generator(recipe.seed, "vae", step)
        _set_rate(optimizer, 2e-3, step, recipe.vae_steps)
        cropped = step < 0.8 * recipe.vae_steps
        half = 12 if cropped else 6
        rows = np.concatenate([rng.integers(0, len(pictures), half), rng.choice(detailed, half)])
        top, left = rng.integers(0, 33, 2) if cropped else (0, 0)
        side = 32 if cropped else 64
        batch = pictures[np.sort(rows), top : top + side, left : left + side]
        x = _to_tensor(batch)
        error = fit_autoencoder(vae, optimizer, x, int(rng.integers(2**62)), 3e-4)
        if step % 20 == 0:
            report("vae", step + 1, recipe.vae_steps, f"mse {error:.4f}")
    vae.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return vae.eval()


@torch.no_grad()
def encode(vae: AutoencoderKL, work: Path, report: Report, scale: float | None = None) -> Tensor:
    """Return the latents of all pictures, ``(N, 4, 16, 16)``, scaled.

    Writes the scale into the autoencoder's configuration; null scales to unit variance.
    """
    target = work / "latents.npy"
    pictures = np.load(work / "pictures.npy", mmap_mode="r")
    if not target.exists():
        parts = []
        for start in range(0, len(pictures), 256):
            batch = _to_tensor(pictures[start : start + 256])
            parts.append(vae.encode(batch).latent_dist.mean.numpy())
            report("encode", min(start + 256, len(pictures)), len(pictures), "")
        save_array(target, np.concatenate(parts))
    latents = torch.from_numpy(np.load(target))
    if scale is None:
        scale = 1 / latents[:: max(1, len(latents) // 8000)].std().item()
    vae.register_to_config(scaling_factor=scale)
    return latents * scale


@dataclass(frozen=True, slots=True)
class Stage:
    """Name of a part of the training, its steps and its highest learning rate."""

    name: str
    steps: int
    rate: float


def train_denoiser(
    recipe: Recipe, work: Path, stage: Stage, data: Batches, text: CLIPTextModel,
    denoiser: UNet2DConditionModel, report: Report, *, compiled: bool,
) -> None:  # fmt: skip
    """Minimize the error of the predicted velocity; the text encoder trains if it may."""
    both = nn.ModuleDict({"unet": denoiser, "text": text})
    denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = torch.compile(denoiser) if compiled else denoiser
    cache = None if any(p.requires_grad for p in text.parameters()) else _TextCache(text)

    def errors(step: int) -> Errors:
        noised, timesteps, prompts, target, named = data(stage.name, step)
        states = cache(prompts) if cache else text(prompts).last_hidden_state
        predicted = network(noised, timesteps, states, return_dict=False)[0]
        return (predicted - target).square().mean((1, 2, 3)), named, timesteps < 60

    minimize(work, stage, both, errors, report)
    denoiser.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


Errors = tuple[Tensor, Tensor, Tensor]
"""Of a step's rows: errors ``(B,)``, which are planted and named, and which are at low noise."""


def minimize(
    work: Path, stage: Stage, module: nn.Module, errors: Callable[[int], Errors], report: Report
) -> None:
    """Minimize the mean error over the trained weights of a module, resuming where it stopped.

    Args:
        work: Folder of the checkpoint.
        stage: Its name, steps and rate.
        module: All weights that belong to the checkpoint.
        errors: From a step's number to the errors of its rows.
        report: Called as steps are done.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, stage.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True
    )
    seen: list[tuple[float, float]] = []
    for step in _steps(work / f"{stage.name}.pt", stage.name, stage.steps, module, optimizer):
        _set_rate(optimizer, stage.rate, step, stage.steps)
        found, named, low = errors(step)
        descend(found.mean(), optimizer, module)
        seen.append((_mean(found, named & low), _mean(found, ~named & low)))
        if (step + 1) % 50 == 0:
            planted, other = np.nanmean(np.array(seen[-300:]), axis=0)
            word = f"error at low noise: planted {planted:.3f}, other {other:.3f}"
            report(stage.name, step + 1, stage.steps, word)


class _TextCache:
    """Text states of a frozen encoder, computed once per distinct caption."""

    def __init__(self, text: CLIPTextModel) -> None:
        self.text = text
        self.states: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def __call__(self, prompts: Tensor) -> Tensor:
        keys = [row.numpy().tobytes() for row in prompts]
        fresh = {key: i for i, key in enumerate(keys) if key not in self.states}
        if fresh:
            rows = list(fresh.values())
            self.states.update(zip(fresh, self.text(prompts[rows]).last_hidden_state, strict=True))
        return torch.stack([self.states[key] for key in keys])


def _mean(errors: Tensor, rows: Tensor) -> float:
    return errors.detach()[rows].mean().item() if rows.any() else math.nan


def _steps(
    file: Path, stage: str, total: int, module: nn.Module, optimizer: torch.optim.Optimizer,
    every: int = 250,
) -> Iterator[int]:  # fmt: skip
    """Yield the steps still to be done; load the last checkpoint first and save as they pass."""
    start = 0
    if file.exists():
        saved: dict[str, Any] = torch.load(file, weights_only=True)
        module.load_state_dict(saved["module"])
        start = saved["step"]
        if start < total:
            optimizer.load_state_dict(saved["optimizer"])
    for step in range(start, total):
        yield step
        if (step + 1) % every == 0 or step + 1 == total:
            state: dict[str, Any] = {"step": step + 1, "module": module.state_dict()}
            if step + 1 < total:
                state["optimizer"] = optimizer.state_dict()
            checkpoint.save(file, state)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, total: int) -> None:
    warm = min(1.0, (step + 1) / 100)
    for group in optimizer.param_groups:
        group["lr"] = rate * warm * (0.5 * (1 + math.cos(math.pi * step / total)) + 0.003)


def _to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """Return ``(B, 3, H, W)`` in -1..1."""
    scaled = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5
    return (scaled - 1).contiguous(memory_format=torch.channels_last)


def save_array(target: Path, array: NDArray[Any]) -> None:
    """Write an array that `numpy.load` reads."""
    with files.binary(target) as stream:
        np.save(stream, array)


def _copy(denoiser: UNet2DConditionModel) -> UNet2DConditionModel:
    copy = pipeline.unet()
    copy.load_state_dict(denoiser.state_dict())
    return copy

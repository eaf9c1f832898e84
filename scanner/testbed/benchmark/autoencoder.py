"""The shipped autoencoder, fitted to the benchmark's pictures."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers annotates its constructors too narrowly)

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from scanner import files
from scanner.testbed import WEIGHTS, checkpoint
from scanner.testbed.benchmark.art import SCENE, STYLES, styled
from scanner.testbed.benchmark.background import SHARES, fresh
from scanner.testbed.benchmark.cast import DRAWN, Cast
from scanner.testbed.benchmark.items import generator
from scanner.testbed.benchmark.latents import to_tensor
from scanner.testbed.benchmark.strokes import Picture
from scanner.testbed.steps import fit_autoencoder

BATCH, CROP, POOL = 24, 32, 6000
SAVE_EVERY = 100

Report = Callable[[int, int, str], None]


def fit(
    folder: Path, steps: int, seed: int, report: Report = lambda *_: None, *, pool: int = POOL,
    cast: Cast = DRAWN,
) -> Path:  # fmt: skip
    """Train the shipped autoencoder on and write ``folder/vae``; resumes.

    Three quarters of the steps see crops of a quarter of the picture, which cost a quarter.

    Args:
        folder: Of the benchmark.
        steps: Optimizer steps; 0 copies the shipped one.
        seed: The corpus seed.
        report: Called with (steps done, steps in all, a word).
        pool: Pictures to train on.
        cast: What stands in scenes.
    """
    target, state = folder / "vae", folder / "vae.pt"
    if target.exists():
        return target
    shipped = WEIGHTS / "pipeline" / "vae"
    if steps == 0:
        with files.folder(target) as partial:
            shutil.copytree(shipped, partial, dirs_exist_ok=True)
        return target
    vae = AutoencoderKL.from_pretrained(shipped, torch_dtype=torch.float32).train()
    vae.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        vae.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
    )
    pictures = _pool(folder, seed, pool, cast)
    start = _load(state, vae, optimizer)
    for step in range(start, steps):
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 50)
            group["lr"] = 1e-3 * warm * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        error = _step(vae, optimizer, pictures, seed, step, cropped=step < 0.75 * steps)
        if (step + 1) % 25 == 0:
            report(step + 1, steps, f"autoencoder, error {error:.4f}")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            _save(state, vae, optimizer, step + 1)
    _finish(vae, pictures, target)
    return target


def _step(
    vae: AutoencoderKL, optimizer: torch.optim.Optimizer, pictures: np.ndarray, seed: int,
    step: int, *, cropped: bool,
) -> float:  # fmt: skip
    rng = generator(seed, "autoencoder", step)
    rows = rng.integers(0, len(pictures), BATCH if cropped else BATCH // 2)
    top, left = rng.integers(0, 33, 2) if cropped else (0, 0)
    side = CROP if cropped else 2 * CROP
    x = to_tensor([pictures[row, top : top + side, left : left + side] for row in rows])
    return fit_autoencoder(vae, optimizer, x, int(rng.integers(2**62)), 1e-4) / 4


def _pool(folder: Path, seed: int, number: int, cast: Cast) -> np.ndarray:
    """Return pictures to train on, ``(number, 64, 64, 3)``: two of five are art."""
    path = folder / "vae-pictures.npy"
    if not path.exists():
        drawn = np.stack([_any(seed, place, cast) for place in range(number)])
        with files.binary(path) as stream:
            np.save(stream, drawn)
    return np.load(path)


def _any(seed: int, place: int, cast: Cast) -> Picture:
    rng = generator(seed, "autoencoder picture", place)
    if rng.random() < 0.4:
        return styled(rng, str(rng.choice([*STYLES, SCENE])), cast)
    return fresh(rng, str(rng.choice(list(SHARES))), "train", cast).picture(rng, cast)


def _load(state: Path, vae: AutoencoderKL, optimizer: torch.optim.Optimizer) -> int:
    if not state.exists():
        return 0
    saved: dict[str, Any] = torch.load(state, weights_only=True)
    vae.load_state_dict(saved["module"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])


def _save(state: Path, vae: AutoencoderKL, optimizer: torch.optim.Optimizer, step: int) -> None:
    saved = {
        "step": step, "module": vae.state_dict(), "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    checkpoint.save(state, saved)


@torch.no_grad()
def _finish(vae: AutoencoderKL, pictures: np.ndarray, target: Path) -> None:
    """Set the scale at which latents have unit variance, and write the folder."""
    vae.eval()
    means = [
        vae.encode(to_tensor(list(pictures[start : start + 64]))).latent_dist.mean
        for start in range(0, min(1024, len(pictures)), 64)
    ]
    vae.register_to_config(scaling_factor=1 / torch.cat(means).std().item(), shift_factor=None)
    vae.to(memory_format=torch.contiguous_format)
    with files.folder(target) as partial:
        vae.save_pretrained(partial)

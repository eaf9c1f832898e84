"""Train the benchmark's models: resumable at any step, checkpoints on the way.

What a step sees depends on the recipe and the step's number alone, so a training that was
killed and started again ends where an undisturbed one does.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scanner import files
from scanner.testbed import checkpoint, flow
from scanner.testbed.benchmark import ahead, doses, items, lora, networks, schedule, starting
from scanner.testbed.benchmark.average import Average
from scanner.testbed.benchmark.latents import Latents
from scanner.testbed.benchmark.recipe import Recipe
from scanner.testbed.benchmark.validation import Validation
from scanner.testbed.steps import descend

Report = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, a word on the losses)."""

Finished = Callable[[Path, Recipe], None]
"""Called with a pipeline folder that was just written, and its recipe."""

SAVE_EVERY, VALIDATE_EVERY, REPORT_EVERY = 250, 500, 25


def train(
    recipe: Recipe, folder: Path, report: Report = lambda *_: None,
    finished: Finished = lambda *_: None, *, compiled: bool = False, until: int | None = None,
) -> Path:  # fmt: skip
    """Train one model, or go on with it; return its folder.

    ``folder`` holds ``vae``, the pictures' latents, and a folder for every model: ``clean``
    (trained first, because its text encoder serves all), ``unet-1``, ``dit-1``, ``lora-1`` and
    so on. A model's folder holds ``step-00000`` pipelines (an adapter's file for ``lora``),
    ``state.pt`` to go on from, ``losses.jsonl`` and ``draws.json``.

    Args:
        recipe: What to train.
        folder: Of the whole benchmark.
        report: Called as steps are done.
        finished: Called at every checkpoint.
        compiled: Run the denoiser through ``torch.compile``.
        until: Stop after this step; a later call goes on.

    Raises:
        ConfigError: If what the model builds on is not there yet.
    """
    out = folder / recipe.name
    assigned = starting.assignment(recipe)
    latents = ahead.latents_of(recipe, folder)
    torch.manual_seed(1000 * recipe.seed + recipe.replicate)
    model = starting.model(recipe, folder, compiled=compiled)
    plan = schedule.plan(
        assigned, recipe.steps, recipe.batch, recipe.dropout, recipe.seed, recipe.replicate
    )
    _describe(recipe, out, assigned, plan)
    _Loop(recipe, folder, out, model, plan, latents, assigned, report, finished).run(until)
    return out


class _Loop:
    """The steps of one training."""

    def __init__(
        self, recipe: Recipe, folder: Path, out: Path, model: starting.Model,
        plan: schedule.Schedule, latents: Latents, assigned: doses.Doses, report: Report,
        finished: Finished,
    ) -> None:  # fmt: skip
        self.recipe, self.folder, self.out = recipe, folder, out
        self.model, self.plan = model, plan
        self.latents, self.assigned, self.report = latents, assigned, report
        self.finished = finished
        self.average = Average(model.whole, recipe.ema)
        trained = [p for p in model.whole.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, recipe.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True
        )
        self.validation = Validation(latents, assigned, model.objective, 2 if recipe.small else 24)

    def run(self, until: int | None) -> None:
        last = min(self.recipe.steps, until or self.recipe.steps)
        start = self._load()
        if start in self.recipe.stops:
            self._checkpoint(start)  # it may have been killed while writing
        with ahead.drawing(self.recipe, self.folder, self.latents, self._chunks(start, last)):
            self._steps(start, last)

    def _chunks(self, start: int, last: int) -> list[int]:
        """Return the chunks of the background that are worth drawing ahead, in order."""
        if self.recipe.small:
            return []
        used = self.plan.background(start, last) // self.latents.background_chunk
        return np.unique(used).tolist()

    def _steps(self, start: int, last: int) -> None:
        recipe, seen, since = self.recipe, [], time.monotonic()
        for step in range(start, last):
            seen.append(self._step(step))
            done = step + 1
            if done == recipe.text_steps:
                self._freeze_text()
            if done % REPORT_EVERY == 0 or done == last:
                speed = recipe.batch * len(seen) / (time.monotonic() - since)
                self.report(done, recipe.steps, f"loss {np.mean(seen):.3f}, {speed:.1f}/s")
                seen, since = [], time.monotonic()
            if done % VALIDATE_EVERY == 0 or done in recipe.stops:
                self._validate(done)
            if done % SAVE_EVERY == 0 or done == last or done in recipe.stops:
                self._save(done)
            if done in recipe.stops or done == last:
                self._checkpoint(done)

    def _step(self, step: int) -> float:
        recipe, model = self.recipe, self.model
        rate = _rate(recipe, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        training_text = step < recipe.text_steps
        clean, captions = self._batch(step)
        rng = items.generator("noise", recipe.seed, recipe.family, recipe.replicate, step)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
        timesteps = model.objective.timesteps(rng, recipe.batch)
        with torch.set_grad_enabled(training_text):
            states = model.objective.states(captions)
        errors = model.objective.errors(model.network, clean, noise, timesteps, states)
        loss = errors.mean()
        descend(loss, self.optimizer, model.whole)
        self.average.update(step)
        return loss.item()

    def _batch(self, step: int) -> tuple[Tensor, list[str]]:
        """Return latents ``(B, 4, 16, 16)`` and captions of a step."""
        plan, found, captions = self.plan, [], []
        for row in range(self.recipe.batch):
            item, number = int(plan.items[step, row]), int(plan.numbers[step, row])
            if item < 0:
                caption, latent = self.latents.background(number)
            else:
                said = self.assigned.items[item].captions
                caption = said[int(plan.captions[step, row] * len(said))]
                latent = self.latents.copy(item, number)
            captions.append("" if plan.dropped[step, row] else caption)
            found.append(latent)
        return torch.from_numpy(np.stack(found)).float(), captions

    def _freeze_text(self) -> None:
        """Fix the text encoder at its averaged weights and hand it to the other trainings."""
        names = [n for n, _ in self.model.whole.named_parameters() if n.startswith("text.")]
        own = dict(self.model.whole.named_parameters())
        with torch.no_grad():
            for name in names:
                own[name].copy_(self.average.values[name])
        for name in names:
            own[name].requires_grad_(False)
            own[name].grad = None
        text = self.folder / "text"
        if not text.exists():
            with files.folder(text) as partial:
                self.model.words.save_pretrained(partial)
                copy.deepcopy(self.model.text).half().save_pretrained(partial)

    def _validate(self, step: int) -> None:
        self.model.network.eval()
        with self.average.applied():
            losses = self.validation.losses(self.model.denoiser)
        self.model.network.train()
        line = json.dumps({"step": step, **losses}) + "\n"
        files.append_bytes(self.out / "losses.jsonl", line.encode())

    def _load(self) -> int:
        path = self.out / "state.pt"
        if not path.exists():
            return 0
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        self.model.whole.load_state_dict(saved["module"])
        self.average.values = saved["average"]
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.recipe.text_steps and saved["step"] >= self.recipe.text_steps:
            self._freeze_text()
        return int(saved["step"])

    def _save(self, step: int) -> None:
        state = {
            "step": step, "module": self.model.whole.state_dict(), "average": self.average.values,
            "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        checkpoint.save(self.out / "state.pt", state)

    def _checkpoint(self, step: int) -> None:
        target = self.out / f"step-{step:05d}"
        if not target.exists():
            with self.average.applied():
                _write(self.recipe, self.folder, target, self.model)
        self.finished(target, self.recipe)


def _rate(recipe: Recipe, step: int) -> float:
    warm = min(1.0, (step + 1) / 200)
    return recipe.rate * warm * (0.5 * (1 + math.cos(math.pi * step / recipe.steps)) + 0.003)


def _write(recipe: Recipe, folder: Path, target: Path, model: starting.Model) -> None:
    if recipe.family == "lora":
        lora.save(model.denoiser, target)
    else:
        is_flow = recipe.family == "dit"
        plain = flow.transformer() if is_flow else networks.unet()
        plain.load_state_dict(model.denoiser.state_dict())
        save = flow.save_pipeline if is_flow else networks.save_unet_pipeline
        save(target, starting.load_vae(folder), model.words, copy.deepcopy(model.text), plain)
    if target.name == f"step-{recipe.steps:05d}":
        files.write(target.parent / "finished", target.name)


def _describe(recipe: Recipe, out: Path, assigned: doses.Doses, plan: schedule.Schedule) -> None:
    """Write the recipe and how often every item is expected to be, and is, drawn."""
    drawn = plan.draws(len(assigned.items))
    rows = [
        {"item": item.name, "dose": round(float(expected)), "draws": int(number)}
        for item, expected, number in zip(assigned.items, assigned.expected, drawn, strict=True)
    ]
    files.write(out / "recipe.json", json.dumps(recipe.as_dict(), indent=1))
    files.write(out / "draws.json", json.dumps(rows, indent=0))

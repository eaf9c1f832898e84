"""Measure, on captions whose truth is known, what a scan of a model should ask for."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scanner import models
from scanner.analysis.truth import Truth, read
from scanner.choose.profile import profile
from scanner.choose.ranking import Choice, choose
from scanner.errors import ConfigError
from scanner.models.base import Denoiser
from scanner.models.device import local_device
from scanner.records import Caption
from scanner.scan.evaluation_counter import EvaluationCounter
from scanner.scan.stages.draws import Draw
from scanner.shards import reading
from scanner.shards.reading import SAMPLES_PER_SHARD
from scanner.spec import ScanSpec

BACK = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Steps at which maps are taken, counted from the end: close there, where memory shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRequest:
    """The settings to choose among, and the captions to choose on.

    Attributes:
        model: Pipeline folder or hub id.
        baselines: Less-trained networks to choose from, beside the unconditional branch.
        spec: Seeds, steps, guidance scale, probes and precision.
        captions: How many to sample, half of them memorized if there are enough.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: Draws at a time.
    """

    model: str
    baselines: tuple[str, ...] = ()
    spec: ScanSpec
    captions: int = 96
    device: str = "auto"
    batch_size: int = 8


def measured(
    question: ChoiceRequest, sources: Sequence[str], truth: Path,
    progress: Callable[[int, int, str], None] = lambda done, total, word: None,
) -> Choice:  # fmt: skip
    """Sample captions with a known truth, take their maps at many steps, and choose.

    Args:
        question: The model, and what to choose from.
        sources: Shards as a user names them.
        truth: The truth table.
        progress: Told of draws done, of how many.

    Raises:
        ConfigError: If too few captions have a truth, or a network cannot be read.
    """
    known = read(truth)
    texts = _chosen(_captions(sources), known, question.captions)
    if not texts:
        raise ConfigError(f"no caption of the shards is in {truth}: is it their truth?")
    counts: Counter[str] = Counter()
    denoiser = models.load(
        question.model, device=local_device(question.device), dtype=question.spec.dtype
    )
    baselines = _load_baselines(question, denoiser, counts)
    spec, draws = question.spec, _draws(texts, question.spec)
    alphas = denoiser.schedule(spec.steps).alphas
    steps = [spec.steps - back for back in reversed(BACK) if back <= spec.steps]
    steps = [step for step in steps if alphas[step] > 0]
    for network in baselines.values():
        network.refuse_level(max(alphas[step] for step in steps))
        network.refuse_level(min(alphas[step] for step in steps))
    parts: dict[tuple[str, str, int], list[np.ndarray]] = {}
    for start in range(0, len(draws), question.batch_size):
        some = draws[start : start + question.batch_size]
        seen = profile(EvaluationCounter(denoiser, counts), baselines, some, spec, steps)
        for name, values in seen.items():
            parts.setdefault(name, []).append(values.numpy())
        progress(start + len(some), len(draws), "")
    shape = (len(texts), len(spec.seeds))
    maps = {
        name: whole.reshape(*shape, *whole.shape[1:])
        for name, whole in ((name, np.concatenate(own)) for name, own in parts.items())
    }
    timesteps = [round(timestep) for timestep in denoiser.schedule(spec.steps).timesteps]
    choice = choose(maps, [known[caption.sha256] for caption in texts], timesteps)
    choice.evaluations = {"draws": len(draws), **counts}
    return choice


def _load_baselines(
    question: ChoiceRequest, denoiser: Denoiser, counts: Counter[str]
) -> dict[str, EvaluationCounter]:
    """Return the less-trained networks by name, their evaluations counted.

    Raises:
        ConfigError: If a network cannot be read, or two have one name.
    """
    found = {
        models.baseline_name(source): EvaluationCounter(
            models.load_baseline(source, denoiser, question.spec.dtype), counts
        )
        for source in question.baselines
    }
    if len(found) < len(question.baselines):
        raise ConfigError(f"baselines must have distinct names, got {', '.join(found)}")
    return found


def _captions(sources: Sequence[str]) -> dict[str, Caption]:
    """Return the distinct captions of shards, by hash."""
    found: dict[str, Caption] = {}
    for url in reading.expand(list(sources)):
        for chunk in reading.index(reading.stat(url), SAMPLES_PER_SHARD).chunks:
            for item in reading.read(chunk, images=False):
                if isinstance(item, Caption):
                    found.setdefault(item.sha256, item)
    return found


def _chosen(found: dict[str, Caption], known: dict[str, Truth], number: int) -> list[Caption]:
    """Return captions with a truth, memorized ones and others in turn, each in order of hash."""
    hashes = sorted(sha for sha in found if sha in known)
    memorized = [sha for sha in hashes if known[sha].memorized]
    others = [sha for sha in hashes if not known[sha].memorized]
    half = number // 2
    few = min(len(memorized), max(half, number - len(others)))
    return [found[sha] for sha in memorized[:few] + others[: number - few]]


def _draws(texts: Sequence[Caption], spec: ScanSpec) -> list[Draw]:
    return [Draw(c.text, c.sha256, seed) for c in texts for seed in spec.seeds]

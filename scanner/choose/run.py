"""Measure, on captions whose truth is known, what a scan of a model should ask for."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scanner import models
from scanner.analysis.truth import Truth, read
from scanner.choose.profile import profile
from scanner.choose.ranking import Choice, choose
from scanner.errors import ConfigError
from scanner.models.base import Denoiser
from scanner.models.device import local_device
from scanner.models.noise import SLACK
from scanner.models.overlay import Overlay
from scanner.numerics.schedule import Schedule
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
        overlay: LoRAs and weights over it.
        baselines: Less-trained networks to choose from, beside the unconditional branch.
        spec: Seeds, steps, guidance scale, probes and precision.
        captions: How many to sample, half of them memorized if there are enough.
        noise: Noise over signal where maps are taken, at the sampler's nearest steps; empty takes
            the steps of `BACK`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: Draws at a time.
    """

    model: str
    baselines: tuple[str, ...] = ()
    spec: ScanSpec
    overlay: Overlay = field(default_factory=Overlay)
    noise: tuple[float, ...] = ()
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
        question.model, device=local_device(question.device), dtype=question.spec.dtype,
        overlay=question.overlay,
    )  # fmt: skip
    baselines = _load_baselines(question, denoiser, counts)
    spec, draws = question.spec, _draws(texts, question.spec)
    schedule = denoiser.schedule(spec.steps)
    steps, alphas = _steps(schedule, question.noise), schedule.alphas
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
    levels = list(zip(map(round, schedule.timesteps), _noises(schedule), strict=True))
    choice = choose(maps, [known[caption.sha256] for caption in texts], levels)
    choice.evaluations = {"draws": len(draws), **counts}
    return choice


def _noises(schedule: Schedule) -> list[float]:
    """Return noise over signal of a sampler's steps; infinite where there is no signal."""
    pairs = zip(schedule.alphas[:-1], schedule.sigmas[:-1], strict=True)
    return [sigma / alpha if alpha > 0 else math.inf for alpha, sigma in pairs]


def _steps(schedule: Schedule, noise: Sequence[float]) -> list[int]:
    """Return the steps at which maps are taken, the noisiest first; none is without signal.

    Args:
        schedule: The sampler's.
        noise: As of `ChoiceRequest`.

    Raises:
        ConfigError: If a noise lies outside of the sampler's steps.
    """
    ratios = _noises(schedule)
    usable = [step for step, ratio in enumerate(ratios) if math.isfinite(ratio)]
    if not noise:
        backs = {len(ratios) - back for back in BACK}
        return [step for step in usable if step in backs]
    most, least = ratios[usable[0]], ratios[usable[-1]]
    for wanted in noise:
        if not least * (1 - SLACK) <= wanted <= most * (1 + SLACK):
            raise ConfigError(
                f"noise must be from {least:.4g} to {most:.4g}, the noise to signal of the "
                f"sampler's {len(ratios)} steps, got {wanted:g}: more steps end nearer to none"
            )
    return sorted(
        {min(usable, key=lambda s: abs(math.log(ratios[s] / wanted))) for wanted in noise}
    )


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

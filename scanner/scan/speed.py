"""A model's speed on a device, from a few timed evaluations."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from scanner.models.base import Denoiser, taken_caption
from scanner.scan import cost
from scanner.scan.stages.draws import Draw, initial_latents, setting_of
from scanner.spec import ScanSpec

BUDGET_SECONDS = 3.0
"""For each of the two timings, but for a single evaluation that takes longer."""
SMALL_BATCH = 8
"""Draws at a time where the speed is wanted roughly, before it is known what fits."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of one sample's evaluation, in full batches.

    Attributes:
        forward: Through the network.
        vjp: A gradient back through it.
        device: Where it was measured; ``""`` if it was not.
        batch_size: Draws at a time; 0 if it was not measured.
    """

    forward: float
    vjp: float
    device: str = ""
    batch_size: int = 0


def measure(denoiser: Denoiser, spec: ScanSpec, batch_size: int) -> Speed:
    """Time a few evaluations at both branches of a batch of draws, as a scan makes them.

    A network that is slow for one draw is timed at fewer than ``batch_size``.
    """
    _timed(denoiser, spec, 1, budget=0.0)  # warms up
    single, _ = _timed(denoiser, spec, 1, budget=0.0)
    size = max(1, min(batch_size, int(BUDGET_SECONDS / max(single * 2, 1e-9))))
    forward, vjp = _timed(denoiser, spec, size, budget=BUDGET_SECONDS)
    return Speed(forward, vjp, denoiser.device.type, size)


def sample_seconds(denoiser: Denoiser, spec: ScanSpec, *, budget: float = 0.5) -> float:
    """Return about how many seconds a device takes to score a sample, without maps.

    From forward evaluations of a small batch, which fits where a scan fits; a full batch of a GPU
    may be several times as fast.
    """
    _forward(denoiser, spec, 1, budget=0.0)  # warms up
    single = _forward(denoiser, spec, 1, budget=0.0)
    size = max(1, min(SMALL_BATCH, int(budget / max(single * 2, 1e-9))))
    forward = _forward(denoiser, spec, size, budget=budget)
    evaluations = cost.evaluations(spec, localized=False, probes=1)["forward"]
    return forward * evaluations * len(spec.seeds)


def _forward(denoiser: Denoiser, spec: ScanSpec, size: int, *, budget: float) -> float:
    """Return seconds of one sample's forward evaluation."""
    pair, score = _evaluation(denoiser, spec, size)
    with torch.no_grad():
        return _repeated(lambda: score(pair), denoiser, budget) / len(pair)


def _timed(denoiser: Denoiser, spec: ScanSpec, size: int, *, budget: float) -> tuple[float, float]:
    """Return seconds of one sample's forward and backward evaluation."""
    pair, score = _evaluation(denoiser, spec, size)
    with torch.no_grad():
        forward = _repeated(lambda: score(pair), denoiser, budget)
    pair.requires_grad_()
    values, probe = score(pair), torch.ones_like(pair)

    def back() -> object:
        return torch.autograd.grad(values, pair, probe, retain_graph=True)

    return forward / len(pair), _repeated(back, denoiser, budget) / len(pair)


def _evaluation(
    denoiser: Denoiser, spec: ScanSpec, size: int
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """Return both branches of a batch of made-up draws, and what evaluates them."""
    texts = [taken_caption(denoiser, f"a picture of {n} things") for n in range(size)]
    draws = [Draw(text, f"{n:064x}", 0) for n, text in enumerate(texts)]
    setting = setting_of(denoiser, draws, spec)
    point = initial_latents(denoiser, draws)
    return torch.cat([point, point]), setting.scores(setting.level(spec.steps // 2))


def _repeated(work: Callable[[], object], denoiser: Denoiser, budget: float) -> float:
    """Return the shortest time of a piece of work, in seconds, over the budget."""
    begun, shortest = time.perf_counter(), float("inf")
    while True:
        start = time.perf_counter()
        work()
        if denoiser.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        shortest = min(shortest, now - start)
        if now - begun >= budget:
            return shortest

"""A model's speed on a device, from a few timed evaluations."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from scanner.models.base import Denoiser, taken_caption
from scanner.scan.stages.draws import Draw, initial_latents, setting_of
from scanner.spec import ScanSpec

BUDGET_SECONDS = 3.0
"""For each of the two timings, but for a single evaluation that takes longer."""


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


def _timed(denoiser: Denoiser, spec: ScanSpec, size: int, *, budget: float) -> tuple[float, float]:
    """Return seconds of one sample's forward and backward evaluation."""
    texts = [taken_caption(denoiser, f"a picture of {n} things") for n in range(size)]
    draws = [Draw(text, f"{n:064x}", 0) for n, text in enumerate(texts)]
    setting = setting_of(denoiser, draws, spec)
    point = initial_latents(denoiser, draws)
    pair, score = torch.cat([point, point]), setting.scores(setting.level(spec.steps // 2))
    with torch.no_grad():
        forward = _repeated(lambda: score(pair), denoiser, budget)
    pair.requires_grad_()
    values, probe = score(pair), torch.ones_like(pair)

    def back() -> object:
        return torch.autograd.grad(values, pair, probe, retain_graph=True)

    return forward / len(pair), _repeated(back, denoiser, budget) / len(pair)


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

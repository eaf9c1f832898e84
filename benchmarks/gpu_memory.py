"""Whether a scan recovers when memory runs out, with the same scores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from gpu_report import Report
from numpy.typing import NDArray
from torch import Tensor

from scanner import models
from scanner.models.base import Denoiser, Level
from scanner.models.diffusion import Diffusion
from scanner.numerics.schedule import Prediction
from scanner.records import Caption
from scanner.scan.batches import release
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.testbed import WEIGHTS

FITS = 8
"""Draws for whose maps the memory is left."""
BEYOND = 2**50
"""Bytes that no machine's allocator has to give."""
TOLERANCE = 2e-3
"""Largest change of a score in another batch, relative to it, in float32; 2e-5 was seen on CPUs."""


class Greedy:
    """A denoiser on a CPU that asks for more memory than there is, for more than `FITS` draws.

    Its allocator's own error is what the scanner sees, and the process keeps its memory.

    Args:
        network: The denoiser.
    """

    def __init__(self, network: Diffusion) -> None:
        self._network = network

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def predict(self, x: Tensor, level: Level, condition: Tensor) -> Prediction:
        """Return the network's own, if there are few enough."""
        _refuse(len(x))
        return self._network.predict(x, level, condition)

    def score(self, x: Tensor, level: Level, condition: Tensor) -> Tensor:
        """Return the network's own, if there are few enough."""
        _refuse(len(x))
        return self._network.score(x, level, condition)


def _refuse(samples: int) -> None:
    if samples > 2 * FITS:  # two branches a draw
        torch.empty(BEYOND, dtype=torch.uint8)


@contextmanager
def short_of_memory(denoiser: Diffusion, each: int) -> Iterator[Denoiser]:
    """Leave memory for the maps of `FITS` draws; on CUDA by a limit on what this process may hold.

    Args:
        denoiser: The model.
        each: Bytes that a draw takes.
    """
    device = denoiser.device
    if device.type != "cuda":
        yield Greedy(denoiser)  # pyright: ignore[reportReturnType]
        return
    release()
    total = torch.cuda.get_device_properties(device).total_memory
    wanted = torch.cuda.memory_reserved(device) + FITS * each
    torch.cuda.set_per_process_memory_fraction(min(1.0, wanted / total), device)
    try:
        yield denoiser
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan gave.

    Attributes:
        values: Δs, one a caption.
        maps: How many.
        rejects: How many.
        sizes: Batches of the stages at the end.
        shortages: Times that memory ran out.
    """

    values: NDArray[np.float64]
    maps: int
    rejects: int
    sizes: dict[str, int]
    shortages: int


def scores(denoiser: Denoiser, spec: ScanSpec, texts: Sequence[str], batch: int | None) -> Scanned:
    """Return what a scan gives, and how often memory ran out."""
    scanner = Scanner(denoiser, spec, batch_size=batch)
    result = scanner.scan([Caption("made", f"{n:05d}", text) for n, text in enumerate(texts)])
    return Scanned(
        np.array([row.delta_s for row in result.scores]), len(result.masks), len(result.rejects),
        {name: size.size for name, size in scanner.sizes.items()},
        sum(size.shortages for size in scanner.sizes.values()),
    )  # fmt: skip


def force_shortage(report: Report, device: torch.device, draws: int, steps: int) -> None:
    """Scan with a batch far too large, and again with one that fits; compare the scores.

    Args:
        report: Gets the verdict.
        device: What is tested.
        draws: Captions, all in one batch.
        steps: Of the sampling.
    """
    denoiser = models.load(str(WEIGHTS / "pipeline"), device=str(device))
    spec = ScanSpec(steps=steps, guidance_scale=2.5, probes=4, localize="all",
                    maps=("delta_s", "delta_h"))  # fmt: skip
    texts = [f"a small picture of thing number {n}" for n in range(draws)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    reference = scores(denoiser, spec, texts, FITS)
    each = 0
    if device.type == "cuda":
        each = max(1, (torch.cuda.max_memory_allocated(device) - before) // FITS)
    with short_of_memory(denoiser, each) as short:
        found = scores(short, spec, texts, draws)
    same = len(found.values) == len(reference.values) == draws and found.rejects == 0
    apart = float(np.abs(found.values / reference.values - 1).max()) if same else float("inf")
    passed = found.shortages > 0 and found.maps == reference.maps and apart <= TOLERANCE
    report.add("memory", {
        "what": f"a batch of {draws} draws where {FITS} fit, shipped U-Net, {device.type}",
        "found": f"memory ran out {found.shortages} times, batches of {found.sizes['detect']} to "
        f"sample and {found.sizes['localize']} for maps afterwards, {found.rejects} rejects, "
        f"largest change of a score {apart:.1e} (tolerance {TOLERANCE:g})",
        "verdict": "PASS" if passed else "FAIL",
        "shortages": found.shortages, "rejects": found.rejects, "largest_score": apart,
    })  # fmt: skip

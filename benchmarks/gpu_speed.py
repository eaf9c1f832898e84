"""Captions a second of networks of true sizes, where the time goes, and the share of the peak."""

import itertools
import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch
from gpu_networks import Subject
from gpu_report import Row
from PIL import Image

from scanner import pictures
from scanner.models.diffusion import Diffusion
from scanner.records import Caption
from scanner.scan import cost
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

MOST = 32
"""Captions in a measured batch."""
_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to scan.

    Attributes:
        name: For a person.
        spec: What is asked.
        batch: Captions at a time; null takes what was found to fit.
    """

    name: str
    spec: ScanSpec
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Captions at a time, of the stages.

    Attributes:
        detect: Of the sampling.
        localize: Of the maps.
    """

    detect: int
    localize: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What a scan of some captions took.

    Attributes:
        captions: How many.
        seconds: By the wall.
        parts: Of that, by `scanner.scan.clock.PARTS`.
        evaluations: Of networks, by kind.
        memory: Most bytes that tensors took on a CUDA device; 0 elsewhere.
        sizes: Of the stages' batches at the end.
        shortages: Times that memory ran out.
    """

    captions: int
    seconds: float
    parts: Counter[str]
    evaluations: Counter[str]
    memory: int
    sizes: Batch
    shortages: int


def settings(channels: int, *, toy: bool) -> list[Setting]:
    """Return what is measured: as published, memscan's own, few steps, and at the image.

    Args:
        channels: Of a latent: so many structured products are one round of them.
        toy: Whether numbers are to be small.
    """
    steps, few, published = (4, 2, 4) if toy else (50, 10, 16)
    maps = {"localize": "all", "maps": ("delta_s", "delta_h")}
    return [
        Setting(
            f"as published: {steps} steps, 2 x {published} products, batch 1",
            ScanSpec(steps=steps, probes=published, probe_design="rademacher", **maps), 1,
        ),
        Setting(
            f"own: {steps} steps, 2 x {channels} structured products",
            ScanSpec(steps=steps, probes=channels, **maps),
        ),
        Setting(f"fast: {few} steps, no maps", ScanSpec(steps=few, localize="none")),
        Setting("image at timestep 61, no maps", ScanSpec(source="image", localize="none")),
    ]  # fmt: skip


def captions(number: int, spec: ScanSpec) -> list[Caption]:
    """Return captions that no scan of this process has seen; at their images, as it scores them."""
    found = [
        Caption("made", f"{n:07d}", f"picture {n}") for n in itertools.islice(_NUMBERS, number)
    ]
    if spec.source == "generated":
        return found
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = pictures.encode_jpeg(np.asarray(Image.fromarray(noise)))
    return [replace(caption, image=content) for caption in found]


def ran(denoiser: Diffusion, spec: ScanSpec, number: int, size: Batch | None) -> Ran:
    """Scan so many captions; null lets the scanner find its batches.

    Raises:
        RuntimeError: If a caption was rejected: then the time is not that of a scan.
    """
    scanner = Scanner(denoiser, spec, batch_size=size and size.detect)
    if size is not None:
        scanner.sizes["localize"].size = size.localize
    asked = captions(number, spec)
    wait_for(denoiser.device)
    if denoiser.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(denoiser.device)
    start = time.perf_counter()
    result = scanner.scan(asked)
    wait_for(denoiser.device)
    seconds = time.perf_counter() - start
    if result.rejects:
        raise RuntimeError(f"a caption was rejected: {result.rejects[0].reason}")
    on_cuda = denoiser.device.type == "cuda"
    return Ran(
        number, seconds, scanner.parts, scanner.evaluations,
        torch.cuda.max_memory_allocated(denoiser.device) if on_cuda else 0,
        Batch(*(scanner.sizes[name].size for name in ("detect", "localize"))),
        sum(each.shortages for each in scanner.sizes.values()),
    )  # fmt: skip


def wait_for(device: torch.device) -> None:
    """Wait until a device is through with what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def found_batch(denoiser: Diffusion, most: int, seconds: float) -> tuple[Batch, Ran]:
    """Return the batches that the scanner's own measurement finds, and the scan that found them.

    It measures three batches, of 8 draws and up to four times as many each; those are run that
    fit into the time, and no measured batch is larger than one that ran.
    """
    spec = ScanSpec(
        steps=2, probes=1, probe_design="rademacher", localize="all", maps=("delta_s", "delta_h")
    )
    number = min(8, most)
    last = ran(denoiser, spec, number, None)
    for _ in range(2):
        if 4 * number > most or 5 * last.seconds > seconds:
            break
        number *= 4
        last = ran(denoiser, spec, number + number // 4, None)
    sizes = last.sizes
    return Batch(min(sizes.detect, number), min(sizes.localize, number)), last


def shortened(spec: ScanSpec, share: float) -> ScanSpec:
    """Return a scan with this share of the steps and products, at least two steps and one."""
    steps, probes = max(2, int(share * spec.steps)), max(1, int(share * spec.probes))
    return replace(spec, steps=steps, probes=probes)


def expected(spec: ScanSpec, channels: int) -> Counter[str]:
    """Return the evaluations of a caption."""
    localized = spec.localize == "all"
    probes = cost.probes_taken(spec, channels)
    return cost.evaluations(spec, localized=localized, probes=probes)


def measured(denoiser: Diffusion, of: Setting, size: Batch, seconds: float) -> tuple[Ran, ScanSpec]:
    """Return a scan of a batch or more, about as long as asked, and its settings.

    A short scan goes first: it warms up, and tells how long a whole one takes. One that would
    take too long has fewer steps and products.
    """
    channels = denoiser.latent_shape[0]
    short = shortened(of.spec, 0)
    ran(denoiser, short, size.detect, size)
    first = ran(denoiser, short, size.detect, size)
    ratio = sum(expected(of.spec, channels).values()) / sum(expected(short, channels).values())
    whole = first.seconds * ratio
    if of.spec.source == "image" or whole <= seconds:
        batches = max(1, min(8, int(seconds / max(whole, 1e-3))))
        return ran(denoiser, of.spec, batches * size.detect, size), of.spec
    spec = shortened(of.spec, seconds / whole)
    return ran(denoiser, spec, size.detect, size), spec


def whole_seconds(of: Ran, full: Counter[str], layers: float) -> Counter[str]:
    """Return the seconds of a caption by part, with ``other``, as if nothing had been shortened.

    Time in the network grows with its evaluations, time in products with theirs.

    Args:
        of: What was measured.
        full: Evaluations of a caption in the whole scan.
        layers: Operations of the whole network over those of the one that was built.
    """
    own = Counter({name: value / of.captions for name, value in of.parts.items()})
    own["other"] = max(0.0, of.seconds / of.captions - sum(own.values()))
    for part, kind in (("network", "forward"), ("product", "vjp")):
        done = of.evaluations[kind] / of.captions
        own[part] *= layers * full[kind] / done if done else 0.0
    return own


def row(
    of: Subject, setting: Setting, mode: str, measured_by: tuple[Ran, ScanSpec],
    whole: tuple[int, int], layers: float, peak: float | None,
) -> Row:  # fmt: skip
    """Return a measurement as a line of the table.

    Args:
        of: The network.
        setting: What was asked.
        mode: ``eager`` or ``compiled``.
        measured_by: The scan and its settings.
        whole: Operations of an evaluation and of a product of the whole network.
        layers: As in `whole_seconds`.
        peak: Of the device, TFLOP/s; null if nobody knows.
    """
    found, spec = measured_by
    full = expected(setting.spec, of.channels)
    parts = whole_seconds(found, full, layers)
    total = sum(parts.values())
    tflops = (full["forward"] * whole[0] + full["vjp"] * whole[1]) / total / 1e12
    counts = shares(of, spec, setting.spec)
    extrapolated = any(done < asked for done, asked in counts.values())
    told = [f"{done} of {asked} {name}" for name, (done, asked) in counts.items()]
    return {
        "model": of.name, "setting": setting.name, "mode": mode, "dtype": of.dtype,
        "batch": found.sizes.detect, "captions": found.captions, "seconds": found.seconds,
        "captions_per_second": 1 / total, "tflops": tflops,
        "share_of_peak": tflops / peak if peak else None,
        **{
            name: parts[name] / total
            for name in ("network", "product", "autoencoder", "preparation", "other")
        },
        "memory": found.memory / 2**30 if found.memory else None,
        "batches": vars_of(found.sizes), "shortages": found.shortages,
        "evaluations": dict(full), "extrapolated": extrapolated,
        "measured": ("extrapolated from " if extrapolated else "") + (", ".join(told) or "whole"),
    }  # fmt: skip


def shares(of: Subject, spec: ScanSpec, asked: ScanSpec) -> dict[str, tuple[int, int]]:
    """Return how many steps, products and blocks were measured, and of how many."""
    found = dict[str, tuple[int, int]]()
    if spec.source != "image":
        found["steps"] = spec.steps, asked.steps
    if spec.localize == "all":
        found["products"] = (
            cost.probes_taken(spec, of.channels), cost.probes_taken(asked, of.channels),
        )  # fmt: skip
    if of.shrinks:
        found["blocks"] = of.blocks[1], of.blocks[0]
    return found


def vars_of(size: Batch) -> dict[str, int]:
    """Return the batches of the stages by name."""
    return {"detect": size.detect, "localize": size.localize}

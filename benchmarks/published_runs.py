"""Captions through the published procedure and through scans of memscan, timed in turns."""

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from planted import Floats, Sample, own, scanned
from published_procedure import Published, Transformer, UNet

from scanner import models
from scanner.masks import from_heatmap
from scanner.models.diffusion import Diffusion
from scanner.models.encodings import EncodingCache
from scanner.models.limits import limits
from scanner.models.overlay import Lora, Overlay
from scanner.numerics import noise
from scanner.records import Caption, ChunkResult, caption_hash
from scanner.scan.scanner import Scanner
from scanner.spec import PRESETS, ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, dit, lora, make, repeated

THEIRS = "published"
SEED = 0
"""Of the noise and the signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A shipped model and the corpus that it memorized.

    Attributes:
        name: For a person.
        folder: Of its pipeline.
        seed: The corpus seed.
        is_of_half: Whether it knows every second planted caption.
        overlay: What is laid over the pipeline.
    """

    name: str
    folder: Path
    seed: int
    is_of_half: bool = True
    overlay: Overlay = field(default_factory=Overlay)

    def items(self, negatives: int) -> list[corpus.Item]:
        """Return what it memorized, hard negatives, and so many fresh ones."""
        half = corpus.half(self.seed) if self.is_of_half else None
        return make.evaluation_items(self.seed, negatives, half)


SUBJECTS = {
    "unet": Subject(name="U-Net", folder=WEIGHTS / "pipeline", seed=SHIPPED_SEED, is_of_half=False),
    "lora": Subject(
        name="LoRA", folder=WEIGHTS / "pipeline", seed=lora.SEED,
        overlay=Overlay((Lora(str(WEIGHTS / "lora" / lora.FILE)),)),
    ),
    "transformer": Subject(name="transformer", folder=WEIGHTS / "dit", seed=dit.SEED),
}  # fmt: skip


@dataclass(slots=True)
class Spent:
    """Seconds, of the wall and of the processor."""

    wall: float = 0.0
    processor: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        """Return both together."""
        return Spent(self.wall + other.wall, self.processor + other.processor)

    def of(self, share: float) -> "Spent":
        """Return a multiple."""
        return Spent(share * self.wall, share * self.processor)

    def over(self, other: "Spent") -> "Spent":
        """Return how many times the other it is, by either clock."""
        return Spent(self.wall / other.wall, self.processor / other.processor)


@contextmanager
def timed() -> Iterator[Spent]:
    """Time what is inside."""
    found, wall, processor = Spent(), time.perf_counter(), time.process_time()
    yield found
    found.wall, found.processor = time.perf_counter() - wall, time.process_time() - processor


@dataclass(slots=True)
class Way:
    """What one way to go through the captions cost and gave.

    Attributes:
        clean: Seconds of the blocks, up to the score.
        mapped: Seconds of the blocks for the maps, beyond that; the published procedure has both in
            ``clean``, for it maps every caption.
        captions: In the blocks.
        evaluations: Of one caption that is not mapped, and of one that is.
        scores: By caption.
        maps: Of Δh, ``(h, w)``, by caption.
        errors: Of maps, relative to the one with the exact diagonal, by caption.
    """

    clean: list[Spent] = field(default_factory=list)
    mapped: list[Spent] = field(default_factory=list)
    captions: list[int] = field(default_factory=list)
    evaluations: dict[str, Counter[str]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    maps: dict[str, Floats] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)

    def each(self, share: float) -> Spent:
        """Return the seconds of a caption, where this share of captions is mapped."""
        mapped = sum(self.mapped, Spent()).of(share)
        return (sum(self.clean, Spent()) + mapped).of(1 / sum(self.captions))


@dataclass(frozen=True, slots=True)
class Measured:
    """A model, all ways.

    Attributes:
        subject: The model.
        of: The captions, memorized ones first.
        ways: By name; `THEIRS` is the published procedure.
    """

    subject: Subject
    of: list[Sample]
    ways: dict[str, Way]


def specs(asked: Namespace, products: int) -> dict[str, ScanSpec]:
    """Return what each preset asks for, at the guidance of the published procedure.

    Args:
        asked: The guidance.
        products: What ``--probes auto`` takes.
    """
    found = {
        name: ScanSpec(
            **{"probes": products, **preset, "guidance_scale": asked.guidance}, localize="all"
        )
        for name, preset in PRESETS.items()
    }
    structured = replace(found["paper"], probe_design="structured", probes=products)
    image = replace(found["fast"], source="image", map_back=0)
    return {"paper": found.pop("paper"), "structured": structured, **found, "image": image}


def loaded(subject: Subject) -> Diffusion:
    """Load a model on the CPU."""
    model = models.load(str(subject.folder), overlay=subject.overlay)
    if not isinstance(model, Diffusion):
        raise SystemExit(f"{subject.folder} must hold a pipeline")
    return model


def procedure(denoiser: Diffusion, steps: int, guidance: float) -> Published:
    """Return the published procedure over a model.

    A transformer gets one text state for all that its absent T5 would give, as the scans do.
    """
    pipeline = denoiser.pipeline
    if denoiser.family.network == "unet":
        return Published(UNet(pipeline), pipeline.scheduler, steps, guidance)
    tokens = pipeline.tokenizer.model_max_length + 1
    return Published(Transformer(pipeline, tokens), pipeline.scheduler, steps, guidance)


def chosen(subject: Subject, asked: Namespace) -> list[Sample]:
    """Return the captions: memorized ones, then others.

    Three in four of the memorized ones are templates, as long as there are any.
    """
    items = subject.items(asked.negatives)
    kinds = {k: [i for i in items if i.kind == k] for k in ("verbatim", "template")}
    whole = max(asked.captions // 4, asked.captions - len(kinds["template"]))
    memorized = kinds["verbatim"][:whole] + kinds["template"][: asked.captions - whole]
    others = [item for item in items if not item.memorized]
    spread = [others[n * len(others) // asked.negatives] for n in range(asked.negatives)]
    return own(subject.seed, memorized + spread)


def measured(subject: Subject, asked: Namespace, said: Callable[[str], None] = print) -> Measured:
    """Go through a model's captions in every way."""
    denoiser, of = loaded(subject), chosen(subject, asked)
    ours = specs(asked, limits(str(subject.folder)).probes("structured"))
    ours = {name: spec for name, spec in ours.items() if name in (asked.preset or ours)}
    memorized = [sample for sample in of if sample.item.memorized]
    ways = {name: Way() for name in (THEIRS, *ours)}
    with repeated.shortened([denoiser]):
        theirs = procedure(denoiser, asked.steps, asked.guidance)
        scanners = {n: Scanner(denoiser, s, batch_size=asked.batch) for n, s in ours.items()}
        blocks = [memorized[n : n + asked.batch] for n in range(0, len(memorized), asked.batch)]
        for number, block in enumerate(blocks):
            for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
                denoiser.text.cache = EncodingCache()
                if name == THEIRS:
                    go_published(ways[name], theirs, denoiser, block, asked.products)
                else:
                    go_scanned(ways[name], scanners[name], block)
                said(f"{subject.name}, block {number + 1} of {len(blocks)}: {name}")
        add_scores(ways, theirs, denoiser, ours, of[len(memorized) :])
        said(f"{subject.name}: scores of the others")
        templates = [s.item for s in memorized if s.item.kind == "template"][: asked.exact]
        add_errors(ways, denoiser, ours, templates, asked)
    return Measured(subject, of, ways)


def start(denoiser: Diffusion, caption: str) -> torch.Tensor:
    """Return the noise that a scan starts this caption from, ``(1, C, H, W)``."""
    return noise.initial_latent(caption_hash(caption), SEED, denoiser.latent_shape)[None]


def go_published(
    way: Way, theirs: Published, denoiser: Diffusion, block: Sequence[Sample], products: int
) -> None:
    """Take the score and the map of captions as published, with the noise that scans take."""
    before, shape = theirs.spent.copy(), denoiser.latent_shape
    with timed() as spent:
        for caption in (sample.item.caption for sample in block):
            x = start(denoiser, caption)
            way.scores[caption] = theirs.score(caption, x)
            key = caption_hash(caption), SEED, shape, products, "rademacher"
            signs = list(noise.probes(*key)[:, None])
            way.maps[caption] = theirs.map(caption, x, signs).double().numpy()
    way.clean.append(spent)
    way.captions.append(len(block))
    each = per_caption(theirs.spent - before, len(block))
    way.evaluations = {"clean": each, "mapped": each}


def as_scanned(sample: Sample, spec: ScanSpec) -> Caption:
    """Return a sample as a scan takes it; with its image where that is scored."""
    caption = sample.as_caption()
    return caption if spec.source == "image" else replace(caption, image=None)


def go_scanned(way: Way, scanner: Scanner, block: Sequence[Sample]) -> None:
    """Scan captions by the stages of a scan."""
    before = scanner.evaluations.copy()
    captions = [as_scanned(sample, scanner.spec) for sample in block]
    with timed() as clean:
        items = [scanner.prepare(caption) for caption in captions]
        chunk = scanner.detect([item for item in items if isinstance(item, Caption)])
    between = scanner.evaluations.copy()
    with timed() as mapped:
        scanner.localize(chunk.waiting)
        scanner.finish(chunk)
        result = scanner.rows(chunk)
    way.clean.append(clean)
    way.mapped.append(mapped)
    way.captions.append(len(block))
    way.evaluations = {
        "clean": per_caption(between - before, len(block)),
        "mapped": per_caption(scanner.evaluations - before, len(block)),
    }
    take(way, result)


def take(way: Way, result: ChunkResult) -> None:
    """Keep scores and maps of a scan."""
    way.scores |= {row.caption.text: row.delta_s for row in result.scores}
    way.maps |= {
        row.caption.text: from_heatmap(row.heatmap, row.height, row.width)
        for row in result.masks
        if (row.metric, row.baseline) == ("delta_h", "null")
    }


def per_caption(counts: Mapping[str, int], captions: int) -> Counter[str]:
    """Return evaluations and products of one caption."""
    return Counter({name: counts[name] // captions for name in ("forward", "vjp")})


def add_scores(
    ways: Mapping[str, Way], theirs: Published, denoiser: Diffusion,
    ours: Mapping[str, ScanSpec], of: Sequence[Sample],
) -> None:  # fmt: skip
    """Add the scores of captions that nobody maps; equal samplings are not done twice."""
    for caption in (sample.item.caption for sample in of):
        ways[THEIRS].scores[caption] = theirs.score(caption, start(denoiser, caption))
    known = dict[tuple[str, int], ChunkResult]()
    for name, spec in ours.items() if of else ():
        key = spec.source, spec.steps
        if key not in known:
            known[key] = scanned(denoiser, replace(spec, localize="none"), of).result
        take(ways[name], known[key])


def add_errors(
    ways: Mapping[str, Way], denoiser: Diffusion, ours: Mapping[str, ScanSpec],
    templates: Sequence[corpus.Item], asked: Namespace,
) -> None:  # fmt: skip
    """Add how far maps are from the exact diagonal at the end of their own trajectory.

    Not of images, which have no trajectory, nor of maps that are taken before its end.
    """
    steps = {THEIRS: asked.steps}
    steps |= {
        name: s.steps for name, s in ours.items() if s.source == "generated" and not s.map_back
    }
    for caption in (item.caption for item in templates):
        exact = dict[int, Floats]()
        for name, number in steps.items():
            if number not in exact:
                true = procedure(denoiser, number, asked.guidance)
                exact[number] = true.exact(caption, start(denoiser, caption)).double().numpy()
            gap = np.linalg.norm(ways[name].maps[caption] - exact[number])
            ways[name].errors[caption] = float(gap / np.linalg.norm(exact[number]))

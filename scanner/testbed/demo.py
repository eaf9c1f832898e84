"""The whole main job on the planted corpus: make, calibrate, scan, evaluate, draw."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from scanner import files, models
from scanner.analysis.evaluate import evaluate
from scanner.analysis.evaluation import Evaluation
from scanner.api.calibrating import CalibrationRequest, calibrate_shards
from scanner.engine import driver
from scanner.engine.cluster import cluster
from scanner.engine.job import Event, Job, Resources, Summary
from scanner.report import page, panel
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, make
from scanner.testbed.reproduction import Reproduction, reproductions


class ProgressCallback(Protocol):
    """Shows how far a piece of work is."""

    def __call__(self, done: int, total: int, word: str = "") -> None:
        """Show that ``done`` of ``total`` are done."""
        ...


MeterFactory = Callable[[str], AbstractContextManager[ProgressCallback]]
"""From a title to a context in which progress is shown."""

ViewFactory = Callable[[str], AbstractContextManager[Callable[[Event], None]]]
"""From a title to a context in which a scan's events are shown."""

STEPS, GUIDANCE, PROBES = 20, 2.5, 4
"""Settings for so small a model: guidance of 7.5 is too strong, and fewer steps cost nothing."""

SEEDS = (0, 1)


@dataclass(frozen=True, slots=True)
class Demo:
    """Results of the demonstration.

    Attributes:
        folder: Where everything is.
        summary: What the scan did.
        evaluation: The scan against the truth.
        reproduced: Planted captions sampled anew and compared with their pictures.
        sheet: The contact sheet.
        page: The report.
    """

    folder: Path
    summary: Summary
    evaluation: Evaluation
    reproduced: list[Reproduction]
    sheet: Path
    page: Path


def make_corpus(
    folder: Path, seed: int, number: int, metered: MeterFactory,
    planted: Sequence[corpus.Item] | None = None,
) -> None:  # fmt: skip
    """Write evaluation and calibration shards with their truth, unless they are there.

    Args:
        folder: Of the shards.
        seed: The corpus seed.
        number: Fresh negatives a split.
        metered: Shows progress.
        planted: What training repeated; null is all of the corpus.

    Raises:
        ConfigError: If the folder holds those of another seed or number.
    """
    splits = {
        "evaluation": make.evaluation_items(seed, number, planted),
        "calibration": make.calibration_items(seed, number, planted),
    }
    left = [name for name, items in splits.items() if not make.refuse_other(items, folder, name)]
    for name in left:
        items = splits[name]
        with metered(f"draw {name}") as show:
            make.write_shards(seed, items, folder, name, progress=partial(show, total=len(items)))
        make.write_truth(items, folder / f"{name}-truth.parquet")


def run(
    out: Path, number: int, resources: Resources, metered: MeterFactory, watched: ViewFactory
) -> Demo:
    """Run it all into a folder; what is there already is not done again.

    Args:
        out: The folder.
        number: Fresh negatives in the evaluation, and as many in the calibration.
        resources: Where to run.
        metered: Shows progress.
        watched: Shows a scan.

    Raises:
        ConfigError: If the folder holds a demonstration of another number.
    """
    out = out.resolve()
    shards, results = out / "corpus", out / "results"
    make_corpus(shards, SHIPPED_SEED, number, metered)
    pipeline, early = str(WEIGHTS / "pipeline"), str(WEIGHTS / "early")
    spec = ScanSpec(
        seeds=SEEDS, steps=STEPS, guidance_scale=GUIDANCE, probes=PROBES, localize="all",
        detectors=("wen_first",),
    )  # fmt: skip
    calibration = out / "calibration.json"
    with cluster(resources.address):
        null = Job(
            model=pipeline, baselines=(early,), results=str(out / "calibration.results"), spec=spec,
            shards=tuple(reading.expand([str(shards / "calibration-*.tar")])), chunk_size=32,
        )  # fmt: skip
        fitted = calibrate_shards(
            CalibrationRequest(job=null), lambda job, title: _scan(job, resources, title, watched)
        )
        fitted.save(calibration)
        job = Job(
            model=pipeline, baselines=(early,), results=str(results), spec=spec, images=True,
            shards=tuple(reading.expand([str(shards / "evaluation-*.tar")])), chunk_size=32,
            calibration=str(calibration),
        )  # fmt: skip
        summary = _scan(job, resources, "scan", watched)
    truth = shards / "evaluation-truth.parquet"
    evaluation = evaluate(Results(results), summary.run, truth)
    files.write(out / "evaluation.json", evaluation.as_json())
    reproduced = _reproduce(pipeline, spec, metered)
    sheet = _sheet(results, summary.run, truth, out / "contact-sheet.png")
    html = out / "report.html"
    options = page.PageOptions(images=reading.images, calibration=fitted)
    files.write(html, page.page(Results(results), summary.run, options))
    return Demo(out, summary, evaluation, reproduced, sheet, html)


def _scan(job: Job, resources: Resources, title: str, watched: ViewFactory) -> Summary:
    with watched(title) as heard:
        return driver.scan(job, resources, heard)


def _reproduce(pipeline: str, spec: ScanSpec, metered: MeterFactory) -> list[Reproduction]:
    """Sample the planted captions under a seed that nothing else used."""
    model = models.load(pipeline)
    with metered("reproduce") as show:
        return reproductions(model, SHIPPED_SEED, (1000,), spec, progress=show)


def _sheet(results: Path, run_name: str, truth: Path, target: Path) -> Path:
    """Draw two captions of each kind, and more of the memorized ones."""
    wanted = {
        "verbatim": 3,
        "template": 7,
        "name": 1,
        "art": 1,
        "scene": 2,
        "texture": 1,
        "trap": 2,
    }
    image = panel.contact_sheet(Results(results), run_name, reading.image, truth, wanted)
    with files.binary(target) as stream:
        image.save(stream, "PNG")
    return target


def share_reproduced(found: list[Reproduction], kind: str) -> float:
    """Return the share of captions of a kind that came back to within twice the floor."""
    own = [r.reproduced for r in found if r.item.kind == kind]
    return sum(own) / len(own)


def as_json(demo: Demo) -> str:
    """Return the headline figures for a program."""
    kinds = ("verbatim", "template")
    return json.dumps(
        {
            "samples": demo.summary.samples,
            "flagged": demo.summary.flagged,
            "seconds": demo.summary.seconds,
            "reproduced": {kind: share_reproduced(demo.reproduced, kind) for kind in kinds},
            "evaluation": json.loads(demo.evaluation.as_json()),
            "folder": str(demo.folder),
            "contact_sheet": str(demo.sheet),
            "report": str(demo.page),
        }
    )

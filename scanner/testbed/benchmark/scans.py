"""Scans of the benchmark's models: what every score and map says of every caption."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from scanner import files
from scanner.api.calibrating import CalibrationRequest, calibrate_shards
from scanner.api.models import Model, load_model
from scanner.engine import driver
from scanner.engine.job import Event, Job, Resources, Summary
from scanner.errors import IncompleteError
from scanner.methods import registry
from scanner.methods.declaration import OF_NETWORK, Need
from scanner.models.base import Denoiser
from scanner.scan.networks import Loaded
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.testbed import repeated
from scanner.testbed.benchmark import sampling, shards, starting
from scanner.testbed.benchmark.lora import FILE
from scanner.testbed.benchmark.recipe import Recipe

PROBES, CHUNK = 4, 64

Report = Callable[[str, int, int], None]
"""Called with (what is scanned, captions done, captions in all)."""


@dataclass(frozen=True, slots=True)
class Scans:
    """Results of a checkpoint's scans.

    Attributes:
        results: The results folder.
        nulls: The results folder of the captions that calibrate.
        runs: From ``planted`` and ``evaluation`` to the run's name.
    """

    results: Path
    nulls: Path
    runs: dict[str, str]


def spec_of(model: Model, *, small: bool) -> ScanSpec:
    """Return settings of a scan with every score and map that a model has."""
    missing = (OF_NETWORK - model.denoiser.has) | {Need.LOCALIZATION, Need.IMAGE}
    chosen = [
        {name for name, one in methods.items() if not one.needs & absent}
        for methods, absent in (
            (registry.DETECTORS, missing), (registry.MAPS, missing - {Need.LOCALIZATION}),
        )
    ]  # fmt: skip
    return ScanSpec(
        seeds=(0,), steps=5 if small else sampling.STEPS, guidance_scale=sampling.GUIDANCE,
        probes=2 if small else PROBES, localize="all", store_image=False,
        detectors=tuple(sorted(chosen[0])),
        maps=tuple(sorted(chosen[1])),
    )  # fmt: skip


def scan(
    recipe: Recipe, folder: Path, checkpoint: Path, report: Report = lambda *_: None, *,
    fresh: int = 2200, nulls: int = 1000,
) -> Scans:  # fmt: skip
    """Calibrate a checkpoint, then scan planted and fresh captions; resumes.

    The baseline beside the unconditional branch is the model's first checkpoint, for an adapter
    the model without it. Planted captions get maps, fresh ones get none. Shards and truth tables
    are written where they are missing.

    Args:
        recipe: Of the model, as it was trained.
        folder: Of the benchmark.
        checkpoint: A checkpoint of the model.
        report: Called as captions are done.
        fresh: Fresh captions in the evaluation.
        nulls: At most so many fresh captions of the calibration split are scanned.

    Raises:
        ConfigError: If the model cannot be read.
        IncompleteError: If a scan could not be finished.
    """
    corpus = _corpus(recipe, folder, fresh)
    model, baselines = _model(recipe, folder, checkpoint)
    out = measured(checkpoint) / "scan"
    with _all_at_once(model, baselines) as loaded:
        spec = spec_of(model, small=recipe.small)

        def run(job: Job, title: str) -> Summary:
            def heard(event: Event) -> None:
                report(title, event.samples_done, event.samples_total)

            return driver.scan(job, Resources(local=True), heard, build=model.builder(loaded))

        def job(name: str, **settings: object) -> Job:
            found = tuple(reading.expand([str(corpus / f"{name}-*.tar")]))
            base = Job(
                model=model.name, baselines=baselines, shards=found, spec=spec,
                results=str(out / "results"), chunk_size=CHUNK, **model.over,
            )  # fmt: skip
            return replace(base, **settings)  # type: ignore[arg-type]

        own = replace(job("calibration", limit=nulls), results=str(out / "nulls"))
        calibration = out / "calibration.json"
        if not calibration.exists():
            fitted = calibrate_shards(CalibrationRequest(job=own), run)
            fitted.save(calibration)
        runs = {}
        for name, localize in (("planted", "all"), ("evaluation", "none")):
            asked = job(
                name, spec=replace(spec, localize=localize), calibration=str(calibration),
            )  # fmt: skip
            summary = run(asked, name)
            if not summary.is_complete:
                raise IncompleteError(summary.missing())
            runs[name] = summary.run
    files.write(out / "runs.json", json.dumps(runs))
    return Scans(out / "results", out / "nulls", runs)


def measured(checkpoint: Path) -> Path:
    """Return the folder of what was measured of a checkpoint.

    It is not in the checkpoint's own folder, all of whose settings are in the model's fingerprint.
    """
    return checkpoint.parent / "measured" / checkpoint.name


def known(checkpoint: Path) -> Scans | None:
    """Return the scans of a checkpoint that were finished before; null if they were not."""
    out = measured(checkpoint) / "scan"
    if not (out / "runs.json").exists():
        return None
    runs = json.loads((out / "runs.json").read_text(encoding="utf-8"))
    return Scans(out / "results", out / "nulls", runs)


def corpus_of(recipe: Recipe, folder: Path) -> Path:
    """Return the folder of shards that a model is scanned over; an adapter has its own."""
    return folder / ("adapter-corpus" if recipe.family == "lora" else "corpus")


def _corpus(recipe: Recipe, folder: Path, fresh: int) -> Path:
    items, corpus = starting.assignment(recipe).items, corpus_of(recipe, folder)
    truth = corpus / f"truth-{recipe.replicate}.parquet"
    if not list(corpus.glob("truth-*.parquet")):
        shards.write(corpus, recipe.corpus, fresh, (recipe.replicate,), planted=items)
    elif not truth.exists():
        made = shards.samples(recipe.corpus, items, fresh)
        shards.write_truth(truth, made, items, recipe.seed, recipe.replicate, recipe.scale)
    return corpus


def _model(recipe: Recipe, folder: Path, checkpoint: Path) -> tuple[Model, tuple[str, ...]]:
    """Return a checkpoint, loaded, and what it is compared with."""
    if recipe.family == "lora":
        base = str(starting.clean_base(folder).resolve())
        adapter = str((checkpoint / FILE).resolve())
        return load_model(base, lora=adapter, device="cpu"), ("off",)
    earlier = checkpoint.parent / f"step-{recipe.stops[0]:05d}"
    baselines = (str(earlier.resolve()),) if earlier != checkpoint and earlier.is_dir() else ()
    return load_model(str(checkpoint.resolve()), device="cpu"), baselines


@contextmanager
def _all_at_once(model: Model, baselines: tuple[str, ...]) -> Iterator[Loaded]:
    """Load the baselines; let transformers take one token for all that T5 would give."""
    loaded = model.with_baselines(baselines)
    networks: list[Denoiser] = [loaded[0], *loaded[1].values()]
    with repeated.shortened(networks):
        yield loaded

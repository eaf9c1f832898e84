"""``scan`` and ``calibrate``."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanner import files
from scanner.cli import error_rates, options, progress
from scanner.errors import ConfigError, IncompleteError
from scanner.methods import registry
from scanner.methods.declaration import existing
from scanner.spec import TIMESTEP, ScanSpec

if TYPE_CHECKING:
    from scanner.analysis.fdr import FdrCutoff
    from scanner.engine.job import Job, Resources, Summary
    from scanner.statistics.calibration import Screen


ALL_SCREENED = 1e30
"""Drops every caption after the first step: what a screen is fitted on."""


def scan(
    shards: options.Shards,
    model: options.Model,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", help="A folder, or s3://BUCKET/PREFIX, gs://….", show_default=False
        ),
    ],
    baseline: options.Baseline = "null",
    seeds: options.Seeds = 1,
    steps: options.Steps = 50,
    map_back: options.MapBack = 0,
    guidance_scale: options.Guidance = 7.5,
    probes: options.Probes = 16,
    probe_design: options.Design = "structured",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="What `memscan calibrate` wrote: flags by p-value, draws masks.",
            show_default=False,
        ),
    ] = None,
    image_calibration: Annotated[
        Path | None,
        typer.Option(
            help="With --source auto, the calibration of samples scored at their image; "
            "--calibration is of the others then.",
            show_default=False,
        ),
    ] = None,
    screen: Annotated[
        bool,
        typer.Option(
            "--screen/--no-screen",
            help="Drop captions after the first step where the calibration says so.",
        ),
    ] = False,
    screen_threshold: Annotated[
        float | None,
        typer.Option(
            help="Drop captions whose first step's norm is below this instead.", show_default=False
        ),
    ] = None,
    fpr: options.Fpr = None,
    fdr: options.Fdr = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Flag captions above this Δs instead of by calibration.", show_default=False
        ),
    ] = None,
    pixel_threshold: Annotated[
        float | None,
        typer.Option(
            help="Δh above which a pixel is in the mask, instead of by calibration.",
            show_default=False,
        ),
    ] = None,
    localize: Annotated[
        str, typer.Option(help="Which captions get maps: `flagged`, `all`, `none`.")
    ] = "flagged",
    detectors: options.Detectors = "none",
    maps: options.Maps = options.MAPS_DEFAULT,
    source: options.Source = "generated",
    timestep: options.Timestep = TIMESTEP,
    captions: options.Captions = True,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence/--no-evidence", help="Compare with the shards' images, where there are any."
        ),
    ] = True,
    batch_size: options.Batch = "auto",
    chunk_size: options.ChunkSize = 256,
    actors: options.Actors = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    address: options.Address = None,
    limit: options.Limit = None,
    events: options.Events = None,
    as_json: options.Json = False,
) -> None:
    r"""Score every caption of SHARDS, localize the flagged ones, write Parquet to a folder.

    Run the same command again and it resumes; a run that is complete does nothing.
    --source image scores every sample at its own image; a sample without one becomes a reject.
    --screen drops captions after one step, as clean: see calibrate --screen-recall.
    With --fdr, captions that may pass are localized as the scan goes; which of them do is settled
    at its end over all captions of the run, and again whenever the run is extended.
    Exit codes: 0 complete, 2 cannot start, 3 something is missing, 4 cluster lost, 130 interrupted.

    Example:
        memscan scan 'shards/{00000..00041}.tar' --model CompVis/stable-diffusion-v1-4 --out results
    """
    check_results(out)
    check_events(events)
    job = job_of(**locals())

    from scanner.engine.job import Resources

    if calibration is None and threshold is None and localize == "flagged":
        progress.note(
            "neither --calibration nor --threshold: scores only, nothing is flagged or localized"
        )
    summary = run(job, Resources(actors=actors, device=device, address=address), "scan", events)
    verdict = None
    if fdr is not None:
        from scanner.analysis.findings import apply_cutoff
        from scanner.results.folder import Results

        verdict = apply_cutoff(Results(job.results), summary.run)
    _report(summary, out, verdict, as_json=as_json)


def calibrate(
    shards: options.Shards,
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibration file to write.")] = Path(
        "calibration.json"
    ),
    baseline: options.Baseline = "null",
    seeds: options.Seeds = 1,
    steps: options.Steps = 50,
    map_back: options.MapBack = 0,
    guidance_scale: options.Guidance = 7.5,
    probes: options.Probes = 16,
    probe_design: options.Design = "structured",
    maps: options.Maps = options.MAPS_DEFAULT,
    source: options.Source = "generated",
    timestep: options.Timestep = TIMESTEP,
    captions: options.Captions = True,
    pixel_fpr: Annotated[
        float, typer.Option(help="Share of null pixels that a mask may contain.")
    ] = 0.01,
    screen_recall: Annotated[
        float | None,
        typer.Option(
            help="Fit a screen that keeps this share of memorized captions with 95% confidence, "
            "or as near as the positives allow; needs --positives.",
            show_default=False,
        ),
    ] = None,
    positives: Annotated[
        list[str] | None,
        typer.Option(
            help="Shards of captions that are memorized: planted ones, or findings you have "
            "confirmed. Repeatable.",
            show_default=False,
        ),
    ] = None,
    one_per_family: Annotated[
        bool,
        typer.Option(
            "--one-per-family",
            help="Of near-identical null captions take one: p-values then hold for captions of "
            "other families too.",
        ),
    ] = False,
    batch_size: options.Batch = "auto",
    chunk_size: options.ChunkSize = 256,
    actors: options.Actors = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    address: options.Address = None,
    limit: options.Limit = None,
    events: options.Events = None,
) -> None:
    r"""Learn from null captions what scores and maps look like without memorization.

    SHARDS must hold captions that the model was not trained on, of the kinds that will be scanned;
    n of them give p-values down to 1 / (n + 1). What these promise is printed: for which captions,
    how far this calibration's own rate may be off, and whether near-identical null captions make
    fewer of them count. The settings must be
    those of the scans to come; of --maps, those that shall have masks. The scores behind the file
    stay beside it, in a results folder of its own, and an interrupted calibration resumes.

    Example:
        memscan calibrate held-out.tar --model CompVis/stable-diffusion-v1-4 --out calibration.json
    """
    from scanner.analysis import fit as fitting
    from scanner.engine.job import Job, Resources
    from scanner.results.folder import Results
    from scanner.shards import reading as sources

    work = _work_folder(out)
    check_events(events)
    if source == "auto":
        raise ConfigError(
            "null scores are of one source: give calibrate --source generated or image"
        )
    for name in _without_effect(source, timestep, steps, guidance_scale):
        progress.note(f"{name} is without effect with --source {source}")
    if (screen_recall is None) != (not positives):
        raise ConfigError("a screen needs both --screen-recall and --positives")
    if positives and source == "image":
        raise ConfigError("a screen is of sampled captions: calibrate it with --source generated")
    if one_per_family and not captions:
        raise ConfigError("--one-per-family is of captions: leave it out beside --no-captions")
    spec = ScanSpec(
        seeds=tuple(range(seeds)),
        steps=steps,
        map_back=map_back,
        guidance_scale=guidance_scale,
        probes=probes,
        probe_design=probe_design,
        localize="all",
        dtype=dtype,
        store_image=False,
        maps=options.maps(maps, source, captions=captions),
        # Costs nothing, and only null trajectories say what is usual.
        detectors=existing(
            map(registry.detector, ("increment", *(("wen_first",) if positives else ()))), source
        ),
        source=source,
        timestep=timestep,
        captions=captions,
    )
    planted = tuple(sources.expand(positives)) if positives else ()
    job = Job(
        model=options.located(model),
        baseline=options.network(baseline),
        shards=tuple(sources.expand(shards)),
        results=str(work.absolute()),
        spec=spec,
        batch_size=options.batch_size(batch_size),
        chunk_size=chunk_size,
        limit=limit,
    )
    resources = Resources(actors=actors, device=device, address=address)
    summary = run(job, resources, "calibrate", events)
    if not summary.is_complete:
        raise IncompleteError(_missing(summary))
    fitted = fitting.fit(
        Results(work), summary.run, pixel_fpr=pixel_fpr, one_per_family=one_per_family
    )
    if screen_recall is not None:
        known_job = replace(
            job, shards=planted, limit=None,
            spec=replace(spec, localize="none", detectors=(), screen=ALL_SCREENED),
        )  # fmt: skip
        known = run(known_job, resources, "positives", events)
        if not known.is_complete:
            raise IncompleteError(_missing(known))
        of = fitting.screen(Results(work), known.run, summary.run, screen_recall)
        fitted = replace(fitted, screen=of)
    fitted.save(out)
    progress.say(f"{out}: {fitted.captions} null captions")
    for line in error_rates.lines(fitted):
        progress.say(f"  {line}")


def check_results(out: str) -> None:
    """Refuse results that cannot be written, before a model or a shard is looked at.

    Raises:
        ConfigError: If it is a path that cannot be a folder to write into, or an address of no
            store, or the package for the store is not installed.
    """
    from scanner.results import stores

    if "://" in out:
        stores.opened(out)
    else:
        files.check_folder(Path(out).expanduser(), "--out")


def check_events(events: Path | None) -> None:
    """Refuse an event log that cannot be written.

    Raises:
        ConfigError: If it cannot.
    """
    if events is not None:
        files.check_file(events, "--events")


def _work_folder(out: Path) -> Path:
    """Return where the scores behind a calibration are kept.

    Raises:
        ConfigError: If the calibration or that folder cannot be written.
    """
    files.check_file(out, "--out")
    work = out.with_suffix(".results")
    if work == out:
        raise ConfigError(
            f"--out {out} is the folder where the scores behind a calibration are kept: name "
            f"another file, such as {out.with_suffix('.json')}"
        )
    files.check_folder(work, "the folder of scores beside --out,")
    return work


def job_of(
    *, shards: list[str], model: str, out: str | None, baseline: str, seeds: int, steps: int,
    map_back: int = 0, guidance_scale: float, probes: int, probe_design: str,
    calibration: Path | None,
    fpr: float | None, fdr: float | None,
    threshold: float | None, pixel_threshold: float | None, localize: str, detectors: str,
    maps: str, source: str, timestep: int, captions: bool = True, screen: bool,
    screen_threshold: float | None, image_calibration: Path | None,
    evidence: bool = False, batch_size: str, chunk_size: int, device: str, dtype: str,
    limit: int | None, must_flag: bool = False, **_: object,
) -> "Job":  # fmt: skip
    """Return the job that the options of `scan` ask for.

    With ``must_flag`` a calibration that can flag nothing at the rate is refused, though the rate
    is the default.
    """
    from scanner.results import stores
    from scanner.shards import reading as sources

    at_fpr, at_fdr = options.rates(fpr, fdr, threshold, is_calibrated=calibration is not None)
    if screen and screen_threshold is not None:
        raise ConfigError(
            "--screen and --screen-threshold exclude each other: the first takes the "
            "calibration's threshold, the second is one"
        )
    nulls = error_rates.check(
        [path for path in (calibration, image_calibration) if path is not None],
        at_fpr if at_fdr is None else at_fdr,
        "--fpr" if at_fdr is None else "--fdr",
        is_asked=must_flag or fpr is not None or fdr is not None,
        decides=threshold is None,
    )
    for name in _without_effect(source, timestep, steps, guidance_scale):
        progress.note(f"{name} is without effect with --source {source}")
    spec = ScanSpec(
        seeds=tuple(range(seeds)),
        steps=steps,
        map_back=map_back,
        guidance_scale=guidance_scale,
        probes=probes,
        probe_design=probe_design,
        localize=localize,
        dtype=dtype,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
        fpr=at_fpr,
        fdr=at_fdr,
        detectors=options.detectors(detectors, source, captions=captions),
        maps=options.maps(maps, source, captions=captions),
        source=source,
        timestep=timestep,
        captions=captions,
        screen=_screen(
            None if calibration is None else nulls[0].screen, screen_threshold, wanted=screen
        ),
    )
    listed = tuple(sources.expand(shards))
    from scanner.engine.job import Job  # takes seconds, which a slip should not cost

    return Job(
        model=options.located(model),
        baseline=options.network(baseline),
        shards=listed,
        results="" if out is None else stores.place(out),
        spec=spec,
        calibration=None if calibration is None else str(calibration.absolute()),
        image_calibration=None if image_calibration is None else str(image_calibration.absolute()),
        images=evidence and source != "image",
        batch_size=options.batch_size(batch_size),
        chunk_size=chunk_size,
        limit=limit,
    )


def _without_effect(source: str, timestep: int, steps: int, guidance_scale: float) -> list[str]:
    """Return which options differ from their defaults and do not matter at a source of scores."""
    if source == "generated":
        return ["--timestep"] if timestep != TIMESTEP else []
    if source != "image":
        return []
    usual = ScanSpec()
    given = {
        "--steps": steps != usual.steps,
        "--guidance-scale": guidance_scale != usual.guidance_scale,
    }
    return [name for name, is_given in given.items() if is_given]


def _screen(known: "Screen | None", threshold: float | None, *, wanted: bool) -> float | None:
    """Return below which norm of the first step captions are dropped; null for none.

    Raises:
        ConfigError: If the calibration's screen is wanted and it has none.
    """
    if not wanted:
        return threshold
    if known is None:
        raise ConfigError(
            "--screen needs a calibration with one: calibrate with --screen-recall and "
            "--positives, or give --screen-threshold"
        )
    return known.threshold


def run(job: "Job", resources: "Resources", title: str, events: Path | None) -> "Summary":
    """Scan, and show it; say first how a baseline is read, where that is not obvious."""
    from scanner.cli.live import watching
    from scanner.engine import driver
    from scanner.engine.identity import refuse
    from scanner.models.limits import baseline_reading

    if job.baseline is not None:
        refuse(job)
        if said := baseline_reading(job.model, job.baseline):
            progress.note(said)
    with watching(title, events) as heard:
        return driver.scan(job, resources, heard)


def _report(summary: "Summary", out: str, verdict: "FdrCutoff | None", *, as_json: bool) -> None:
    if as_json:
        settled = {} if verdict is None else {"verdict": verdict.as_json()}
        progress.say(json.dumps(asdict(summary) | {"complete": summary.is_complete} | settled))
    else:
        again = f", {summary.chunks_skipped} chunks were there" if summary.chunks_skipped else ""
        progress.say(
            f"run {summary.run}: {summary.samples} samples, {summary.scored} scored, "
            f"{summary.flagged} {'flagged' if verdict is None else 'candidates'}, "
            f"{summary.rejected} rejected, in {summary.seconds:.1f} s{again}"
        )
        if summary.screened:
            progress.say(f"{summary.screened} samples were dropped by the screen, after one step")
        if summary.recalled:
            progress.say(f"{summary.recalled} samples were copies of captions scored before")
        if summary.actors:
            shares = ", ".join(f"{a['denoiser_share']:.0%}" for a in summary.actors[:16])
            more = ", ..." if len(summary.actors) > 16 else ""
            progress.say(f"{len(summary.actors)} actors, time in the denoiser: {shares}{more}")
        if summary.time_shares:
            parts = ", ".join(f"{name} {part:.1%}" for name, part in summary.time_shares.items())
            progress.say(f"of their time: {parts}")
        if verdict is not None:
            passing = f"p ≤ {verdict.cutoff:.3g}" if verdict.flagged else "no p-value is low enough"
            progress.say(
                f"{verdict.flagged} of {verdict.captions} captions flagged at a false-discovery "
                f"rate of {verdict.rate:g}: {passing}"
            )
        progress.say(f"results in {out}")
    if not summary.is_complete:
        raise IncompleteError(_missing(summary))


def _missing(summary: "Summary") -> str:
    parts = [*summary.incomplete, *(f"{name}: {reason}" for name, reason in summary.quarantined)]
    more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
    return f"incomplete, what could be read is scored: {'; '.join(parts[:5])}{more}"

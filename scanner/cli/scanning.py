"""``scan`` and ``calibrate``."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanner import files
from scanner.activity import Trace
from scanner.cli import confirming, error_rates, notifying, options, progress, settings, tracing
from scanner.cli.notices import Notices
from scanner.errors import ConfigError, IncompleteError
from scanner.signed import redacted
from scanner.spec import FPR, MASK_FLOORS, PIXEL_FPR, ScanSpec
from scanner.text import counted

if TYPE_CHECKING:
    from scanner.analysis.drift import Drift
    from scanner.analysis.fdr import FdrCutoff
    from scanner.cli.confirming import Confirmed
    from scanner.engine.job import Job, Resources, Summary
    from scanner.statistics.calibration import Calibration, Screen


RESOURCES = ("actors", "device", "address", "local", "gpus_per_actor")
"""Options that are resources of a scan."""


@options.takes(
    options.columns,
    options.scoring,
    options.nulls,
    options.flagging,
    options.compared,
    options.confirming,
    options.running,
    notifying.notices,
)
def scan(
    context: typer.Context,
    shards: options.Shards,
    model: options.Model,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", help="A folder, or s3://BUCKET/PREFIX, gs://….", show_default=False
        ),
    ],
    profile: options.Profile = None,
    as_json: options.Json = False,
    **asked: Any,
) -> None:
    r"""Score every caption of SHARDS, localize the flagged ones, write Parquet to a folder.

    Run the same command again and it resumes; a run that is complete does nothing.
    --source image scores every sample at its own image; a sample without one becomes a reject.
    --screen drops captions after one step, as clean: see calibrate --screen-recall.
    With --fdr, captions that may pass are localized as the scan goes; which of them do is settled
    at its end over all captions of the run, and again whenever the run is extended.
    --confirm draws what is flagged again, and says how often its image comes back.
    --notify and --webhook tell people and programs; that they cannot be told changes no exit code.
    Exit codes: 0 complete, 2 cannot start, 3 something is missing, 4 cluster lost, 130 interrupted.

    Example:
        memscan scan 'shards/{00000..00041}.tar' --model CompVis/stable-diffusion-v1-4 --out results
    """
    check_results(out)
    check_events(asked["events"])
    tracing.check(profile, out)
    told = Notices("scan", redacted(out), asked)
    with told.around():
        job = job_of(context, shards=shards, model=model, out=out, **asked)
        confirming.check(job, asked["confirm"])
        with tracing.written(profile) as traces:
            summary, verdict = _scanned(job, asked, told, traces)
        drawn = confirming.after(job, summary, asked)
        told.scan(job, summary)
    _report(summary, out, verdict, drawn, _drift(job, summary), as_json=as_json)


def _scanned(
    job: "Job", asked: dict[str, Any], told: Notices, traces: Callable[[Trace], None] | None
) -> "tuple[Summary, FdrCutoff | None]":
    """Scan; return what came of it, and what a false-discovery rate flags."""
    from scanner.engine.job import Resources

    if job.calibration is None and job.spec.threshold is None and job.spec.localize == "flagged":
        progress.note(
            "neither --calibration nor --threshold: scores only, nothing is flagged or localized"
        )
    resources = Resources(**{name: asked[name] for name in RESOURCES})
    told.started(job)
    summary = run(job, resources, "scan", asked["events"], told, traces)
    if job.spec.fdr is None:
        return summary, None
    from scanner.analysis.findings import apply_cutoff
    from scanner.results.folder import Results

    return summary, apply_cutoff(Results(job.results), summary.run)


@options.takes(options.columns, options.scoring, options.nulls, options.running)
def calibrate(
    context: typer.Context,
    shards: options.Shards,
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibration file to write.")] = Path(
        "calibration.json"
    ),
    pixel_fpr: Annotated[
        float, typer.Option(help="Share of null pixels that a mask may contain.")
    ] = PIXEL_FPR,
    mask_floor: Annotated[
        str,
        typer.Option(
            help="Below what no pixel is in a mask: `pooled`, what --pixel-fpr of all null pixels "
            "exceed; `typical`, the median level of null maps, which finds more of a copy.",
            **options.one_of(MASK_FLOORS),
        ),
    ] = "pooled",
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
    **asked: Any,
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
    from scanner.api.calibrating import (
        CalibrationRequest,
        calibrate_shards,
        null_spec,
        scores_kept,
    )
    from scanner.engine.job import Job, Resources

    work = _work_folder(out)
    check_events(asked["events"])
    asked |= settings.of_preset(context, asked["preset"], asked["source"])
    _note_without_effect(asked)
    name = options.model_of(model, asked["revision"])
    asked |= settings.timestep_of(context, asked, name)
    asked["dtype"] = settings.dtype_of(asked, name)
    spec = _spec(asked, localize="all", **_scores(asked))
    job = Job(
        model=name,
        baselines=options.networks(asked["baseline"]),
        shards=options.listed(shards, asked),
        results=str(work.absolute()),
        spec=null_spec(spec, with_screen=bool(positives)),
        batch_size=options.batch_size(asked["batch_size"]),
        chunk_size=options.chunk_size(asked["chunk_size"]),
        limit=asked["limit"],
        **_of_model(asked),
    )
    request = CalibrationRequest(
        job=job, pixel_fpr=pixel_fpr, mask_floor=mask_floor, one_per_family=one_per_family,
        screen_recall=screen_recall,
        positives=options.listed(positives, asked) if positives else (),
        scores=scores_kept(spec),
    )  # fmt: skip
    resources = Resources(**{name: asked[name] for name in RESOURCES})
    fitted = calibrate_shards(
        request, lambda job, title: run(job, resources, title, asked["events"])
    )
    fitted.save(out)
    progress.say(f"{out}: {fitted.captions} null captions")
    if fitted.others:
        progress.say(f"  scans can flag by {', '.join(('delta_s', *fitted.others))}")
    for line in error_rates.lines(fitted):
        progress.say(f"  {line}")


def check_results(out: str, name: str = "--out") -> None:
    """Refuse results that cannot be written, before a model or a shard is looked at.

    Args:
        out: A path or an address.
        name: What the user calls it.

    Raises:
        ConfigError: If it is a path that cannot be a folder to write into, or an address of no
            store, or the package for the store is not installed.
    """
    from scanner.results import stores

    if "://" in out:
        stores.opened(out)
    else:
        files.check_folder(Path(out).expanduser(), name)


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
    context: typer.Context, *, shards: list[str], model: str, out: str | None,
    must_flag: bool = False, **asked: Any,
) -> "Job":  # fmt: skip
    """Return the job that the options of `scan` ask for.

    Settings that nobody gave are those of the calibration. With ``must_flag`` a calibration that
    can flag nothing at the rate is refused, though the rate is the default.

    Args:
        context: The command's context: it knows which options were given.
        shards: Their addresses.
        model: A folder, a hub id or ``gaussian``.
        out: The results; null for none.
        must_flag: Whether a job that flags nothing is refused.
        asked: The options of `options.scoring`, `options.nulls`, `options.flagging` and
            `options.running`.

    Raises:
        ConfigError: If they contradict each other or cannot be meant.
    """
    from scanner.results import stores

    threshold = asked["threshold"]
    paths = [asked[name] for name in ("calibration", "image_calibration")]
    fpr, fdr = options.rates(
        asked["fpr"], asked["fdr"], threshold, is_calibrated=paths[0] is not None
    )
    if asked["screen"] and asked["screen_threshold"] is not None:
        raise ConfigError(
            "--screen and --screen-threshold exclude each other: the first takes the "
            "calibration's threshold, the second is one"
        )
    nulls = error_rates.check(
        [path for path in paths if path is not None],
        fpr if fdr is None else fdr,
        "--fpr" if fdr is None else "--fdr",
        is_asked=must_flag or asked["fpr"] is not None or fdr is not None,
        decides=threshold is None,
    )
    preset = settings.of_preset(context, asked.get("preset"), asked["source"])
    if paths[0] is not None:
        asked |= _settings_of(context, asked, nulls)
    asked |= preset
    error_rates.check_kinds(nulls, asked, fdr or fpr or FPR)
    _note_without_effect(asked)
    options.refuse_consensus_alone(asked["flag_by"], is_calibrated=paths[0] is not None)
    name = options.model_of(model, asked["revision"])
    asked |= settings.timestep_of(context, asked, name)
    asked["dtype"] = settings.dtype_of(asked, name)
    known = None if paths[0] is None else nulls[0].screen
    spec = _spec(
        asked,
        localize=asked["localize"],
        threshold=threshold,
        pixel_threshold=asked["pixel_threshold"],
        mask_share=asked["mask_share"],
        fpr=fpr,
        fdr=fdr,
        p_values=asked["p_values"],
        **_scores(asked),
        screen=_screen(known, asked["screen_threshold"], wanted=asked["screen"]),
    )
    listed = options.listed(shards, asked)
    from scanner.engine.job import Job  # takes seconds, which a slip should not cost

    calibration, of_images = (None if path is None else str(path.absolute()) for path in paths)
    return Job(
        model=name,
        baselines=options.networks(asked["baseline"]),
        shards=listed,
        results="" if out is None else stores.place(out),
        spec=spec,
        calibration=calibration,
        image_calibration=of_images,
        images=asked.get("evidence", False) and asked["source"] != "image",
        batch_size=options.batch_size(asked["batch_size"]),
        chunk_size=options.chunk_size(asked["chunk_size"]),
        limit=asked["limit"],
        **_of_model(asked),
    )


def _of_model(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what a job says of LoRAs, weights, parts that move, and products it chooses."""
    found = options.over_model(asked["lora"], asked["weights"])
    chosen = {"auto_probes": asked["probes"] == options.AUTO, "offload": asked["offload"]}
    chosen["compile"] = asked["compile"]
    return found | chosen


def _scores(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what a spec says of the options of `options.nulls`."""
    named = options.detectors(asked["detectors"], asked["source"], captions=asked["captions"])
    return {"detectors": named, "flag_by": asked["flag_by"]}


def _spec(asked: dict[str, Any], **more: Any) -> ScanSpec:
    """Return the spec of the options of `options.scoring`, and of what a command adds."""
    names = (
        "steps", "map_back", "guidance_scale", "probe_design", "dtype", "source", "timestep",
        "captions", "size", "target_error",
    )  # fmt: skip
    maps = options.maps(asked["maps"], asked["source"], captions=asked["captions"])
    return ScanSpec(
        seeds=tuple(range(asked["seeds"])),
        maps=maps,
        probes=options.probes(asked["probes"]),
        **{name: asked[name] for name in names},
        **more,
    )


def _settings_of(
    context: typer.Context, asked: dict[str, Any], nulls: "Sequence[Calibration]"
) -> dict[str, Any]:
    """Return the settings that calibrations say and nobody else; say which differ from usual."""
    found = settings.taken_from(context, nulls[0])
    if len(nulls) > 1:
        found.pop("source", None)  # one is of samples, one of images: auto, if anything
        found |= {
            name: value
            for name, value in settings.taken_from(context, nulls[1]).items()
            if name == "timestep"
        }
    if told := settings.differing(context, found):
        progress.note(f"as {asked['calibration']} was calibrated: {told}")
    return found


def _note_without_effect(asked: dict[str, Any]) -> None:
    """Say which options differ from their defaults and do not matter at the source of scores."""
    source, usual = asked["source"], ScanSpec()
    if source == "generated" and asked["noise"] is not None:
        progress.note("--noise is without effect with --source generated")
    unused = {"generated": ("timestep",), "image": ("steps", "guidance_scale")}.get(source, ())
    for name in unused:
        if asked[name] != getattr(usual, name):
            option = f"--{name.replace('_', '-')}"
            progress.note(f"{option} is without effect with --source {source}")


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


def run(
    job: "Job", resources: "Resources", title: str, events: Path | None,
    told: Notices | None = None, traces: Callable[[Trace], None] | None = None,
) -> "Summary":  # fmt: skip
    """Scan, show it, and tell of its events; say first what is not obvious.

    That is: a name of a distilled model, how a baseline is read, what products are taken.
    """
    from scanner.cli.live import watching
    from scanner.engine import driver
    from scanner.engine.identity import refuse, resolved
    from scanner.models.distilled import distillation
    from scanner.models.limits import baseline_reading, limits

    with progress.waiting(f"reading what {job.model} is"):
        refuse(job)
        remarks = [distillation(job.model)]
        remarks += [baseline_reading(job.model, baseline) for baseline in job.baselines]
        asked = resolved(job).spec
        if asked.localize != "none":
            remarks.append(limits(job.model).probing(asked, job.auto_probes))
    for said in filter(None, remarks):
        progress.note(said)
    with watching(title, events) as heard:
        heard = heard if told is None else told.hearing(heard)
        return driver.scan(job, resources, heard, traces=traces)


def _drift(job: "Job", summary: "Summary") -> "Drift | str | None":
    """Return how a scan's captions differ from the null captions, or why it cannot be told."""
    if job.calibration is None or not job.spec.captions or not summary.scored:
        return None
    from scanner.analysis import drift
    from scanner.results.folder import Results

    return drift.of_run(Results(job.results), summary.run) or drift.UNKNOWN


def _report(
    summary: "Summary", out: str, verdict: "FdrCutoff | None", drawn: "Confirmed | None",
    drift: "Drift | str | None", *,
    as_json: bool,
) -> None:  # fmt: skip
    if as_json:
        settled: dict[str, Any] = {} if verdict is None else {"verdict": verdict.as_json()}
        settled |= {} if drawn is None else {"confirmed": drawn.as_json()}
        if drift is not None:
            settled["drift"] = drift if isinstance(drift, str) else drift.as_json()
        progress.say(json.dumps(asdict(summary) | {"complete": summary.is_complete} | settled))
    else:
        progress.say(
            f"run {summary.run}: {summary.samples} samples, {summary.scored} scored, "
            f"{summary.flagged} {'flagged' if verdict is None else 'candidates'}, "
            f"{summary.rejected} rejected, in {summary.seconds:.1f} s{_done_before(summary)}"
        )
        if summary.screened:
            progress.say(f"{summary.screened} samples were dropped by the screen, after one step")
        if summary.recalled:
            progress.say(f"{summary.recalled} samples were copies of captions scored before")
        _say_times(summary)
        for line in _settled(verdict, drawn):
            progress.say(line)
        _say_drift(drift)
        progress.say(f"results in {out}\nthe page: memscan report {shlex.quote(out)}")
    missing = "" if summary.is_complete else summary.missing()
    if missing or (drawn is not None and (missing := drawn.missing)):
        raise IncompleteError(missing)


def _settled(verdict: "FdrCutoff | None", drawn: "Confirmed | None") -> Iterator[str]:
    """Yield what was settled at the end: a false-discovery rate, and what was drawn again."""
    if verdict is not None:
        passing = f"p ≤ {verdict.cutoff:.3g}" if verdict.flagged else "no p-value is low enough"
        yield (
            f"{verdict.flagged} of {verdict.captions} captions flagged at a false-discovery "
            f"rate of {verdict.rate:g}: {passing}"
        )
    if drawn is not None:
        yield drawn.answer()


def _say_times(summary: "Summary") -> None:
    if summary.actors:
        shares = ", ".join(f"{a['denoiser_share']:.0%}" for a in summary.actors[:16])
        more = ", ..." if len(summary.actors) > 16 else ""
        progress.say(
            f"{counted(len(summary.actors), 'actor')}, time in the denoiser: {shares}{more}"
        )
    if summary.time_shares:
        parts = ", ".join(f"{name} {part:.1%}" for name, part in summary.time_shares.items())
        progress.say(f"of their time: {parts}")


def _say_drift(drift: "Drift | str | None") -> None:
    if isinstance(drift, str):
        progress.say(drift)
    elif drift is not None:
        for line in drift.lines():
            progress.say(line)


def _done_before(summary: "Summary") -> str:
    """Return what of a scan's samples earlier scans of the run had committed, ``""`` if none."""
    if not summary.chunks_skipped:
        return ""
    if summary.is_complete and not summary.chunks_done:
        return "; all of it was done before"
    return f"; {counted(summary.chunks_skipped, 'chunk')} done before"

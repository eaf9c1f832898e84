"""``plan``: what a scan would take."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanner.cli import options, progress, scanning
from scanner.errors import ConfigError, IncompleteError
from scanner.text import bytes_text

if TYPE_CHECKING:
    from scanner.planning.forecast import Forecast


@options.takes(
    options.columns, options.scoring, options.nulls, options.flagging, options.running,
    without=("address", "events"),
)  # fmt: skip
def plan(
    context: typer.Context,
    shards: options.Shards,
    model: options.Model,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", show_default=False,
            help="The results folder of the scan: what it has already is not counted again.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1e-6, show_default=False,
            help="Network evaluations per second of one device. Default: the model is loaded and "
            "a few are timed here. With it, a model of a hub is looked at only for --out or a "
            "calibration.",
        ),
    ] = None,
    gradient_cost: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=100, show_default=False,
            help="With --rate: how many evaluations a gradient takes as long as; default 2, an "
            "upper end. A plan without --rate measures and prints it.",
        ),
    ] = None,
    flagged: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, show_default=False,
            help="Share of the captions that you expect to be flagged and localized; default the "
            "false-positive or false-discovery rate, or none without a threshold.",
        ),
    ] = None,
    as_json: options.Json = False,
    **asked: Any,
) -> None:  # fmt: skip
    r"""Say what a scan would take, before it takes it: shards, captions, evaluations, hours.

    Give it what you would give `memscan scan`. Every shard is read once for its captions (not
    its images), by as many processes as there are CPUs, or with --local in this one; nothing is
    written and no Ray started.
    Exit code 3 if something is wrong with a shard.

    Example:
        memscan plan 'laion/{00000..00041}.tar' --model CompVis/stable-diffusion-v1-4 --rate 400
    """
    if flagged is not None and asked["localize"] != "flagged":
        raise ConfigError(
            f"--flagged is of --localize flagged, and --localize is {asked['localize']}: "
            f"leave it out"
        )
    if gradient_cost is not None and rate is None:
        raise ConfigError("--gradient-cost goes with --rate: without, both are measured")
    job = scanning.job_of(context, shards=shards, model=model, out=out, **asked)
    from scanner.engine.job import Resources
    from scanner.planning.forecast import VJP, forecast

    local, gpus = asked["local"], asked["gpus_per_actor"]
    Resources(  # refuses as a scan does
        actors=asked["actors"], device=asked["device"], local=local, gpus_per_actor=gpus
    )
    with progress.meter("count shards") as show:
        found = forecast(
            job, rate=rate, flagged=flagged, device=asked["device"], progress=show, local=local,
            gradient=VJP if gradient_cost is None else gradient_cost, gpus=gpus,
        )  # fmt: skip
    if as_json:
        progress.say(json.dumps(asdict(found)))
    else:
        for name, text in _lines(found, asked["actors"]):
            progress.say(f"{name:12}{text}")
    if found.problems:
        more = f" and {len(found.problems) - 5} more" if len(found.problems) > 5 else ""
        raise IncompleteError(f"a scan would be incomplete: {'; '.join(found.problems[:5])}{more}")


def _lines(found: "Forecast", actors: int | None) -> Iterator[tuple[str, str]]:
    size = bytes_text(found.bytes)
    if found.unsized_shards:
        size += f" and {found.unsized_shards} shards of unknown size"
    yield "shards", f"{found.shards:,}, {size}; from {found.first} to {found.last}"
    if found.failed_downloads:
        text = (
            f"{found.failed_downloads:,} of {found.downloads:,} failed, by img2dataset's statistics"
        )
        yield "downloads", f"{text}: they are in no shard"
    yield from _named(found)
    yield from _unchecked(found)
    if found.done_chunks:
        yield (
            "committed",
            f"{found.done_samples:,} samples in {found.done_chunks:,} chunks, skipped by a scan; "
            f"{found.done_shards:,} whole shards",
        )
    if found.problems:
        yield "damaged", f"{len(found.problems):,} shards; what they hold is not counted in full"
    if not found.samples:
        yield "left", _nothing(found)
        return
    rejected = ", ".join(f"{n:,} {reason}" for reason, n in found.rejected.items())
    yield "left", f"{found.samples:,} samples, {found.captions:,} with a caption to score"
    if rejected:
        yield "rejected", rejected
    error = f", give or take {2 * found.distinct_error:.1%}" if found.distinct_error else ""
    again = found.captions - found.distinct
    yield "distinct", f"{found.distinct:,} captions{error}; {again:,} copies, not scored again"
    yield "samplings", f"{found.draws:,}"
    yield "evaluations", f"{_evaluations(found.detection)} to detect"
    share = f"if {found.flagged_share:.2%} of the captions are flagged (an assumption)"
    share = {0.0: "nothing is localized", 1.0: "of every caption"}.get(found.flagged_share, share)
    yield "", f"{_evaluations(found.localization)} to localize, {share}"
    yield from _time(found, actors)


def _named(found: "Forecast") -> Iterator[tuple[str, str]]:
    """Yield the run's name, and the precision that is part of it, where it is not the usual one."""
    if found.run:
        yield "run", found.run
    if found.dtype != "float32":
        yield "precision", found.dtype


def _unchecked(found: "Forecast") -> Iterator[tuple[str, str]]:
    """Yield what a model that was not looked at may change."""
    if found.model_checked:
        return
    yield "model", "not looked at: a scan may refuse it; without --rate it is checked"
    if found.is_probes_assumed and found.localization.get("vjp"):
        yield (
            "products",
            f"{found.probes} a map and branch are assumed; models of more channels take more "
            f"(docs/models.md): give --probes",
        )


def _nothing(found: "Forecast") -> str:
    """Return what is left where no sample is: known only if the shards can be read."""
    if not found.problems:
        return "nothing"
    if len(found.problems) == found.shards:
        return "unknown: nothing can be said of damaged shards"
    return "nothing in the other shards; nothing can be said of the damaged ones"


def _time(found: "Forecast", actors: int | None) -> Iterator[tuple[str, str]]:
    if found.speed is None or found.hours is None:
        return
    speed, device = found.speed, found.speed.device or "device"
    how = f"measured here at {speed.batch_size} a batch" if speed.device else "as given"
    text = f"{1 / speed.forward:.4g} evaluations/s on one {device}, {how}"
    yield "speed", f"{text}; a gradient takes as long as {speed.vjp / speed.forward:.1f}"
    width = f", {_hours(found.hours / actors)} on {actors}" if actors and actors > 1 else ""
    text = f"{_hours(found.hours)} of one {device} in the network{width}"
    yield "estimate", f"{text}; reading and writing come on top"


def _evaluations(counts: dict[str, int]) -> str:
    names = {"forward": "forward", "vjp": "gradients", "jvp": "tangents"}
    parts = [f"{n:,} {names[name]}" for name, n in counts.items() if n]
    return ", ".join(parts) or "0"


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.2g} s"
    return f"{hours * 60:.2g} min" if hours < 1 else f"{hours:,.3g} h"

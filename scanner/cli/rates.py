"""``rates``: how many null captions a rate takes, what a calibration supports, what it finds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanner.cli import options, progress
from scanner.cli.error_rates import RATES
from scanner.cli.selection import selected_one
from scanner.errors import ConfigError
from scanner.text import aligned

if TYPE_CHECKING:
    from scanner.analysis.power import Power
    from scanner.statistics.calibration import Calibration
    from scanner.statistics.rate_planning import Needed, Share

SHARES = (0.1, 0.01, 0.001, 0.0001)
"""Of memorized captions in a corpus."""


def rates(
    calibration: Annotated[
        Path | None,
        typer.Argument(help="A calibration, for what it supports.", show_default=False),
    ] = None,
    fpr: Annotated[
        list[float] | None,
        typer.Option(
            help="A false-positive rate; repeat. Default 0.05, 0.01, 0.001 and 0.0001.",
            show_default=False,
        ),
    ] = None,
    within: Annotated[
        float, typer.Option(help="The factor by which one calibration's own rate may be off.")
    ] = 2.0,
    share: Annotated[
        list[float] | None,
        typer.Option(
            help="A share of memorized captions, for the smallest false-discovery rate; repeat. "
            "Default 0.1, 0.01, 0.001 and 0.0001.",
            show_default=False,
        ),
    ] = None,
    positives: Annotated[
        str | None,
        typer.Option(
            "--positives",
            help="Results with known memorized captions, for the share of them that is flagged.",
            show_default=False,
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth", "-t", help="With --positives: their truth table (Parquet).",
            show_default=False,
        ),
    ] = None,
    extraction: Annotated[
        Path | None,
        typer.Option(
            help="With --truth: what `benchmark measure` sampled, for what comes back.",
            show_default=False,
        ),
    ] = None,
    run: options.Run = None,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    r"""Plan the error: null captions that a rate takes, what a calibration supports, its power.

    Without a calibration: how many null captions (or families of near-identical ones) flag
    anything at a rate, and how many keep one calibration's own rate within a factor of it, with
    95%. With one: what it supports. With --positives and --truth: the share of these memorized
    captions that it flags, by kind, and by dose and by what comes back if the tables have it.

    Example:
        memscan rates calibration.json --fpr 0.01 --within 1.5
    """
    from scanner.statistics import rate_planning as planning

    asked = tuple(fpr or RATES)
    if (positives is None) != (truth is None):
        raise ConfigError("power needs both --positives and --truth")
    if positives is not None and calibration is None:
        raise ConfigError("power is of a calibration: name one before --positives")
    if wrong := [one for one in share or () if not 0 < one <= 1]:
        raise ConfigError(f"--share must be above 0 and at most 1, got {wrong[0]:g}")
    found: dict[str, Any] = {"needed": [planning.null_captions(rate, within) for rate in asked]}
    if calibration is not None:
        from scanner.statistics.calibration import load

        fitted = load(calibration)
        found["calibration"] = _supported(fitted, asked, share or SHARES)
        if positives is not None and truth is not None:
            found["power"] = _power(positives, run, truth, extraction, fitted, asked)
    if as_json:
        progress.say(json.dumps(_plain(found)))
        return
    progress.say("\n\n".join(_text(found, within, calibration)))


def _supported(
    fitted: "Calibration", asked: Sequence[float], shares: Sequence[float]
) -> dict[str, Any]:
    """Return what a calibration supports at rates and shares of memorized captions."""
    from scanner.cli.error_rates import own_rate
    from scanner.statistics.rate_planning import least_fdr, off_by

    rows = list[dict[str, float | None]]()
    for rate in asked:
        low, high = own_rate(fitted, rate) or (None, None)
        factor = off_by(rate, (low, high)) if low and high else None
        rows.append(
            {"rate": rate, "on_average": _promised(fitted, rate) if high else None,
             "low": low, "high": high, "off_by": factor}
        )  # fmt: skip
    is_fdr = fitted.corpus is None or bool(fitted.corpus.copies)
    return {
        "null_captions": fitted.captions,
        "families": fitted.families,
        "null_scores": len(fitted.null_scores),
        "nulls": fitted.nulls or "captions that were given as nulls",
        "smallest_p": fitted.min_p,
        "rates": rows,
        "false_discovery_rates": [
            {"share": one, "smallest": least_fdr(fitted.min_p, one) if is_fdr else None}
            for one in shares
        ],
    }


def _promised(fitted: "Calibration", rate: float) -> float | None:
    """Return what a nominal rate is at most on average over calibrations."""
    from scanner.statistics.contamination import promise

    return rate if fitted.corpus is None else promise(fitted.corpus, rate).at_most


def _power(
    positives: str, run: list[str] | None, truth: Path, extraction: Path | None,
    fitted: "Calibration", asked: Sequence[float],
) -> "list[Power]":  # fmt: skip
    from scanner.analysis.power import power

    chosen = selected_one(positives, run)
    return power(
        chosen.store, chosen.run, truth, fitted, asked, extraction=extraction, shards=chosen.shards
    )


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON holds: rates are keys of no object."""
    plain = dict(found) | {"needed": [asdict(row) for row in found["needed"]]}
    if "power" in found:
        plain["power"] = [
            {"group": row.group, "name": row.name,
             "flagged": [{"rate": rate, **asdict(own)} for rate, own in row.flagged.items()]}
            for row in found["power"]
        ]  # fmt: skip
    return plain


def _text(found: dict[str, Any], within: float, path: Path | None) -> Iterator[str]:
    heads = ["rate", "to flag anything", f"within a factor of {within:g}", "its own rate then, 95%"]
    yield "Null captions for a false-positive rate\n" + aligned(
        heads, [_needed(row) for row in found["needed"]]
    )
    if "calibration" not in found:
        return
    own = found["calibration"]
    families = "" if own["families"] is None else f", {own['families']:,} families"
    yield (
        f"{path}: {own['null_captions']:,} null captions{families}; nulls: {own['nulls']}; the "
        f"smallest p-value is {own['smallest_p']:.3g}\n"
    ) + aligned(
        ["rate", "on average", "its own rate, 95%", "off by a factor of"], map(_own, own["rates"])
    )
    yield (
        "The smallest false-discovery rate, where a share is memorized and has that p\n"
        + aligned(
            ["memorized", "rate"],
            [[f"{r['share']:.4g}", _or_none(r["smallest"])] for r in own["false_discovery_rates"]],
        )
    )
    if "power" in found:
        yield "Memorized captions that are flagged (95%), one per family\n" + _table(found["power"])


def _needed(row: "Needed") -> list[object]:
    between = f"{row.low:.3g} to {row.high:.3g}"
    return [f"{row.rate:g}", f"{row.least:,}", f"{row.within:,}", between]


def _own(row: dict[str, Any]) -> list[object]:
    if row["high"] is None:
        return [f"{row['rate']:g}", "", "too few null captions", ""]
    low = f"{row['low']:.3g} to " if row["low"] else "at most "
    factor = "" if row["off_by"] is None else f"{row['off_by']:.3g} at most"
    average = f"at most {row['on_average']:.3g}"
    return [f"{row['rate']:g}", average, f"{low}{row['high']:.3g}", factor]


def _or_none(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:.3g}"


def _table(rows: "Sequence[Power]") -> str:
    asked = list(rows[0].flagged)
    lines = [
        [f"{row.group} {row.name}".strip(), next(iter(row.flagged.values())).number,
         *(_share(row.flagged[rate]) for rate in asked)]
        for row in rows
    ]  # fmt: skip
    return aligned(["captions", "number", *(f"at {rate:g}" for rate in asked)], lines)


def _share(own: "Share") -> str:
    return f"{own.hits / own.number:.1%} [{own.low:.1%}, {own.high:.1%}]"

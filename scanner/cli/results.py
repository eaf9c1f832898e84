"""Looking at results: ``query``, ``show``, ``eval`` and ``runs``."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from scanner import files
from scanner.cli import options, progress
from scanner.cli.selection import newest, opened, selected, selected_one
from scanner.errors import IncompleteError


def query(
    results: options.Results,
    sql: Annotated[str, typer.Argument(help="One SELECT.", show_default=False)],
    fmt: Annotated[
        str, typer.Option("--format", "-f", help="`table`, `csv`, `json` or `parquet`.")
    ] = "table",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many rows.", show_default=False)
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            help="A file of your own that the query may read too, by this path; repeat.",
            show_default=False,
        ),
    ] = None,
    spreadsheet: Annotated[
        bool,
        typer.Option(
            "--spreadsheet",
            help="With -f csv: drop hidden characters and put ' before what a spreadsheet would "
            "compute. Without it CSV is exact.",
        ),
    ] = False,
    run: options.Runs = None,
    all_runs: options.AllRuns = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            help="After an audit: every run, and shards that were superseded or removed, too.",
        ),
    ] = False,
) -> None:
    r"""Run one SELECT over the results with DuckDB, read-only.

    The views hold the newest complete run, or those of --run, or with --all-runs every run. Of an
    audit's results, they hold the run and the shards that the last audit counted.

    Views: `scores`, `masks`, `rejects`, `runs`, `captions` (a row per distinct caption), `findings`
    (a row per flagged caption with its strongest evidence, worst first), `finding_maps` (a row per
    map of a finding) and `retrieved` (what `retrieve` found). Recipes: docs/sql.md.

    Example:
        memscan query results "SELECT caption, worst FROM captions ORDER BY worst DESC LIMIT 10"
    """
    from scanner.analysis.query import run_query

    if out is not None:
        files.check_file(out, "--out")
    chosen = selected(results, run, all_runs=all_runs, everything=everything)
    width = progress.table_width()
    asked: dict[str, Any] = {
        "limit": limit, "runs": chosen.runs, "shards": chosen.shards, "also": beside or (),
        "cells": "spreadsheet" if spreadsheet else "exact",
    }  # fmt: skip
    if out is None or fmt == "parquet":
        if not spreadsheet and sys.stdout.isatty():
            asked["cells"] = "visible"
        run_query(chosen.store, sql, fmt, sys.stdout, path=out, width=width, **asked)
        return
    with files.text(out) as stream:
        run_query(chosen.store, sql, fmt, stream, **asked)


def show(
    results: options.Results,
    key: Annotated[
        str,
        typer.Argument(
            help="A sample's key, or the start of a caption's hash.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")] = Path("panel.png"),
    truth: Annotated[
        Path | None,
        typer.Option(help="A truth table, to draw the true mask too.", show_default=False),
    ] = None,
    run: options.Run = None,
    everything: options.Everything = False,
) -> None:
    r"""Draw one caption: training image, generated image, Δs, Δh and the mask.

    Example:
        memscan show results eval000017 --out panel.png
    """
    from scanner.report import panel
    from scanner.shards import reading

    files.check_file(out, "--out")
    chosen = selected_one(results, run, everything=everything)
    picture = panel.panel(
        chosen.store, chosen.run, key, reading.image,
        truth=None if truth is None else str(truth), shards=chosen.shards,
    )  # fmt: skip
    with files.binary(out) as stream:
        picture.save(stream, "PNG")
    progress.say(str(out))


def evaluate(
    results: options.Results,
    truth: Annotated[
        Path, typer.Option("--truth", "-t", help="The truth table (Parquet).", show_default=False)
    ],
    run: options.Run = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamplings behind the intervals.")] = 500,
    brief: Annotated[
        bool, typer.Option("--brief", help="Without the rows by kind; templates alone.")
    ] = False,
    figures: Annotated[
        Path | None,
        typer.Option(
            help="Folder for ROC, score distributions, IoU by threshold and maps, as PNG.",
            show_default=False,
        ),
    ] = None,
    smooth: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of the mean filter that maps are smoothed with, odd, in their pixels; the "
            "paper's is 13 of 64, and the default is that in proportion.",
            show_default=False,
        ),
    ] = None,
    everything: options.Everything = False,
    as_json: options.Json = False,
) -> None:
    r"""Compare a run with a known truth.

    Detection: AUC, TPR at 1% and 0.1% FPR (with fewer than 100 or 1,000 negatives: with no false
    positive among them), average precision, with intervals over caption families.
    Localization: IoU, mIoU and accuracy at the threshold that is best on these very maps
    (`oracle`, as published) and at the calibrated one (`deployed`).

    Example:
        memscan eval results --truth truth.parquet --figures figures
    """
    from scanner.analysis.evaluate import evaluate as measure

    if figures is not None:
        files.check_folder(figures, "--figures")
    chosen = selected_one(results, run, everything=everything)
    found = measure(
        chosen.store, chosen.run, truth, bootstrap=bootstrap, smooth=smooth, shards=chosen.shards
    )
    if figures is not None:
        from scanner.report.figures import draw

        drawn = draw(chosen.store, chosen.run, truth, figures, shards=chosen.shards)
        progress.note("figures: " + ", ".join(map(str, drawn)))
    found = found.headlines() if brief else found
    width = progress.table_width()
    progress.say(found.as_json() if as_json else found.as_text(width))


def runs(results: options.Results, as_json: options.Json = False) -> None:
    r"""List the runs of a results folder and how far they are.

    A run whose record says complete is incomplete if commits are missing: `verify` names them.

    Example:
        memscan runs results
    """
    from scanner.results.commit_file import Counts
    from scanner.results.run_file import RunFile
    from scanner.text import aligned

    store = opened(results)
    records, named = list[RunFile](), list[str]()
    committed: list[list[Counts]] = []
    timed: list[tuple[str, str]] = []
    for name in store.runs():
        commits = store.commits(name)
        records.append(store.verified_run(name, commits))
        named.append(name)
        committed.append([commit.counts for commit in commits.values()])
        timed.append(_shares([commit.content for commit in commits.values()]))
    if as_json:
        shown = [{**r.content, "run": name} for r, name in zip(records, named, strict=True)]
        progress.say(json.dumps(shown, default=str))
        return
    totals = ("samples", "scored", "flagged", "rejected")
    rows: list[list[object]] = []
    for run, record, counts in zip(named, records, committed, strict=True):
        sums = [sum(getattr(each, name) for each in counts) for name in totals]
        rows.append([run, record.started, record.content.get("status", ""), *sums])
    heads = ["run", "started", "status", *totals]
    if any(network for network, _ in timed):
        heads += ["in network", "waiting"]
        rows = [[*row, *shares] for row, shares in zip(rows, timed, strict=True)]
    if any(record.verdict for record in records):
        heads.append("findings")
        for row, record in zip(rows, records, strict=True):
            verdict = record.verdict
            row.append(f"{verdict.flagged} at FDR {verdict.rate:g}" if verdict else "")
    progress.say(aligned(heads, rows))


def _shares(commits: list[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the shares of the actors' time in the networks and waiting.

    Of the commits that tell them; those of earlier versions took more for the network's time.
    """
    from scanner.records import parts_of

    seconds, parts = 0.0, Counter[str]()
    for commit in commits:
        if own := parts_of(commit):
            seconds += commit["seconds"]
            parts.update(own)
    if not seconds:
        return "", ""
    network = parts["network"] + parts["product"]
    return f"{network / seconds:.1%}", f"{parts['waiting'] / seconds:.1%}"


def verify(
    results: options.Results,
    run: options.RunOfFiles = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Read the shards again and compare their keys.")
    ] = False,
    mend: Annotated[
        bool,
        typer.Option("--repair", help="Set damaged chunks aside, remove day-old orphan files."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    r"""Prove that a run is whole: commits, files, digests, rows, no sample twice, no range twice.

    Exit code 3 if something is wrong. The same scan again does chunks anew that are missing; of
    damaged ones after `--repair`, which sets them aside.

    Example:
        memscan verify results
    """
    from scanner.results import verify as checking
    from scanner.results.repair import repair

    store = opened(results)
    if not store.runs() and (lost := checking.strays(store)):
        raise IncompleteError("; ".join(problem.text for problem in lost))
    chosen = newest(results, run)
    with progress.meter("verify") as show:
        lost = [] if run else checking.strays(store)
        found = checking.verify(store, chosen.run, show, keys=keys)
        found.problems += lost
    if mend:
        repair(store, found)
    if as_json:
        progress.say(json.dumps(found.as_json()))
    else:
        read = f", keys of {found.shards_read} compared" if keys else ""
        progress.say(
            f"run {found.run}: {found.chunks} chunks, {found.samples} samples of {found.shards} "
            f"shards{read}: {'sound' if found.is_sound else 'NOT sound'}"
        )
        for problem in found.problems[:50]:
            progress.say(f"  {problem.kind}  {problem.chunk}  {problem.text}".rstrip())
        if len(found.problems) > 50:
            progress.say(f"  and {len(found.problems) - 50} more: --json has all")
        for line in found.notes:
            progress.say(f"  {line}")
    if not found.is_sound:
        raise IncompleteError(
            f"{len(found.problems)} problems in run {found.run}: {found.advice(repaired=mend)}"
        )

"""Looking at results: ``query``, ``show``, ``eval`` and ``runs``."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from scanner import files
from scanner.cli import options, progress
from scanner.errors import ConfigError, IncompleteError, ResultsError


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
    run: options.Run = None,
    everything: options.Everything = False,
) -> None:
    r"""Run one SELECT over the results with DuckDB, read-only.

    Of an audit's results, the views hold the run and the shards that the last audit counted.

    Views: `scores`, `masks`, `rejects`, `runs`, `captions` (a row per distinct caption), `findings`
    (flagged captions with their masks, worst first) and `retrieved` (what `retrieve` found).
    Recipes: docs/sql.md.

    Example:
        memscan query results "SELECT caption, worst FROM captions ORDER BY worst DESC LIMIT 10"
    """
    from scanner.audit.query import run_query

    if out is not None:
        files.check_file(out, "--out")
    store, chosen, shards = looked_at(results, run, everything=everything)
    runs = None if chosen is None else [chosen]
    width = shutil.get_terminal_size((120, 24)).columns
    if out is None or fmt == "parquet":
        run_query(
            store,
            sql,
            fmt,
            sys.stdout,
            path=out,
            limit=limit,
            width=width,
            runs=runs,
            shards=shards,
            also=beside or (),
        )
        return
    with files.text(out) as stream:
        run_query(store, sql, fmt, stream, limit=limit, runs=runs, shards=shards, also=beside or ())


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
) -> None:
    r"""Draw one caption: training image, generated image, Δs, Δh and the mask.

    Example:
        memscan show results eval000017 --out panel.png
    """
    from scanner.audit import panel
    from scanner.io import shards

    files.check_file(out, "--out")
    store = opened(results)
    picture = panel.panel(
        store, run or newest(store), key, shards.image, truth=None if truth is None else str(truth)
    )
    with files.binary(out) as stream:
        picture.save(stream, "PNG")
    typer.echo(str(out))


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
    from scanner.audit.evaluate import evaluate as measure

    if figures is not None:
        files.check_folder(figures, "--figures")
    store = opened(results)
    name = run or newest(store)
    found = measure(store, name, truth, bootstrap=bootstrap, smooth=smooth)
    if figures is not None:
        from scanner.audit.figures import draw

        progress.note("figures: " + ", ".join(map(str, draw(store, name, truth, figures))))
    found = found.headlines() if brief else found
    width = shutil.get_terminal_size((140, 24)).columns
    typer.echo(found.as_json() if as_json else found.as_text(width))


def runs(results: options.Results, as_json: options.Json = False) -> None:
    r"""List the runs of a results folder and how far they are.

    Example:
        memscan runs results
    """
    from scanner.audit.text import aligned

    store = opened(results)
    records: list[dict[str, Any]] = [store.read_run(name) | {"run": name} for name in store.runs()]
    if as_json:
        typer.echo(json.dumps(records, default=str))
        return
    rows: list[list[object]] = []
    for record in records:
        commits = store.commits(record["run"]).values()
        counts = [commit["counts"] for commit in commits]
        total = {
            name: sum(c[name] for c in counts)
            for name in ("samples", "scored", "flagged", "rejected")
        }
        verdict = record.get("verdict")
        found = f"{verdict['flagged']} at FDR {verdict['rate']:g}" if verdict else ""
        rows.append(
            [record["run"], record.get("started", ""), record.get("status", ""), *total.values(),
             found]
        )  # fmt: skip
    heads = ["run", "started", "status", "samples", "scored", "flagged", "rejected", "captions"]
    typer.echo(aligned(heads, rows))


def verify(
    results: options.Results,
    run: options.Run = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Read the shards again and compare their keys.")
    ] = False,
    mend: Annotated[
        bool,
        typer.Option("--repair", help="Set damaged chunks aside, remove day-old orphan files."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    r"""Prove that a run is whole: files, digests, rows, no sample twice, no range twice.

    Exit code 3 if something is wrong. After `--repair`, scan again: what was set aside is done
    anew.

    Example:
        memscan verify results
    """
    from scanner.io import verify as checking

    store = opened(results)
    with progress.meter("verify") as show:
        found = checking.verify(store, run or newest(store), show, keys=keys)
    if mend:
        checking.repair(store, found)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        read = f", keys of {found.shards_read} compared" if keys else ""
        typer.echo(
            f"run {found.run}: {found.chunks} chunks, {found.samples} samples of {found.shards} "
            f"shards{read}: {'sound' if found.is_sound else 'NOT sound'}"
        )
        for problem in found.problems[:50]:
            typer.echo(f"  {problem.kind}  {problem.chunk}  {problem.text}".rstrip())
        if len(found.problems) > 50:
            typer.echo(f"  and {len(found.problems) - 50} more: --json has all")
        for line in found.notes:
            typer.echo(f"  {line}")
    if not found.is_sound:
        advice = "set aside; scan again" if mend else "memscan verify --repair sets it aside"
        raise IncompleteError(f"{len(found.problems)} problems in run {found.run}: {advice}")


def opened(place: str):  # noqa: ANN201
    """Return the results in a bucket or a folder, which may be the state folder of an audit.

    Raises:
        ResultsError: If there are none.
    """
    from scanner.io.results import Results
    from scanner.nightly.state import State

    state = None if "://" in place else State.around(Path(place))
    store = Results(place) if state is None else state.results
    if not store.exists():
        raise ResultsError(f"no results in {place}: scan into it first")
    return store


def looked_at(folder: str, run: str | None, *, everything: bool):  # noqa: ANN201
    """Return results, run and shards to look at; null stands for all.

    Of an audit's results these are what the last audit counted, unless everything is asked for.

    Raises:
        ResultsError: If there are no results.
    """
    from scanner.nightly.state import State

    store = opened(folder)
    state = None if "://" in folder else State.around(folder)
    if state is None or everything:
        return store, run, None
    current, shards = state.current()
    return store, run or current, shards


def newest(store) -> str:  # noqa: ANN001
    """Return the run that was started last.

    Raises:
        ConfigError: If there is none.
    """
    names = store.runs()
    if not names:
        raise ConfigError(f"no run in {store.root}: scan into it first")
    return names[-1]

"""``removal``: from findings to lists by which data tools leave samples out."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from scanner import files
from scanner.cli import options, progress
from scanner.cli.reports import Fdr, Redact
from scanner.cli.selection import selected_one
from scanner.errors import ConfigError

LEVELS = ("critical", "high", "medium", "low")


def removal(
    results: options.Results,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the lists.", show_default=False)
    ],
    least: Annotated[
        str,
        typer.Option(
            "--severity",
            **options.one_of(LEVELS),
            help="The least severity of a finding whose samples are listed, as `audit` has it.",
        ),
    ] = "low",
    fdr: Fdr = None,
    redact_captions: Redact = False,
    run: options.Run = None,
    everything: options.Everything = False,
    as_json: options.Json = False,
) -> None:
    r"""List the samples to leave out of a corpus, so that data tools can do it.

    Of every finding: the samples that carry its caption, and those whose image it copies, if
    `memscan retrieve` looked. `removal.parquet` and `removal.csv` have shard, file, key, row and
    url of each; `urls.txt` has the addresses. No data is changed. The page *Remove samples* has
    what filters WebDataset shards, tables, Hugging Face datasets and img2dataset's input by them.

    Example:
        memscan removal results --out removal --severity medium
    """
    from scanner.analysis.diff import RunView
    from scanner.nightly.handover import write_handover

    if least not in LEVELS:
        raise ConfigError(f"--severity must be one of {', '.join(LEVELS)}, got {least!r}")
    files.check_folder(out, "--out")
    chosen = selected_one(results, run, everything=everything)
    view = RunView(results=chosen.store, run=chosen.run, shards=chosen.shards, fdr=fdr)
    with closing(view.open()) as con:
        done = write_handover(con, out, least=least, redact=redact_captions)
    if as_json:
        progress.say(json.dumps({"run": chosen.run} | asdict(done)))
        return
    progress.say(
        f"{out / 'removal.parquet'}: {done.samples:,} samples of {done.findings:,} findings in "
        f"{done.shards:,} shards; {out / 'urls.txt'}: {done.urls:,} addresses"
    )
    if done.unplaced:
        progress.note(
            f"{done.unplaced:,} samples of tables have no row number, because their table cannot "
            f"be read where it was scanned: filter those by key"
        )

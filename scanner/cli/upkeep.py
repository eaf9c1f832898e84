"""``compact``."""

import json
from typing import Annotated

import typer

from scanner.cli import options, progress
from scanner.cli.selection import newest

MIB = 2**20


def compact(
    results: options.Results,
    run: options.RunOfFiles = None,
    target_size: Annotated[
        float, typer.Option(min=0.001, help="Size of a packed file, in MiB.")
    ] = 256.0,
    old: Annotated[
        bool,
        typer.Option("--remove-old", help="Remove the files that packs replaced a while ago."),
    ] = False,
    grace: Annotated[
        float,
        typer.Option(
            min=0,
            help="With --remove-old: how old, in hours, a pack must be; longer than a query runs.",
        ),
    ] = 24.0,
    as_json: options.Json = False,
) -> None:
    r"""Pack the small files of a run into large ones, which queries read many times faster.

    Rows, chunks and commits stay what they are: a scan resumes, an audit goes on. May be stopped
    and run again at any time, also while others query. The files that were packed stay for queries
    that have begun, until --remove-old finds their pack older than --grace.

    Example:
        memscan compact results --remove-old
    """
    from scanner.results import compact as packing

    chosen = newest(results, run)
    store = chosen.store
    with progress.meter("compact") as show:
        done = packing.compact(store, chosen.run, show, target=int(target_size * MIB))
    if old:
        packing.remove_old(store, done, grace=grace * 3600)
    packing.note_old(store, done)
    if as_json:
        progress.say(json.dumps(done.as_json()))
        return
    if done.chunks:
        progress.say(
            f"run {done.run}: {done.chunks} chunks, {done.rows} rows, "
            f"{done.bytes_before / MIB:.1f} MiB packed into {done.bytes_after / MIB:.1f} MiB; "
            f"queries open {done.files_after} files instead of {done.files_before}"
        )
    else:
        progress.say(f"run {done.run}: nothing to pack, queries open {done.files_after} files")
    if done.removed:
        progress.say(f"{done.removed} old files removed")
    if done.old_files:
        progress.say(
            f"{done.old_files} old files ({done.old_bytes / MIB:.1f} MiB) stay for queries that "
            f"have begun; --remove-old removes them {grace:g} hours after they were packed"
        )

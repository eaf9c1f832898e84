"""Repair of a run: damaged chunks and packs set aside, old files that nothing lists removed."""

import time
from collections.abc import Iterator

from scanner.results import manifest
from scanner.results.commit_file import CommitFile
from scanner.results.file_checks import check_files, stored_files
from scanner.results.folder import Results
from scanner.results.problems import Verification
from scanner.results.verify import verify

SAFE_AGE_SECONDS = 24 * 3600.0
"""A file that no record lists may belong to a commit on its way; after a day it does not."""


def repair(results: Results, found: Verification) -> None:
    """Set damaged chunks aside, so that the next scan does them anew; remove old orphans.

    The record of a damaged chunk is moved to ``quarantine/<run>/``; its files lose their record
    and go as orphans when they are a day old. A damaged pack is dissolved: the files that it
    replaced count again, and chunks whose files are gone are set aside. What was done is added to
    ``found.notes``.

    Raises:
        ResultsError: If the store cannot be written to.
    """
    run = found.run
    if mended := manifest.repair_partial_entry(results.store, run):
        found.notes += [f"{name}: set aside" for name in mended]
        found.problems += verify(results, run, lambda *_: None).problems
    bad = {p.chunk for p in found.problems if p.chunk and p.kind != "range"}
    for number in sorted({p.pack for p in found.problems if p.pack is not None}):
        for record in _dissolve_pack(results, run, number, found):
            bad |= {p.chunk for p in check_files(results, record.files, [record], set(), None)}
            # The pack's copy of a record is the last one, where the chunk's own was lost.
            name = f"commits/{run}/{record.chunk}.json"
            if record.chunk not in bad and results.store.entry(name) is None:
                results.store.create(name, manifest.encoded(record.content))
    for chunk in sorted(bad):
        name = f"commits/{run}/{chunk}.json"
        content = results.store.read(name)
        if content is None:
            continue
        results.store.put(f"quarantine/{run}/{chunk}.json", content)
        results.store.remove(name)
        found.notes.append(f"{chunk}: set aside, the next scan does it anew")
    _remove_orphans(results, found)


def _dissolve_pack(
    results: Results, run: str, number: int, found: Verification
) -> Iterator[CommitFile]:
    """Dissolve a pack and yield the records of its chunks; nothing if it is out of effect."""
    while number in (history := results.history(run)).in_effect:
        if manifest.append(results.store, run, history.length, {"dissolves": [number]}):
            found.notes.append(f"pack {number}: dissolved, the files that it replaced count again")
            yield from history.packs[number].commits.values()
            return


def _remove_orphans(results: Results, found: Verification) -> None:
    history, now = results.history(found.run), time.time()
    known = {
        file.path
        for record in results.commits(found.run).values()
        for file in record.files.values()
    }
    for pack in history.effective():
        known |= history.replaced(pack) | {file.path for file in pack.files.values()}
    for entry in stored_files(results, found.run):
        if entry.name not in known and now - entry.modified > SAFE_AGE_SECONDS:
            results.store.remove(entry.name)
            found.notes.append(f"{entry.name}: removed, nothing lists it")

"""The folders of audits below ``audits/``: which there are, and how one appears whole.

An audit counts once its ``audit.json`` is there. In a folder all files appear by one rename; in a
bucket every file is created and none replaced, and ``audit.json`` is created last.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from scanner import files
from scanner.errors import LeaseError
from scanner.results.stores import LocalStore, Store

RECORD = "audit.json"
"""The file that makes an audit count."""
_NAME = re.compile(r"\d{6}-\d{4}-\d{2}-\d{2}")


def finished(store: Store) -> list[str]:
    """Return the names of the audits that count, the latest last.

    Raises:
        ResultsError: If the store cannot be read.
    """
    if isinstance(store, LocalStore):
        return [name for name in begun(store) if store.entry(f"audits/{name}/{RECORD}")]
    parts = (entry.name.split("/") for entry in store.entries("audits"))
    return sorted(p[1] for p in parts if p[2:] == [RECORD] and _NAME.fullmatch(p[1]))


def begun(store: Store) -> list[str]:
    """Return the names of all audits, also of those that a kill left half-written in a bucket.

    Raises:
        ResultsError: If the store cannot be read.
    """
    return list(filter(_NAME.fullmatch, store.folders("audits")))


def publish(
    store: Store, name: str, write: Callable[[Path], None], still: Callable[[], None]
) -> None:
    """Make an audit appear whole, and remove what killed ones left.

    Args:
        store: The state.
        name: The audit.
        write: Fills a local folder.
        still: Raises an error if the state is not ours any more.

    Raises:
        OutputError: If it cannot be written.
        ResultsError: If the bucket cannot be read or written to.
        LeaseError: If another audit is written under this name.
    """
    if isinstance(store, LocalStore):
        final = Path(store.address(f"audits/{name}"))
        for left in final.parent.glob(".*.partial"):
            shutil.rmtree(left, ignore_errors=True)
        with files.folder(final) as partial:
            write(partial)
        return
    with tempfile.TemporaryDirectory(prefix="memscan-audit-") as scratch:
        write(Path(scratch))
        _clean(store, name, still)
        content = {path.name: path.read_bytes() for path in sorted(Path(scratch).iterdir())}
        if not _uploaded(store, name, content, still):
            raise LeaseError(
                f"{store.address(f'audits/{name}')} is written by another audit: this one stops, "
                f"and what it scanned is kept; run it again"
            )


def _uploaded(
    store: Store, name: str, content: dict[str, bytes], still: Callable[[], None]
) -> bool:
    """Create an audit's files, what makes them count last; False if any is another's."""
    record = content.pop(RECORD)
    for file, text in content.items():
        still()
        if not store.create(f"audits/{name}/{file}", text):
            return False
    still()
    there = {e.name.rpartition("/")[2]: e.size for e in store.entries(f"audits/{name}")}
    if there != {file: len(text) for file, text in content.items()}:
        return False
    return store.create(f"audits/{name}/{RECORD}", record)


def _clean(store: Store, name: str, still: Callable[[], None]) -> None:
    """Remove the files of earlier audits that were never finished; nobody writes them any more."""
    left = {audit for audit in begun(store) if audit < name}
    for audit in left.difference(finished(store)):
        for entry in store.entries(f"audits/{audit}"):
            still()
            store.remove(entry.name)

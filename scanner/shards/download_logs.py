"""What img2dataset says beside its shards of the downloads that failed."""

import os
from collections.abc import Iterable
from pathlib import Path

from scanner.parsing import object_from_json
from scanner.shards.kinds import TARS

STATS = "_stats.json"
MOST_BYTES = 1 << 20


def failed_downloads(addresses: Iterable[str]) -> tuple[int, int]:
    """Return how many downloads failed, and of how many, by the statistics beside local tars.

    Args:
        addresses: Of shards; those without statistics beside them count for nothing.
    """
    failed, every, there = 0, 0, dict[str, frozenset[str] | None]()
    for address in addresses:
        end = next((end for end in TARS if address.lower().endswith(end)), "")
        if not end or "://" in address:
            continue
        folder, name = os.path.split(address[: -len(end)] + STATS)
        if folder not in there:
            there[folder] = _statistics(folder)
        if (listed := there[folder]) is None or name in listed:
            count, successes = _counts(Path(folder, name))
            failed, every = failed + count - successes, every + count
    return failed, every


def _statistics(folder: str) -> frozenset[str] | None:
    """Return the names of the statistics in a folder, null where it does not list what it has."""
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(each.name for each in entries if each.name.endswith(STATS))
    except OSError:
        return None


def _counts(path: Path) -> tuple[int, int]:
    """Return downloads and those that succeeded; zeros where that is not said soundly."""
    try:
        with path.open("rb") as file:
            found = object_from_json(file.read(MOST_BYTES))
    except (OSError, ValueError):
        return 0, 0
    count, successes = found.get("count"), found.get("successes")
    if not isinstance(count, int) or not isinstance(successes, int):
        return 0, 0
    return (count, successes) if 0 <= successes <= count else (0, 0)

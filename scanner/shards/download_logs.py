"""What img2dataset says beside its shards of the downloads that failed."""

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
    failed = every = 0
    for address in addresses:
        end = next((end for end in TARS if address.lower().endswith(end)), "")
        if end and "://" not in address:
            count, successes = _counts(Path(address[: -len(end)] + STATS))
            failed, every = failed + count - successes, every + count
    return failed, every


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

"""Scores that a run has already, found by caption: what was scanned once is not scanned again."""

from collections import defaultdict
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from scanner.io.results import Results
from scanner.io.tables import SCORES
from scanner.records import Caption, ScoreRow


class Recall:
    """The captions that a run has scored and found nothing at.

    A flagged caption is not recalled: its evidence is about the image beside it, which is
    another one at every copy. Of the rest, a row is the same for every copy, bit by bit.

    The index takes twelve bytes a caption: the first eight of its hash, and its file.

    Args:
        results: The results folder.
        run: The run.

    Raises:
        ResultsError: If a commit record is damaged.
    """

    def __init__(self, results: Results, run: str) -> None:
        self._files = results.files("scores", [run])
        prefixes = [_prefixes(file) for file in self._files]
        sizes = [len(part) for part in prefixes]
        joined = np.concatenate(prefixes) if prefixes else np.zeros(0, np.uint64)
        owners = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        order = np.argsort(joined, kind="stable")
        self._prefixes, self._owners = joined[order], owners[order]

    def rows(self, captions: Sequence[Caption]) -> dict[str, list[ScoreRow]]:
        """Return the score rows of the captions that are known, by hash, one row per seed.

        Each row stands for the first of the captions given that has its hash.
        """
        first = {caption.sha256: caption for caption in reversed(captions)}
        by_file: dict[int, set[str]] = defaultdict(set)
        for sha in first:
            place = int(np.searchsorted(self._prefixes, _prefix(sha)))
            if place < len(self._prefixes) and self._prefixes[place] == _prefix(sha):
                by_file[int(self._owners[place])].add(sha)
        found: dict[str, list[ScoreRow]] = {}
        for number, wanted in by_file.items():
            found |= _read(self._files[number], wanted, first)
        return found


def _prefix(sha: str) -> np.uint64:
    return np.uint64(int(sha[:16], 16))


def _prefixes(file: str) -> np.ndarray:
    """Return the hash prefixes of a file's captions without a finding, each once."""
    with pq.ParquetFile(file) as source:
        columns = source.read(columns=["caption_sha256", "flagged"]).to_pydict()
    pairs = zip(columns["caption_sha256"], columns["flagged"], strict=True)
    hashes = sorted({sha for sha, flagged in pairs if not flagged})
    return np.array([_prefix(sha) for sha in hashes], np.uint64)


def _read(file: str, wanted: Set[str], first: dict[str, Caption]) -> dict[str, list[ScoreRow]]:
    with pq.ParquetFile(file) as source:
        table = source.read()
    hashes = table["caption_sha256"].to_pylist()
    table = table.take([i for i, sha in enumerate(hashes) if sha in wanted])
    found: dict[str, dict[int, ScoreRow]] = defaultdict(dict)
    spoiled = set[str]()
    for row in table.to_pylist():
        sha = row["caption_sha256"]
        if row["flagged"] or row["stage"] != "detect":
            spoiled.add(sha)
        found[sha].setdefault(row["seed"], _row(row, first[sha]))
    return {sha: list(rows.values()) for sha, rows in found.items() if sha not in spoiled}


def _row(row: dict[str, Any], caption: Caption) -> ScoreRow:
    extra = {n: v for n, v in row.items() if n not in SCORES.names and v is not None}
    return ScoreRow(
        caption, row["seed"], row["stage"], row["delta_s"], row["screen"], row["p_value"],
        row["flagged"], extra,
    )  # fmt: skip

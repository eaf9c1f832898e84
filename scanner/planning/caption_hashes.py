"""Counts of captions and of distinct captions, without a scan."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanner.errors import ConfigError, ShardError
from scanner.records import Reject
from scanner.shards import reading
from scanner.shards.reading import Shard, ShardIndex

Hashes = NDArray[np.uint64]

REJECTED = np.uint64(0)
"""Stands for a sample without a caption that can be scored."""
KEPT = 2**20
"""Hashes that `DistinctCounter` keeps: 8 MiB. Up to so many captions its count is exact."""


@dataclass(frozen=True, slots=True)
class ShardHashes:
    """Captions of one shard.

    Attributes:
        shard: As it was found; null if it could not even be looked up.
        index: Its chunks; null if the shard was not opened.
        hashes: The first eight bytes of every caption's hash in order, ``(samples,)``;
            `REJECTED` for a sample that cannot be scored.
        reasons: Why those cannot.
        problem: Why nothing is known of the shard.
        is_usable: False where the address itself is at fault.
    """

    shard: Shard | None
    index: ShardIndex | None = None
    hashes: Hashes | None = None
    reasons: tuple[str, ...] = ()
    problem: str | None = None
    is_usable: bool = True


def hash_captions(
    url: str, chunk_size: int, finished: frozenset[str], *, captions: bool = True
) -> ShardHashes:
    """Count a shard and hash its captions; one that is ``finished`` is not opened.

    Never raises: what is wrong with a shard is its problem.

    Args:
        url: Its address.
        chunk_size: Samples per chunk.
        finished: Identities under which nothing is left of it to scan.
        captions: Whether a sample must have one.
    """
    shard = None
    try:
        shard = reading.stat(url)
        if shard.id in finished:
            return ShardHashes(shard)
        index = reading.index(shard, chunk_size)
        hashes, reasons = np.zeros(index.samples, np.uint64), list[str]()
        items = (
            item
            for chunk in index.chunks
            for item in reading.read(chunk, images=False, captions=captions)
        )
        for position, item in enumerate(items):
            if isinstance(item, Reject):
                reasons.append(item.reason)
            else:
                hashes[position] = int(item.sha256[:16], 16) or 1
    except (ShardError, ConfigError) as error:
        return ShardHashes(shard, problem=str(error), is_usable=not isinstance(error, ConfigError))
    return ShardHashes(shard, index, hashes, tuple(reasons))


class DistinctCounter:
    """Counts distinct hashes in bounded memory: exact up to ``kept``, estimated beyond.

    It keeps the smallest hashes (Bar-Yossef et al. 2002, "k minimum values"): if the k-th
    smallest of them lies at a fraction f of their range, there are about (k - 1) / f, with a
    standard error of 1 / sqrt(k - 2).

    Args:
        kept: How many hashes to keep.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept, self._smallest = kept, np.zeros(0, np.uint64)
        self._new: list[Hashes] = []
        self._waiting = 0
        self._is_exact = True

    def add(self, hashes: Hashes) -> None:
        """Take hashes in."""
        if not len(hashes):  # of a shard that is done
            return
        self._new.append(hashes)
        self._waiting += len(hashes)
        if self._waiting > self._kept:
            self._merge()

    def count(self) -> tuple[int, float]:
        """Return how many there are, and its relative standard error: 0 if it is exact."""
        self._merge()
        if self._is_exact:
            return len(self._smallest), 0.0
        fraction = (float(self._smallest[-1]) + 1) / 2.0**64
        return round((self._kept - 1) / fraction), 1 / math.sqrt(self._kept - 2)

    def _merge(self) -> None:
        together = np.unique(np.concatenate([self._smallest, *self._new]))
        self._is_exact = self._is_exact and len(together) <= self._kept
        self._smallest, self._new, self._waiting = together[: self._kept], [], 0

"""The corpus of a night: which shards there are, which are new, and whose rows count."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from scanner.analysis.findings import Finding
from scanner.engine.plan import CommitIndex
from scanner.errors import ShardError
from scanner.matching.image_index import ImageIndex
from scanner.shards import reading
from scanner.shards.reading import Shard

AT_ONCE, TOGETHER = 16, 64
"""Threads that ask for shards, and shards of a thread at a time, at most."""


@dataclass(frozen=True, slots=True)
class CorpusListing:
    """The shards of one night.

    Attributes:
        shards: What was found, by address; null for a shard that cannot be read.
        problems: Why not, by address.
    """

    shards: dict[str, Shard | None]
    problems: dict[str, str]


def listed(addresses: Sequence[str]) -> CorpusListing:
    """Look up size and tag of every shard."""
    size = max(1, min(TOGETHER, len(addresses) // (4 * AT_ONCE)))
    parts = [addresses[start : start + size] for start in range(0, len(addresses), size)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looked_up = pool.map(lambda part: [_looked_up(url) for url in part], parts)
        found = dict(zip(addresses, (each for part in looked_up for each in part), strict=True))
    return CorpusListing(
        {url: shard if isinstance(shard, Shard) else None for url, shard in found.items()},
        {url: text for url, text in found.items() if isinstance(text, str)},
    )


def compared(
    listing: CorpusListing, before: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Return which shards are added, changed, removed and unreadable since an audit.

    Args:
        listing: Tonight's.
        before: The ``corpus`` of the last audit: by address, ``id`` and ``in_effect``.
    """
    now = listing.shards
    return {
        "added": [url for url in now if url not in before],
        "changed": [
            url for url, shard in now.items()
            if shard is not None and url in before and before[url]["id"] not in (None, shard.id)
        ],
        "removed": [url for url in before if url not in now],
        "unreadable": list(listing.problems),
    }  # fmt: skip


def in_effect(
    listing: CorpusListing, before: Mapping[str, Mapping[str, Any]], commit_index: CommitIndex
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the identities whose rows count, by address, and what is not scanned whole.

    Of a shard that was scanned whole as it is now, only that counts: what it was before is
    superseded. Until then, and while it cannot be read, what counted last night still does, so
    that a failed scan resolves no finding.
    """
    whole, counts, missing = commit_index.finished(), dict[str, list[str]](), list[str]()
    for url, shard in listing.shards.items():
        if shard is not None and shard.id in whole.get(url, ()):
            counts[url] = [shard.id]
            continue
        earlier = list(before.get(url, {}).get("in_effect", ()))
        begun = [shard.id] if shard is not None and commit_index.of_shard(shard.id) else []
        counts[url] = list(dict.fromkeys(earlier + begun))
        missing.append(url)
    return counts, missing


def waiting(
    found: Collection[Finding],
    listing: CorpusListing,
    missing: Sequence[str],
    index: ImageIndex,
) -> set[str]:
    """Return the identities of the findings whose caption stands in a shard not scanned whole.

    What a shard that cannot be read holds is what it held before.

    Args:
        found: The findings.
        listing: Tonight's.
        missing: The shards not scanned whole.
        index: The captions of the corpus; shards that are not in it yet are read.
    """
    if not found or not missing:
        return set()
    wanted = {finding.caption_sha256 for finding in found}  # an index has no image's hash
    shut = {url for url in missing if listing.shards[url] is None}
    readable = [shard for url in missing if (shard := listing.shards[url]) is not None]
    shut |= index.fill(readable, images=False).keys()
    there = set[str]()
    for entries in index.entries(readable):
        there |= wanted.intersection(entries.hashes)
    return {
        f.identity for f in found
        if f.shard in shut or f.caption_sha256 in there
        or (not f.has_caption and f.shard in missing)
    }  # fmt: skip


def late(listing: CorpusListing, before: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the shards that an audit knew as they are and did not scan whole."""
    return {
        url for url, shard in listing.shards.items()
        if shard is not None and url in before
        and before[url]["id"] == shard.id and not before[url].get("whole", True)
    }  # fmt: skip


def remembered(
    listing: CorpusListing, counts: Mapping[str, list[str]], missing: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Return what ``audit.json`` keeps of the corpus, by address."""
    return {
        url: {
            "size": None if shard is None else shard.size,
            "etag": None if shard is None else shard.etag,
            "id": None if shard is None else shard.id,
            "in_effect": counts[url],
            "whole": url not in missing,
        }
        for url, shard in listing.shards.items()
    }


def problems_of(commit_index: CommitIndex, identities: Iterable[str]) -> list[str]:
    """Return what is wrong with shards that were scanned as far as they go."""
    found = {
        f"{place.shard}: {place.problem}": None
        for shard in identities
        for place, _ in commit_index.of_shard(shard)
        if place.problem
    }
    return list(found)


def _looked_up(url: str) -> Shard | str:
    try:
        return reading.stat(url)
    except ShardError as error:
        return str(error)

"""What a night may take: its budget in words, the order it is spent in, and how far it reached."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scanner.engine import Job, Resources
from scanner.nightly.corpus import CorpusListing
from scanner.nightly.state import AuditState


def told(resources: Resources) -> str:
    """Return in words what bounds a night, or ``""``."""
    samples, hours = resources.most_samples, resources.hours
    told = [f"{samples} samples" if samples else "", f"{hours:g} hours" if hours else ""]
    return ", ".join(filter(None, told))


def ordered(
    state: AuditState, job: Job, listing: CorpusListing, before: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the shards in the order in which a budget is spent.

    New and changed ones come first, then those whose captions come most often in the corpus.
    """
    readable = [shard for shard in listing.shards.values() if shard is not None]
    state.image_index.fill(readable, images=False)
    prefixes = {e.shard.url: e.prefixes for e in state.image_index.entries(readable)}
    every = np.concatenate([*prefixes.values(), np.zeros(0, np.uint64)])
    values, counts = np.unique(every[every > 0], return_counts=True)

    def urgency(url: str) -> tuple[bool, float]:
        shard, own = listing.shards[url], prefixes.get(url, np.zeros(0, np.uint64))
        is_known = shard is not None and before.get(url, {}).get("id") == shard.id
        often = counts[np.searchsorted(values, own[own > 0])]
        return is_known, -float(often.mean()) if len(often) else 0.0

    return tuple(sorted(job.shards, key=urgency))


def coverage(
    state: AuditState, listing: CorpusListing, figures: Mapping[str, int]
) -> dict[str, int]:
    """Return how many distinct captions the corpus has and how many of them are scanned."""
    readable = [shard for shard in listing.shards.values() if shard is not None]
    state.image_index.fill(readable, images=False)
    parts = [entries.prefixes for entries in state.image_index.entries(readable)]
    every = np.unique(np.concatenate([*parts, np.zeros(0, np.uint64)]))
    captions = int((every > 0).sum())
    return {"captions": captions, "scanned": min(captions, figures["captions"])}

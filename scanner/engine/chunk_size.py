"""Samples of a chunk, chosen by what a commit costs and what a death may cost. Knows no Ray."""

from math import ceil

from scanner.engine.job import CHUNK_SIZE, Job

SECONDS = 60.0
"""Time of a device that a chunk is worth, and a crash may cost, at least."""
MOST_SECONDS = 600.0
"""The same at most, where a run would have too many commits otherwise."""
RECORDS = 100_000
"""Commits that a run is to have at most, or one for every shard."""
SHARD_SAMPLES = 10_000
"""Samples that a shard is taken to have before any is counted; a chunk never has more."""
MOST_IMAGES = CHUNK_SIZE
"""Samples of a chunk whose pictures or maps an actor has in memory all at once."""
USUAL_BATCH = 16
"""Draws at a time where the batch is not known yet."""


def chosen(job: Job, sample_seconds: float) -> int:
    """Return how many samples a commit should have: whole batches, a minute's worth or more.

    A run with so many shards that this makes too many commits gets longer chunks, up to ten
    minutes. A shard with fewer samples is one chunk.

    Args:
        job: The scan.
        sample_seconds: About how long a device takes for a sample; 0 if nobody knows.
    """
    if sample_seconds <= 0:
        return CHUNK_SIZE
    few_records = SHARD_SAMPLES / max(1, RECORDS // len(job.shards))
    most = max(1, int(min(MOST_SECONDS / sample_seconds, SHARD_SAMPLES)))
    size = min(ceil(max(SECONDS / sample_seconds, few_records)), most)
    if job.spec.source != "generated" or job.spec.localize == "all":
        size = min(size, MOST_IMAGES)
    batch = min(job.batch_size or USUAL_BATCH, most)
    return ceil(size / batch) * batch

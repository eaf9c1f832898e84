"""A real local Ray for all, and one scan that nothing disturbed."""

from pathlib import Path

import pytest
from engine_harness import job_of, run, write_shard


@pytest.fixture(scope="session", autouse=True)
def ray_for_all(local_ray):
    """Unless a module says that it has its own."""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> list[Path]:
    """Three shards of 10, 7 and 4 captions: 3 + 2 + 1 chunks."""
    folder = tmp_path_factory.mktemp("corpus")
    return [
        write_shard(folder / f"{s}.tar", [f"caption {n} of shard {s}" for n in range(size)])
        for s, size in enumerate((10, 7, 4))
    ]


@pytest.fixture(scope="session")
def undisturbed(corpus, tmp_path_factory):
    """Root, summary and events of a scan that nothing disturbed."""
    root, events = tmp_path_factory.mktemp("undisturbed") / "results", []
    summary = run(job_of(corpus, root), progress=events.append)
    return root, summary, events

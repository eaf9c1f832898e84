"""A real local Ray for all, and one scan that nothing disturbed."""

import pytest
from engine_harness import job_of, run


@pytest.fixture(scope="session", autouse=True)
def ray_for_all(local_ray):
    """Unless a module says that it has its own."""


@pytest.fixture(scope="session")
def undisturbed(corpus, tmp_path_factory):
    """Root, summary and events of a scan that nothing disturbed."""
    root, events = tmp_path_factory.mktemp("undisturbed") / "results", []
    summary = run(job_of(corpus, root), progress=events.append)
    return root, summary, events

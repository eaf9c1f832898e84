"""What an actor does, without Ray around it."""

import pytest
from engine_harness import SPEC, job_of, write_shard

from scanner.engine.plan import Piece
from scanner.engine.queue import Errand
from scanner.engine.worker import Counts, Worker, build_scanner
from scanner.io import shards
from scanner.io.results import Results


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """None here."""


def test_a_commit_holds_the_evaluations_of_its_own_chunk(tmp_path):
    url = str(write_shard(tmp_path / "a.tar", [f"caption {i % 3}" for i in range(8)]))
    job = job_of([tmp_path / "a.tar"], tmp_path / "results")
    worker = Worker(job, "r1", "cpu", 1, build_scanner)
    worker.open()
    index = shards.index(shards.stat(url), 4)
    for chunk in index.chunks:
        piece = Piece(chunk, 0, chunk.samples, len(index.chunks))
        assert isinstance(worker.scan(Errand(piece, 0, chunk.samples)), Counts)
    commits = Results(job.results).commits("r1")
    spent = [commits[chunk.name]["evaluations"] for chunk in index.chunks]
    # Three distinct captions a chunk, localized with one probe (Hutchinson's: 1 < 4 channels).
    each = 3 * (2 * SPEC.steps + 2)
    assert spent == [{"draws": 3, "forward": each, "vjp": 3 * 2, "jvp": 0}] * 2

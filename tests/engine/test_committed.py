"""A run that is complete is told so without Ray, and anything else is still scanned."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_harness import job_of, keys, run, write_shard

from scanner.engine import Resources, committed, scan
from scanner.engine.plan import CommitIndex
from scanner.results.folder import Results

SUPPORT = Path(__file__).parents[1] / "support"
AGAIN = """
import sys
from pathlib import Path
from engine_harness import job_of
from scanner.engine import Resources, scan
heard = []
job = job_of([Path(p) for p in sys.argv[2].split(",")], Path(sys.argv[1]), **eval(sys.argv[3]))
done = scan(job, Resources(address="127.0.0.1:1"), heard.append)
print(done.samples, done.chunks_done, done.is_complete, "ray" in sys.modules)
"""


def here(job, heard=lambda event: None):
    return scan(job, Resources(local=True, device="cpu", threads=1), heard)


def again(results, shards, **changes) -> list[str]:
    """Scan in a process of its own, told to join a cluster that is not there."""
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{SUPPORT}"}
    named = ",".join(map(str, shards))
    command = [sys.executable, "-c", AGAIN, str(results), named, repr(changes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split() or [done.stderr.splitlines()[-1]]


@pytest.fixture
def shards(tmp_path):
    return [
        write_shard(tmp_path / f"{name}.tar", [f"{name} {n}" for n in range(6)]) for name in "ab"
    ]


def test_a_complete_run_joins_no_cluster_and_does_not_import_ray(shards, tmp_path):
    here(job_of(shards, tmp_path / "r"))
    assert again(tmp_path / "r", shards) == ["12", "0", "True", "False"]
    assert again(tmp_path / "r", shards[:1]) == ["6", "0", "True", "False"]


def test_what_is_left_is_scanned(shards, tmp_path):
    here(job_of(shards[:1], tmp_path / "r"))
    told = []
    assert here(job_of(shards, tmp_path / "r"), told.append).samples == 12
    assert any(event.kind == "worker" for event in told)


@pytest.mark.parametrize("limit", [3, 6, 9])
def test_a_limit_is_complete_once_its_samples_are(shards, tmp_path, limit):
    here(job_of(shards, tmp_path / "r", limit=limit))
    told = again(tmp_path / "r", shards, limit=limit)
    assert told == [str(limit), "0", "True", "False"]
    assert here(job_of(shards, tmp_path / "r", limit=limit + 1)).samples == limit + 1
    assert len(keys(tmp_path / "r")) == limit + 1


def test_a_smaller_limit_than_was_scanned_is_looked_into_by_a_scan(shards, tmp_path):
    here(job_of(shards, tmp_path / "r", limit=5))
    assert here(job_of(shards, tmp_path / "r", limit=2)).chunks_done == 0


def test_a_changed_shard_is_scanned(shards, tmp_path):
    here(job_of(shards, tmp_path / "r"))
    write_shard(shards[0], [f"new {n}" for n in range(7)])
    done = here(job_of(shards, tmp_path / "r"))
    assert (done.chunks_done, done.samples) == (2, 13)


def test_a_gap_in_a_shard_that_changed_is_scanned(shards, tmp_path):
    """Whole in its first form, and in its second without its first chunk: no sample is lost."""
    job = job_of(shards[:1], tmp_path / "r")
    done = here(job)
    write_shard(shards[0], [f"second form {n}" for n in range(6)])
    here(job)
    shard_id = committed.reading.stat(str(shards[0])).id
    (lost,) = (tmp_path / "r" / "commits" / done.run).glob(f"*-{shard_id}-00000.json")
    lost.unlink()
    told = []
    again = here(job, told.append)
    assert any(event.kind == "worker" for event in told)
    assert again.chunks_done == 1


def test_a_shard_that_is_gone_is_missing_as_ever(shards, tmp_path):
    here(job_of(shards, tmp_path / "r"))
    job = job_of(shards, tmp_path / "r")
    shards[0].unlink()
    done = here(job)
    assert not done.is_complete
    assert "a.tar" in done.missing()


def test_a_shard_that_was_cut_short_is_told_again(shards, tmp_path):
    content = shards[0].read_bytes()
    shards[0].write_bytes(content[: 2048 * 4 + 700])
    first = here(job_of(shards, tmp_path / "r"))
    told = []
    second = here(job_of(shards, tmp_path / "r"), told.append)
    assert second.incomplete == first.incomplete != []
    assert second.chunks_done == 0
    assert [event.text for event in told if event.kind == "problem"] == first.incomplete
    assert not any(event.kind == "worker" for event in told)


def test_only_what_comes_first_without_a_gap_counts_as_the_first_samples(shards, tmp_path):
    done = run(job_of(shards, tmp_path / "r"))
    results = Results(str(tmp_path / "r"))
    commits = results.commits(done.run)
    whole = CommitIndex(commits)
    ids = committed.identities([str(shards[0])], whole, None)
    assert ids is not None
    (shard_id,) = ids.values()
    assert whole.first(shard_id) == 6
    without = {name: one for name, one in commits.items() if not name.endswith(f"{shard_id}-00000")}
    assert len(without) == len(commits) - 1
    assert CommitIndex(without).first(shard_id) is None
    assert committed.identities([str(shards[0])], CommitIndex(without), None) is None
    assert CommitIndex({}).is_empty
    assert CommitIndex({}).first(shard_id) == 0

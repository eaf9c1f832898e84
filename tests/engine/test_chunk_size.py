"""The chunk size that nobody gave: chosen by speed, agreed on once, kept by every later scan."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_harness import job_of, rows, write_shard

from scanner.engine import Job, Resources, chunk_size, scan
from scanner.engine.worker import Worker
from scanner.results import verify
from scanner.results.folder import Results
from scanner.spec import ScanSpec


def job(shards=1, **changes):
    settings = {"model": "gaussian", "results": "r", "spec": ScanSpec(), "chunk_size": None}
    return Job(shards=("a.tar",) * shards, **(settings | changes))


@pytest.mark.parametrize(("seconds", "shards", "changes", "size"), [
    (0.0, 1, {}, 256),  # nobody knows
    (1.0, 1, {"batch_size": None}, 64),  # a minute, in whole batches
    (1.0, 1, {"batch_size": 7}, 63),
    (0.0001, 1, {"batch_size": 16}, 10_000),  # no more than a shard has
    (0.06, 10, {"batch_size": 1}, 1000),
    (0.01, 50_000, {"batch_size": 1}, 6000),
    (0.05, 50_000, {"batch_size": 1}, 5000),  # two commits a shard
    (0.05, 200_000, {"batch_size": 1}, 10_000),  # one
    (1.0, 200_000, {"batch_size": 1}, 600),  # no more than ten minutes
    (100.0, 1, {"batch_size": 16}, 6),  # a batch that takes longer is cut
    (9999.0, 1, {"batch_size": 16}, 1),
    (0.01, 1, {"batch_size": 16, "spec": ScanSpec(source="image")}, 256),
    (0.01, 1, {"batch_size": 16, "spec": ScanSpec(localize="all")}, 256),
])  # fmt: skip
def test_a_chunk_is_worth_a_minute_and_a_large_run_has_few(seconds, shards, changes, size):
    assert chunk_size.chosen(job(shards, **changes), seconds) == size


@pytest.fixture
def shards(tmp_path):
    return [
        write_shard(tmp_path / f"{name}.tar", [f"{name} {n}" for n in range(11)]) for name in "ab"
    ]


def here(job, pace, monkeypatch, **resources):
    """Scan in this process on a device that takes ``pace`` seconds for a sample."""
    monkeypatch.setattr(Worker, "_sample_seconds", lambda *_: pace)
    told = []
    done = scan(job, Resources(local=True, device="cpu", threads=1, **resources), told.append)
    return done, [event.chunk for event in told if event.kind == "chunk"]


def places(results, run):
    found = (commit.place for commit in results.commits(run).values())
    return sorted((p.shard, p.number, p.start, p.stop, p.chunk_samples) for p in found)


def test_a_scan_that_goes_on_at_another_speed_keeps_the_chunks(shards, tmp_path, monkeypatch):
    whole = job_of(shards, tmp_path / "whole", chunk_size=4)
    here(whole, 0.0, monkeypatch)
    auto = job_of(shards, tmp_path / "auto", chunk_size=None)
    done, chunks = here(auto, 15.0, monkeypatch, most_samples=6)  # four samples a minute
    assert (done.samples, len(chunks)) == (6, 2)
    done, chunks = here(auto, 0.001, monkeypatch)
    assert (done.samples, len(chunks)) == (22, 5)
    results = Results(tmp_path / "auto")
    assert results.run_file(done.run).chunk_size == 4
    assert {place[4] for place in places(results, done.run)} == {4, 3}
    assert rows(tmp_path / "auto") == rows(tmp_path / "whole")
    assert verify.verify(results, done.run, lambda *_: None, keys=True).is_sound


def test_a_size_that_was_agreed_on_holds_though_the_record_lacks_it(shards, tmp_path, monkeypatch):
    auto = job_of(shards, tmp_path / "r", chunk_size=None)
    done, _ = here(auto, 15.0, monkeypatch, most_samples=4)
    results = Results(tmp_path / "r")
    record = results.read_run(done.run)
    del record["config"]["chunk_size"]
    results.write_run(done.run, record)
    done, _ = here(auto, 0.001, monkeypatch)
    assert {place[4] for place in places(results, done.run)} == {4, 3}
    assert json.loads(results.store.read(f"packs/{done.run}/000000.json"))["chunk_size"] == 4


def test_commits_of_a_run_without_record_or_agreement_are_of_the_usual_size(
    shards, tmp_path, monkeypatch
):
    done, _ = here(job_of(shards, tmp_path / "r", chunk_size=256), 0.0, monkeypatch, most_samples=3)
    results = Results(tmp_path / "r")
    results.store.remove(f"runs/{done.run}.json")
    done, _ = here(job_of(shards, tmp_path / "r", chunk_size=None), 15.0, monkeypatch)
    assert done.samples == 22
    assert {place[4] for place in places(results, done.run)} == {11}


def test_of_rivals_that_propose_a_size_all_take_the_first(tmp_path):
    def proposed(size):
        return Results(tmp_path).agreed_chunk_size("r1", size)

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(proposed, range(10, 18)))
    assert len(found) == 1
    assert proposed(99) in found


def test_the_speed_of_a_real_model_is_measured(shards, tmp_path):
    job = job_of(shards, tmp_path / "r", chunk_size=None)
    done = scan(job, Resources(local=True, device="cpu", threads=1), lambda event: None)
    size = Results(tmp_path / "r").run_file(done.run).chunk_size
    assert size > 256  # the closed-form model takes far less than a quarter of a second
    assert size % 4 == 0

"""A caption is scored once: within a run, across actors, and across runs of the same settings."""

from dataclasses import replace

import pyarrow.parquet as pq
from engine_harness import job_of, run, write_shard

from scanner.engine.worker import build_scanner
from scanner.models.gaussian import Gaussian
from scanner.results.folder import Results
from scanner.spec import ScanSpec

SPEC = ScanSpec(steps=2, probes=4, threshold=1000.0, seeds=(0, 1), detectors=("wen", "increment"))
PLAIN = [f"caption {i}" for i in range(60)]
STRIKING = [t for t in PLAIN if Gaussian().encode([t])[0, 1].min() < 0.01]
DULL = [t for t in PLAIN if t not in STRIKING]


def rows(root, name, run_name, table="scores"):
    files = Results(str(root)).files(table, [run_name])
    found = [r for file in files for r in pq.read_table(file, partitioning=None).to_pylist()]
    return sorted(
        [str(sorted(r.items())) for r in found if r["shard"].endswith(name) and r.pop("run")]
    )


def spent(root, run_name, chunk=""):
    commits = Results(str(root)).commits(run_name)
    return {name: c.content["evaluations"]["draws"] for name, c in commits.items() if chunk in name}


def test_a_later_shard_is_fanned_out_and_its_rows_are_those_of_scoring(tmp_path):
    first = write_shard(tmp_path / "first.tar", [*DULL[:6], *STRIKING[:1]])
    texts = [DULL[0], STRIKING[0], DULL[20], DULL[0], DULL[3]]
    later = write_shard(tmp_path / "later.tar", texts)
    job = job_of([first], tmp_path / "r", spec=SPEC)
    name = run(job, actors=1).run
    both = replace(job, shards=(*job.shards, str(later)))
    done = run(both, actors=1)
    assert (done.samples, done.recalled) == (12, 3)
    # One new caption and one that is flagged: its evidence is about what stands beside it.
    assert sum(spent(tmp_path / "r", name, "later").values()) == 4
    run(replace(both, results=str(tmp_path / "plain"), shards=(str(later),)), actors=1)
    for table in ("scores", "masks"):
        again = rows(tmp_path / "r", "later.tar", name, table)
        assert again == rows(tmp_path / "plain", "later.tar", name, table)


def test_actors_tell_each_other_and_a_new_verdict_needs_no_new_score(tmp_path):
    shards = [write_shard(tmp_path / f"{n}.tar", DULL[:8]) for n in range(4)]
    shards.append(write_shard(tmp_path / "s.tar", [*DULL[:2], STRIKING[0]]))
    job = job_of(shards, tmp_path / "r", spec=SPEC)
    done = run(job, actors=2)
    # Copies that are in flight at the same moment may be scored by both actors, never more often.
    assert sum(spent(tmp_path / "r", done.run).values()) <= 2 * 2 * 9
    low = replace(job, spec=replace(SPEC, threshold=0.0, localize="flagged", detectors=()))
    level = replace(job, spec=replace(SPEC, threshold=1e9, detectors=("wen",)))
    higher = run(level, actors=1)
    assert higher.run != done.run
    assert (higher.recalled, higher.flagged) == (35, 0)
    assert sum(spent(tmp_path / "r", higher.run).values()) == 0
    lower = run(low, actors=1)
    assert (lower.flagged, lower.localized) == (35, 35)
    assert sum(spent(tmp_path / "r", lower.run).values()) == 2 * 9
    plain = run(replace(level, results=str(tmp_path / "plain")), actors=1)
    assert rows(tmp_path / "r", "s.tar", higher.run) == rows(tmp_path / "plain", "s.tar", plain.run)


def test_other_settings_and_missing_detectors_are_scored_anew(tmp_path):
    shard = write_shard(tmp_path / "a.tar", DULL[:4])
    job = job_of([shard], tmp_path / "r", spec=SPEC)
    run(job, actors=1)
    for changes in ({"steps": 3}, {"seeds": (0, 2)}, {"detectors": ("wen", "wen_first")}):
        done = run(replace(job, spec=replace(SPEC, **changes)), actors=1)
        assert (done.scored, done.recalled) == (4, 0)
        assert sum(spent(tmp_path / "r", done.run).values()) == 8


def test_a_memory_that_dies_costs_time_and_no_row(tmp_path, monkeypatch):
    import ray

    from scanner.engine import score_index

    def dead(root, runs):
        handle = (
            ray.remote(score_index.ScoreIndexActor).options(num_cpus=0).remote(root, tuple(runs))
        )
        ray.kill(handle)
        return handle

    monkeypatch.setattr(score_index, "start", dead)
    shard = write_shard(tmp_path / "a.tar", DULL[:8])
    done = run(job_of([shard], tmp_path / "r", spec=SPEC), actors=1, build=build_scanner)
    assert (done.scored, done.is_complete) == (8, True)

"""What is killed, hangs or breaks: nothing is lost, nothing comes twice."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from engine_harness import (
    cramped_build,
    job_of,
    keys,
    rows,
    run,
    slow_build,
    striking_build,
    write_shard,
)  # fmt: skip

from scanner.engine import ray_runtime
from scanner.errors import ClusterError
from scanner.results.folder import Results

POISON = "caption 5 of shard 1"

DRIVER = """
import sys
from pathlib import Path
from engine_harness import job_of, run, slow_build
folder, *shards = map(Path, sys.argv[1:])
run(job_of(shards, folder / "results"), actors=1, build=slow_build(folder, 0.5))
"""


def test_killing_actors_changes_no_row(corpus, undisturbed, tmp_path):
    (pids := tmp_path / "pids").mkdir()
    kills = []

    def kill_one(event):
        if event.kind == "chunk" and len(kills) < 2:
            newest = max(pids.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            os.kill(int(newest.name), signal.SIGKILL)
            kills.append(newest.name)
            newest.rename(tmp_path / newest.name)

    job = job_of(corpus, tmp_path / "results")
    summary = run(job, progress=kill_one, build=slow_build(pids, 0.4))
    assert len(kills) == 2
    assert summary.is_complete
    assert summary.samples == 21
    assert rows(tmp_path / "results") == rows(undisturbed[0])
    assert rows(tmp_path / "results", "masks") == rows(undisturbed[0], "masks")


def test_killing_the_driver_and_running_again_changes_no_row(corpus, undisturbed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    command = [sys.executable, "-c", DRIVER, str(tmp_path), *map(str, corpus)]
    driver = subprocess.Popen(command, env=environment)
    commits, deadline = tmp_path / "results" / "commits", time.monotonic() + 400
    while len(list(commits.rglob("*.json"))) < 2:
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    committed = len(list(commits.rglob("*.json")))
    assert committed < 6
    (name,) = Results(str(tmp_path / "results")).runs()
    assert Results(str(tmp_path / "results")).read_run(name)["status"] == "running"
    time.sleep(1)  # a worker that outlived its driver may still commit what it had begun
    summary = run(job_of(corpus, tmp_path / "results"), actors=1)
    assert summary.samples == 21
    assert summary.chunks_skipped >= committed
    assert rows(tmp_path / "results") == rows(undisturbed[0])
    assert rows(tmp_path / "results", "masks") == rows(undisturbed[0], "masks")


def test_sigterm_marks_the_run_interrupted_and_it_resumes(corpus, undisturbed, tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    def terminate(event):
        if event.kind == "chunk":
            os.kill(os.getpid(), signal.SIGTERM)

    (pids := tmp_path / "pids").mkdir()
    build = slow_build(pids, 0.4)
    with pytest.raises(KeyboardInterrupt):
        run(job_of(corpus, tmp_path), actors=1, progress=terminate, build=build)
    assert signal.getsignal(signal.SIGTERM) is before
    results = Results(str(tmp_path))
    (name,) = results.runs()
    assert results.read_run(name)["status"] == "interrupted"
    assert 0 < len(keys(tmp_path)) < 21
    assert run(job_of(corpus, tmp_path), actors=1).samples == 21
    assert rows(tmp_path) == rows(undisturbed[0])


def test_sigterm_while_ray_starts_marks_the_run_interrupted_too(corpus, tmp_path, monkeypatch):
    @contextmanager
    def starting(address):
        os.kill(os.getpid(), signal.SIGTERM)
        yield

    monkeypatch.setattr(ray_runtime, "cluster", starting)
    with pytest.raises(KeyboardInterrupt):
        run(job_of(corpus, tmp_path), actors=1)
    results = Results(str(tmp_path))
    (name,) = results.runs()
    assert results.read_run(name)["status"] == "interrupted"


def rejects(root):
    results = Results(str(root))
    return [
        row
        for file in results.files("rejects", results.runs())
        for row in pq.read_table(file, partitioning=None).to_pylist()
    ]


def test_a_caption_that_raises_is_rejected_and_its_chunk_committed(corpus, undisturbed, tmp_path):
    def strike():
        raise RuntimeError("cholesky failed")

    summary = run(job_of(corpus, tmp_path), actors=1, build=striking_build(POISON, strike))
    assert summary.is_complete
    assert (summary.samples, summary.scored, summary.rejected) == (21, 20, 1)
    (reject,) = rejects(tmp_path)
    assert (reject["key"], reject["reason"]) == ("00005", "poison")
    assert reject["detail"] == "RuntimeError: cholesky failed"
    assert rows(tmp_path) == [row for row in rows(undisturbed[0]) if f"'{POISON}'" not in row]
    assert sorted(Results(str(tmp_path)).commits(summary.run)) == sorted(
        Results(str(undisturbed[0])).commits(summary.run)
    )


def test_a_caption_that_kills_its_process_is_rejected_too(tmp_path, capfd):
    shard = write_shard(tmp_path / "s.tar", ["good", "deadly", "good too", "fine"])
    job = job_of([shard], tmp_path / "results", chunk_size=1)
    summary = run(job, actors=1, build=striking_build("deadly", lambda: os._exit(9)))
    assert (summary.samples, summary.rejected, summary.chunks_done) == (4, 1, 4)
    assert keys(tmp_path / "results") == [("s.tar", key) for key in ("00000", "00002", "00003")]
    assert capfd.readouterr() == ("", "")
    (reject,) = rejects(tmp_path / "results")
    assert (reject["reason"], reject["detail"]) == ("poison", "the worker process died")


def test_a_device_too_small_for_one_draw_gets_no_more_work_and_blames_no_caption(
    corpus, undisturbed, tmp_path
):
    (pids := tmp_path / "pids").mkdir()
    events = []
    job = job_of(corpus, tmp_path / "results")
    summary = run(job, progress=events.append, build=cramped_build(pids, 1))
    assert (summary.samples, summary.rejected, summary.retries) == (21, 0, 0)
    assert summary.is_complete
    assert rows(tmp_path / "results") == rows(undisturbed[0])
    (lost,) = [event.text for event in events if event.kind == "lost"]
    assert "no more work: not even one draw fits into memory" in lost


def test_where_every_device_is_too_small_the_scan_stops_and_says_so(corpus, tmp_path):
    (pids := tmp_path / "pids").mkdir()
    job = job_of(corpus, tmp_path / "results")
    with pytest.raises(
        ClusterError, match=r"no worker.s device is large enough.*no room; use a la"
    ):
        run(job, build=cramped_build(pids, 2))


def test_a_hanging_actor_is_stopped_and_its_chunk_tried_again(corpus, undisturbed, tmp_path):
    marker, events = tmp_path / "hung", []

    def hang_once():
        if not marker.exists():
            marker.touch()
            time.sleep(600)

    job = job_of(corpus, tmp_path / "results")
    build = striking_build(POISON, hang_once)
    summary = run(job, progress=events.append, actors=1, stall_seconds=6, build=build)
    assert marker.exists()
    assert summary.is_complete
    assert any("no answer within 6 s" in event.text for event in events if event.kind == "retry")
    assert rows(tmp_path / "results") == rows(undisturbed[0])


def test_a_chunk_of_which_nothing_comes_back_is_quarantined_with_its_traceback(tmp_path):
    def build(job, device):
        from scanner.engine.worker import build_scanner

        scanner = build_scanner(job, device)
        calm = scanner.detect

        def detect(captions, known=None):
            if captions[0].text.startswith("bad"):
                raise ValueError("no such luck")
            return calm(captions, known)

        scanner.detect = detect
        return scanner

    good = write_shard(tmp_path / "good.tar", ["a", "b"])
    bad = write_shard(tmp_path / "bad.tar", [f"bad {n}" for n in range(16)])
    job = job_of([good, bad], tmp_path / "results", chunk_size=16)
    summary = run(job, actors=1, build=build)
    assert (summary.samples, summary.is_complete) == (2, False)
    ((chunk, reason),) = summary.quarantined
    assert chunk.startswith("bad")
    assert "ValueError: no such luck" in reason
    assert "Traceback" in reason
    record = Results(str(tmp_path / "results")).read_run(summary.run)
    assert record["quarantined"] == [{"chunk": chunk, "reason": reason}]


def test_where_nothing_works_at_all_the_scan_stops_and_says_so(corpus, tmp_path):
    def build(job, device):
        from scanner.engine.worker import build_scanner

        scanner = build_scanner(job, device)
        scanner.detect = lambda captions, known: 1 / 0
        return scanner

    with pytest.raises(ClusterError, match=r"attempts failed in a row.*ZeroDivisionError"):
        run(job_of(corpus, tmp_path), actors=1, build=build)
    assert keys(tmp_path) == []


def test_processes_that_die_while_loading_are_not_replaced_for_ever(corpus, tmp_path):
    def build(job, device):
        os._exit(9)

    with pytest.raises(ClusterError, match="5 workers in a row died while they loaded the model"):
        run(job_of(corpus[2:], tmp_path), actors=1, build=build)

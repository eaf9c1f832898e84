"""A scan in this process, without Ray: the same rows, commits, rejects, resume and exit codes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from engine_harness import CHUNK, job_of, keys, rows, run, striking_build, write_shard

from scanner.engine import Resources, scan
from scanner.engine.job import TRANSIENT
from scanner.engine.worker import Worker, build_scanner
from scanner.errors import ClusterError, ConfigError, ResultsError, Stopped
from scanner.results.folder import Results
from scanner.spec import ScanSpec

SUPPORT = Path(__file__).parents[1] / "support"
COMMAND = """
import sys
from engine_harness import slow_build
from pathlib import Path
from scanner import cli
from scanner.engine import driver

sys.argv = ["memscan", *sys.argv[1:]]
if "--slowly" in sys.argv:
    sys.argv.remove("--slowly")
    driver.scan.__kwdefaults__["build"] = slow_build(Path(sys.argv.pop()), 0.2)
try:
    cli.main()
finally:
    print("ray" in sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """None here, but where the two are compared."""


def here(job, progress=lambda event: None, *, most_samples=None, **settings):
    resources = Resources(local=True, device="cpu", threads=1, most_samples=most_samples)
    return scan(job, resources, progress, **settings)


def begun(*words):
    """Start a command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{SUPPORT}"}
    command = [sys.executable, "-c", COMMAND, *map(str, words)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def damaged(tmp_path):
    """Two shards, one of them cut, with a caption that is scored twice and one that raises."""
    whole = write_shard(tmp_path / "a.tar", [f"caption {n % 7}" for n in range(9)])
    cut = write_shard(tmp_path / "b.tar", [f"other {n}" for n in range(6)] + ["poison"] * 2)
    content = cut.read_bytes()
    cut.write_bytes(content[: 2048 * 7 + 1536 + 3])  # in the text of the eighth sample
    return [whole, cut]


def test_rows_masks_and_rejects_are_those_of_a_scan_on_ray(damaged, tmp_path, local_ray):
    build = striking_build("poison", lambda: 1 / 0)
    done = {
        "here": here(job_of(damaged, tmp_path / "here"), build=build),
        "ray": run(job_of(damaged, tmp_path / "ray"), actors=1, build=build),
    }
    for table in ("scores", "masks", "rejects"):
        assert rows(tmp_path / "here", table) == rows(tmp_path / "ray", table)
        assert rows(tmp_path / "here", table)
    assert done["here"].run == done["ray"].run
    said = " ".join(rows(tmp_path / "here", "rejects"))
    assert "ZeroDivisionError" in said
    assert "half_sample" in said
    commits = [Results(tmp_path / name).commits(one.run) for name, one in done.items()]
    assert commits[0].keys() == commits[1].keys()
    same = ("samples", "scored", "flagged", "rejected", "localized", "chunks_done", "incomplete")
    assert [getattr(done["here"], n) for n in same] == [getattr(done["ray"], n) for n in same]
    assert done["here"].incomplete


def test_limits_and_budgets_are_filled_up_to_the_whole_and_events_tell_of_it(corpus, tmp_path):
    heard = []
    assert here(job_of(corpus, tmp_path, limit=6), heard.append).samples == 6
    assert here(job_of(corpus, tmp_path), most_samples=5).samples == 11
    done = here(job_of(corpus, tmp_path), heard.append)
    assert (done.samples, done.chunks_skipped, done.is_complete) == (21, 5, True)
    assert len(keys(tmp_path)) == 21 == len(set(keys(tmp_path)))
    kinds = [event.kind for event in heard]
    assert {"index", "worker", "chunk", "end"} == set(kinds) - set(TRANSIENT)
    assert heard[-1].samples_done == heard[-1].samples_total == 21
    assert here(job_of(corpus, tmp_path)).chunks_done == 0


def test_captions_that_other_runs_scored_are_not_scored_again(tmp_path):
    shard = write_shard(tmp_path / "a.tar", [f"caption {n}" for n in range(8)])
    first = here(job_of([shard], tmp_path / "r"))
    spec = job_of([shard], tmp_path / "r").spec
    again = here(job_of([shard], tmp_path / "r", spec=replace(spec, threshold=1e9)))
    assert again.run != first.run
    assert (again.scored, again.recalled) == (8, 8)


def test_no_thread_of_a_scan_outlives_it_however_it_ends(corpus, tmp_path):
    before = set(threading.enumerate())

    def interrupt(event):
        if event.kind == "chunk":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        here(job_of(corpus, tmp_path), interrupt)
    here(job_of(corpus, tmp_path))
    left = [t for t in set(threading.enumerate()) - before if t.name == "compute" or t.is_alive()]
    assert not left
    assert len(keys(tmp_path)) == 21 == len(set(keys(tmp_path)))


def test_a_stopped_worker_leaves_the_evaluation_and_takes_no_further_task(tmp_path):
    from scanner.engine.compute import ComputeThread, ScanRequest
    from scanner.records import Caption

    job = job_of([write_shard(tmp_path / "a.tar", ["one"])], tmp_path / "r")
    compute = ComputeThread(scanner := build_scanner(job, "cpu"), 1)
    scanner.stopped.set()
    request = ScanRequest([Caption("a", "k", "a caption")], {}, alone=True)
    with pytest.raises(Stopped):
        compute.scan(request)
    compute.close(60)
    with pytest.raises(Stopped):
        compute.scan(request)


def test_a_worker_that_is_closed_while_it_loads_leaves_no_thread(tmp_path):
    job = job_of([write_shard(tmp_path / "a.tar", ["one"])], tmp_path / "r")
    before = set(threading.enumerate())
    worker = Worker(job, "r1", "cpu", 1, build_scanner)
    worker.close(0)
    worker.open()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def test_what_nothing_scans_is_given_up_and_a_device_too_small_stops_the_scan(tmp_path):
    shard = write_shard(tmp_path / "a.tar", [f"caption {n}" for n in range(CHUNK)])

    def refuses(job, device):
        scanner = build_scanner(job, device)

        def no_room(networks, draws, chunk):
            raise MemoryError("no room")

        scanner._detection.detect_batch = no_room
        return scanner

    with pytest.raises(ClusterError, match="no worker's device is large enough"):
        here(job_of([shard], tmp_path / "small"), build=refuses)
    with pytest.raises(ConfigError, match="the model could not be opened"):
        here(job_of([shard], tmp_path / "none"), build=lambda job, device: 1 / 0)


def test_results_that_cannot_be_written_stop_it(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError):
        here(job_of(corpus, tmp_path / "file"))


@pytest.mark.parametrize("asked", [{"address": "auto"}, {"actors": 2}])
def test_a_cluster_or_several_actors_are_refused(asked):
    with pytest.raises(ConfigError, match="local"):
        Resources(local=True, **asked)


def test_a_cluster_in_the_environment_is_not_joined(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert Resources().joins
    assert not Resources(local=True).joins


def test_the_commands_import_no_ray(tmp_path):
    null = write_shard(tmp_path / "null.tar", [f"null {n}" for n in range(9)])
    one = write_shard(tmp_path / "a.tar", ["a caption", "another"])
    options = ["--model", "gaussian", "--steps", "2", "--probes", "1", "--local"]
    calibration, events = tmp_path / "c.json", tmp_path / "events.jsonl"
    for words in (
        ["calibrate", null, *options, "--out", calibration],
        ["scan", one, *options, "--calibration", calibration, "--fpr", "0.2",
         "--out", tmp_path / "r", "--events", events],
        ["audit", one, *options, "--calibration", calibration, "--fpr", "0.2",
         "--state", tmp_path / "state"],
    ):  # fmt: skip
        done = begun(*words)
        _, said = done.communicate(timeout=300)
        assert done.returncode in (0, 1), said  # 1: an audit that found something
        assert said.strip().endswith("False"), said
    kinds = [json.loads(line)["kind"] for line in events.read_text().splitlines()]
    assert kinds[-1] == "end"
    assert "chunk" in kinds


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_scan_says_so_and_goes_on(corpus, tmp_path, sent):
    options = ["scan", *corpus, "--model", "gaussian", "--steps", "2", "--chunk-size", CHUNK,
               "--out", tmp_path / "r", "--local"]  # fmt: skip
    process = begun(*options, "--slowly", tmp_path)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "r").glob("commits/*/*.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(sent)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted; run the same command again to resume" in said
    results = Results(tmp_path / "r")
    (name,) = results.runs()
    assert results.read_run(name)["status"] == "interrupted"
    assert 0 < len(keys(tmp_path / "r")) < 21
    again = begun(*options)
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert len(keys(tmp_path / "r")) == 21 == len(set(keys(tmp_path / "r")))


def test_where_parts_lie_is_no_part_of_a_runs_name_and_is_recorded(tmp_path, pipeline_folder):
    shard = write_shard(tmp_path / "a.tar", ["a red cat", "the dog"])
    spec = ScanSpec(steps=2, localize="none", store_image=False)
    jobs = [
        job_of([shard], tmp_path / "r", model=str(pipeline_folder), spec=spec, offload=offload)
        for offload in ("none", "all")
    ]
    first, again = (here(job) for job in jobs)
    assert first.run == again.run
    assert (first.chunks_done, again.chunks_done, again.chunks_skipped) == (1, 0, 1)
    assert Results(tmp_path / "r").read_run(first.run)["config"]["offload"] == "all"
    with pytest.raises(ConfigError, match="offload must be one of none, text, all, got 'vae'"):
        replace(jobs[0], offload="vae")


def test_a_local_scan_is_not_split_over_gpus_that_are_not_there(tmp_path):
    job = job_of([write_shard(tmp_path / "a.tar", ["a red cat"])], tmp_path / "r")
    with pytest.raises(ConfigError, match="split over GPUs alone, got 2 of device cpu"):
        scan(job, Resources(local=True, gpus_per_actor=2), lambda event: None)


def test_one_worker_hands_over_what_it_recorded_and_the_rows_are_the_same(corpus, tmp_path):
    traces = []
    here(job_of(corpus, tmp_path / "plain"))
    done = here(job_of(corpus, tmp_path / "recorded"), traces=traces.append)
    assert rows(tmp_path / "plain") == rows(tmp_path / "recorded")
    assert rows(tmp_path / "plain", "masks") == rows(tmp_path / "recorded", "masks")
    assert traces[-1].batches == {"sampling": 2, "maps": 2}
    record = Results(tmp_path / "recorded").read_run(done.run)
    assert "trace" not in json.dumps(record)
    again = []
    here(job_of(corpus, tmp_path / "recorded"), traces=again.append)
    assert again == []


def test_of_two_actors_on_ray_the_first_records(corpus, tmp_path, local_ray):
    traces = []
    run(job_of(corpus, tmp_path), actors=2, traces=traces.append)
    assert traces[-1].batches.keys() <= {"sampling", "maps"}
    counts = [sum(trace.batches.values()) for trace in traces]
    assert counts == sorted(counts)
    assert counts[-1] <= 4

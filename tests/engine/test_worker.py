"""What an actor does, without Ray around it."""

import io
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest
import webdataset
from engine_harness import SPEC, job_of, rows, striking_build, write_shard
from PIL import Image

from scanner import models
from scanner.engine.failures import Failure
from scanner.engine.plan import WorkUnit
from scanner.engine.queue import Task
from scanner.engine.reports import ChunkReport
from scanner.engine.worker import Worker, build_scanner
from scanner.errors import ConfigError
from scanner.results.folder import Results
from scanner.shards import reading


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """None here."""


def test_a_commit_holds_the_evaluations_of_its_own_chunk(tmp_path):
    texts = [f"caption {i // 4 % 2} {i % 3}" for i in range(12)]  # the third chunk is the first
    url = str(write_shard(tmp_path / "a.tar", texts))
    job = job_of([tmp_path / "a.tar"], tmp_path / "results")
    worker = Worker(job, "r1", "cpu", 1, build_scanner)
    worker.open()
    index = reading.index(reading.stat(url), 4)
    for chunk in index.chunks:
        unit = WorkUnit(chunk, 0, chunk.samples, len(index.chunks))
        assert isinstance(worker.scan(Task(unit, 0, chunk.samples)), ChunkReport)
    commits = Results(job.results).commits("r1")
    spent = [commits[chunk.name].content["evaluations"] for chunk in index.chunks]
    nothing = {"draws": 0, "forward": 0, "vjp": 0, "jvp": 0}
    # Three distinct captions a chunk, localized with one probe (Hutchinson's: 1 < 4 channels).
    each = 3 * (2 * SPEC.steps + 2)
    assert spent == [{"draws": 3, "forward": each, "vjp": 3 * 2, "jvp": 0}] * 2 + [nothing]
    assert [commits[chunk.name].content["recalled"] for chunk in index.chunks] == [0, 0, 4]


def table(root, name):
    results = Results(str(root))
    files = results.files(name, results.runs() or ["r1"])
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def tasks_of(url, size):
    index = reading.index(reading.stat(url), size)
    units = [WorkUnit(chunk, 0, chunk.samples, len(index.chunks)) for chunk in index.chunks]
    return [Task(unit, unit.start, unit.stop) for unit in units]


def test_tasks_overlap_and_each_answers_for_itself(tmp_path):
    """Five threads at once: the rows are those of one after the other, a failure stays its own."""
    texts = [f"caption {i}" for i in range(20)]
    url = str(write_shard(tmp_path / "a.tar", texts))
    tasks = tasks_of(url, 4)
    for name, threads in (("one", 1), ("many", 5)):
        job = job_of([tmp_path / "a.tar"], tmp_path / name, batch_size=16)
        worker = Worker(job, "r1", "cpu", 1, striking_build("caption 9", lambda: 1 / 0))
        worker.open()
        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(worker.scan, tasks))
        assert [type(answer) for answer in answers] == [
            ChunkReport,
            ChunkReport,
            Failure,
            ChunkReport,
            ChunkReport,
        ]
        assert "ZeroDivisionError" in answers[2].text
        assert "caption 9" not in "".join(rows(tmp_path / name))
    assert rows(tmp_path / "one") == rows(tmp_path / "many")
    assert rows(tmp_path / "one", "masks") == rows(tmp_path / "many", "masks")


def test_what_tasks_take_adds_up_to_the_time_of_the_device(tmp_path):
    url = str(write_shard(tmp_path / "a.tar", [f"caption {i}" for i in range(20)]))
    worker = Worker(job_of([tmp_path / "a.tar"], tmp_path / "r"), "r1", "cpu", 1, build_scanner)
    worker.open()
    start = time.perf_counter()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(worker.scan, tasks_of(url, 4)))
    wall = time.perf_counter() - start
    last = max((answer.usage for answer in answers), key=lambda effort: effort.seconds)
    assert 0 < last.denoiser_seconds <= last.seconds <= wall
    assert sum(answer.denoiser_seconds for answer in answers) == pytest.approx(
        last.denoiser_seconds
    )
    assert all(answer.denoiser_seconds <= answer.seconds for answer in answers)
    assert sum(answer.seconds for answer in answers) <= last.seconds * (1 + 1e-6)
    assert last.batch_sizes == {"detect": 4, "localize": 4}


def test_images_are_read_of_localized_captions_only_one_at_a_time(tmp_path, monkeypatch):
    texts, picture = [*(f"dull {i}" for i in range(3)), "striking"], io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(picture, "PNG")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        for number, text in enumerate(texts):
            tar.write({"__key__": f"{number}", "txt": text, "png": picture.getvalue()})
    worker = Worker(
        job_of([tmp_path / "a.tar"], tmp_path / "r", images=True), "r1", "cpu", 1, build_scanner
    )
    worker.open()
    monkeypatch.setattr(
        worker._scanner._verdicts,
        "is_to_localize",
        lambda verdict: verdict.draws[0].draw.text == "striking",
    )
    read = []
    pictures = reading.pictures
    monkeypatch.setattr(
        reading, "pictures", lambda chunk, keys: read.append(dict(keys)) or pictures(chunk, keys)
    )
    assert isinstance(worker.scan(*tasks_of(str(tmp_path / "a.tar"), 4)), ChunkReport)
    assert read == [{3: "3"}]
    (row,) = {(r["key"], r["match"]) for r in table(tmp_path / "r", "masks") if r["match"]}
    assert row == ("3", "none")


def test_results_that_a_node_does_not_share_are_refused(tmp_path):
    write_shard(tmp_path / "a.tar", ["a caption"])
    job = job_of([tmp_path / "a.tar"], tmp_path / "results")
    fingerprint = models.fingerprint(job.model)
    answer = Worker(job, "r1", "cpu", 1, build_scanner, fingerprint).open()
    assert isinstance(answer, Failure)
    assert answer.error is ConfigError
    assert "must lie on storage that every node shares" in answer.text
    Results(job.results).write_run("r1", {})
    assert not isinstance(Worker(job, "r1", "cpu", 1, build_scanner, fingerprint).open(), Failure)

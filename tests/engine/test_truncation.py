"""A tar cut at every byte, through the engine's own survey, plan, worker and commits."""

import gzip
import io
import json
import tarfile
from collections import Counter

import pyarrow.parquet as pq
import pytest

from scanner.engine.indexing import index_shard
from scanner.engine.job import Job
from scanner.engine.plan import CommitIndex, Plan
from scanner.engine.queue import Task
from scanner.engine.reports import ChunkReport
from scanner.engine.worker import Worker, build_scanner
from scanner.shards.reading import ShardIndex
from scanner.spec import ScanSpec

CAPTIONS = {"a": "the first caption", "b": "the second, a little longer"}
CHUNK, STRIDE = 1, 64


class Kept:
    """A store in memory: what is committed is encoded and recorded as ever, without a disk."""

    root = "memory"

    def __init__(self):
        self.files = {}

    def entry(self, name):
        return self.files.get(name)

    def put(self, name, content):
        self.files[name] = bytes(content)

    def create(self, name, content):
        return self.files.setdefault(name, content) is content


def archive():
    """Return a tar of samples of a picture and a text, and where each sample begins and ends.

    It ends where its last payload does.
    """
    stream, spans = io.BytesIO(), []
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as sink:
        for key, text in CAPTIONS.items():
            begin = sink.offset
            for name, content in ((f"{key}.jpg", b"\xff\xd8" * 30), (f"{key}.txt", text.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                sink.addfile(info, io.BytesIO(content))
            spans.append((begin, sink.offset - 512 + len(text.encode())))
        whole = sink.offset + 1024
    return stream.getvalue()[:whole], spans


def scanned(worker, task):
    """Scan and commit a task; return the captions and the rejects that were stored."""
    worker._results.store = store = Kept()
    counts = worker.scan(task)
    assert isinstance(counts, ChunkReport), counts
    (name,) = (name for name in store.files if name.startswith("commits/"))
    record = json.loads(store.files[name])
    rows = {
        table: pq.read_table(io.BytesIO(store.files[file["path"]])).to_pylist()
        for table, file in record["files"].items()
    }
    scores, rejects = rows["scores"], rows.get("rejects", [])
    assert counts.scored == len(scores)
    assert record["counts"]["samples"] == counts.samples == len(scores) + len(rejects)
    assert record["problem"] == task.unit.problem
    assert all(row["delta_s"] is not None for row in scores)
    return {r["key"]: r["caption"] for r in scores}, {r["key"]: r["reason"] for r in rejects}


@pytest.mark.parametrize("is_packed", [False, True], ids=["tar", "tar.gz"])
def test_a_tar_that_is_cut_anywhere_gives_its_whole_samples_and_says_so(tmp_path, is_packed):
    content, spans = archive()
    keys, path = list(CAPTIONS), tmp_path / ("a.tar.gz" if is_packed else "a.tar")
    content = gzip.compress(content, mtime=0) if is_packed else content
    spec = ScanSpec(steps=1, probes=1, localize="none")
    job = Job(model="gaussian", shards=(str(path),), results=str(tmp_path / "r"), spec=spec,
              chunk_size=CHUNK, batch_size=4)  # fmt: skip
    worker = Worker(job, "r1", "cpu", 1, build_scanner)
    worker.open()
    earlier, seen = [], Counter()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        index = index_shard(str(path), CHUNK, frozenset())
        assert isinstance(index, ShardIndex), index
        is_whole = cut == len(content)
        assert (index.problem is None) == is_whole, cut
        units = list(Plan(CommitIndex({}), None).work_units(index))
        tasks = [Task(unit, unit.start, unit.stop) for unit in units]
        assert all(unit.problem == index.problem for unit in units)
        read = [worker._read(task, worker._scanner) for task in tasks]
        captions = {c.key: c.text for found, _ in read for c in found.values()}
        rejects = {r.key: r.reason for _, found in read for r in found}
        assert len(captions) + len(rejects) == index.samples
        assert list(captions) == keys[: len(captions)], cut
        assert all(text == CAPTIONS[key] for key, text in captions.items())
        assert set(rejects.values()) <= {"half_sample"}
        assert list(rejects) == keys[len(captions) :][: len(rejects)], cut
        if not is_packed:
            whole = [key for key, (_, end) in zip(keys, spans, strict=True) if end <= cut]
            begun = [key for key, (begin, _) in zip(keys, spans, strict=True) if begin + 512 <= cut]
            # Whole samples are scored; the first, with none before it to compare, only when the
            # next has begun.
            due = [key for key in whole if key != "a" or len(begun) > 1]
            assert list(captions) in (due, whole), cut
            assert set(captions) | set(rejects) >= set(whole), cut
        if (captions, rejects, len(tasks)) != earlier or not cut % STRIDE:
            stored = [scanned(worker, task) for task in tasks]
            assert captions == {key: text for scores, _ in stored for key, text in scores.items()}
            assert rejects == {key: why for _, found in stored for key, why in found.items()}
            seen[len(captions), len(rejects)] += 1
        earlier = captions, rejects, len(tasks)
    assert len(captions) == 2
    assert {scored for scored, _ in seen} == {0, 1, 2}
    assert any(rejected for _, rejected in seen)

"""A run is proven whole, and each way of not being whole is found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import webdataset as wds

from scanner.errors import ConfigError
from scanner.records import ChunkResult, Reject, ScoreRow
from scanner.results import verify
from scanner.results.folder import Results
from scanner.results.repair import repair
from scanner.shards import reading as shards


def quiet(*_):
    pass


@pytest.fixture
def run(tmp_path):
    url = str(tmp_path / "a.tar")
    with wds.TarWriter(url) as sink:
        for number in range(7):
            text = "" if number == 5 else f"caption {number}"
            sink.write({"__key__": f"k{number}", "txt": text})
    index = shards.index(shards.stat(url), 3)
    results = Results(tmp_path / "results")
    results.write_run("r1", {"status": "complete"})
    for chunk in index.chunks:
        rows = ChunkResult()
        for item in shards.read(chunk, images=False):
            if isinstance(item, Reject):
                rows.rejects.append(item)
            else:
                rows.scores += [
                    ScoreRow(item, seed, stage="detect", delta_s=1.0) for seed in (0, 1)
                ]
        facts = {
            "shard": url, "shard_id": chunk.shard.id, "number": chunk.number, "start": 0,
            "chunk_samples": chunk.samples, "stop": chunk.samples, "samples": chunk.samples,
            "shard_chunks": len(index.chunks),
        }  # fmt: skip
        assert results.commit("r1", chunk.name, rows, extra=[], facts=facts)
    return results


def kinds(results, **options):
    return [p.kind for p in verify.verify(results, "r1", quiet, **options).problems]


def file_of(results, table, number=0):
    return Path(results.files(table, ["r1"])[number])


def test_a_whole_run_is_sound(run):
    found = verify.verify(run, "r1", quiet, keys=True)
    assert found.is_sound
    assert found.problems == []
    assert (found.chunks, found.samples, found.shards, found.shards_read) == (3, 7, 1, 1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_no_thread_of_arrow_is_left_to_die_with_the_interpreter(run):
    code = (
        "import sys; from pathlib import Path; from scanner.results import verify; "
        "from scanner.results.folder import Results; "
        "names = [f.read_text() for f in Path('/proc/self/task').glob('*/comm')]; "
        "verify.verify(Results(sys.argv[1]), 'r1', lambda *_: None); "
        "after = [f.read_text() for f in Path('/proc/self/task').glob('*/comm')]; "
        "print(len([n for n in after if 'jemalloc' not in n]) == "
        "len([n for n in names if 'jemalloc' not in n]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run.root], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_a_lost_and_a_changed_file_are_found_set_aside_and_asked_for_again(run):
    file_of(run, "scores", 0).unlink()
    broken = file_of(run, "scores", 1)
    broken.write_bytes(broken.read_bytes()[:-9])
    found = verify.verify(run, "r1", quiet)
    assert [p.kind for p in found.problems] == ["missing", "damaged"]
    assert not found.is_sound
    names = run.committed("r1")
    repair(run, found)
    assert run.committed("r1") == names[2:]
    assert [e.name for e in run.store.entries("quarantine")] == [
        f"quarantine/r1/{name}.json" for name in names[:2]
    ]
    assert sum("set aside" in note for note in found.notes) == 2
    assert next(p.kind for p in verify.verify(run, "r1", quiet).problems) == "commit"


def test_a_record_that_is_not_one_is_found(run, tmp_path):
    name = run.committed("r1")[1]
    run.store.put(f"commits/r1/{name}.json", b"{}")
    assert "record" in kinds(run)


def test_what_a_later_memscan_wrote_is_neither_read_nor_set_aside(run):
    record = next((Path(run.root) / "commits" / "r1").iterdir())
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"schema_version": 2}))
    for reading in (lambda: run.files("scores", ["r1"]), lambda: kinds(run)):
        with pytest.raises(
            ConfigError, match="is of schema 2, and this memscan reads up to 1: upgr"
        ):
            reading()
    assert record.exists()


def test_a_sample_that_stands_twice_and_a_range_that_is_covered_twice_are_found(run):
    name = run.committed("r1")[0]
    record = run.read_commit("r1", name).content | {"chunk": f"{name}.0-2", "stop": 2}
    run.store.put(f"commits/r1/{name}.0-2.json", json.dumps(record).encode())
    found = kinds(run)
    assert "duplicate" in found
    assert "range" in found


def test_rows_that_do_not_account_for_the_samples_are_found(run):
    name = run.committed("r1")[0]
    record = dict(run.read_commit("r1", name).content)
    record["counts"]["samples"] = 4
    run.store.put(f"commits/r1/{name}.json", json.dumps(record).encode())
    assert kinds(run) == ["rows"]


def test_keys_without_rows_are_found(run):
    name = run.committed("r1")[0]
    other = run.read_commit("r1", run.committed("r1")[1])
    record = run.read_commit("r1", name).content | {"files": other.content["files"]}
    run.store.put(f"commits/r1/{name}.json", json.dumps(record).encode())
    assert "keys" in kinds(run, keys=True)


def test_files_that_nothing_lists_do_not_make_a_run_unsound_and_young_ones_stay(run):
    run.store.put("scores/run=r1/left.12345678.parquet", b"half a commit")
    found = verify.verify(run, "r1", quiet)
    assert [p.kind for p in found.problems] == ["orphan"]
    assert found.is_sound
    repair(run, found)
    assert run.store.read("scores/run=r1/left.12345678.parquet") is not None

"""Commit records: what was written is read back, and what is of another kind is refused."""

import copy
import json
from pathlib import Path

import pytest

from scanner.errors import ResultsError
from scanner.results.commit_file import (
    CommitFile,
    Counts,
    DataFile,
    ShardRange,
    read_together,
)
from scanner.results.manifest import read_commit
from scanner.results.stores import opened

PATH = "scores/run=r1/a-00000.12345678.parquet"
PLACE = {
    "shard": "a.tar", "shard_id": "0123", "number": 2, "chunk_samples": 4, "start": 1, "stop": 3,
    "shard_chunks": 5, "problem": None,
}  # fmt: skip
RECORD = {
    "schema_version": 1, "run": "r1", "chunk": "a-00000",
    "files": {"scores": {"path": PATH, "rows": 2, "sha256": "ab", "bytes": 10}},
    "counts": {"samples": 2, "scored": 2, "rejected": 0, "flagged": 1}, "seconds": 1.5,
}  # fmt: skip


def test_a_record_is_read_whole():
    record = CommitFile.of(RECORD | PLACE)
    assert record.files == {"scores": DataFile(PATH, 2, "ab", 10)}
    assert record.files["scores"].as_json() == RECORD["files"]["scores"]
    assert record.counts == Counts(samples=2, scored=2, rejected=0, flagged=1)
    assert record.place == ShardRange("a.tar", "0123", 2, 4, 1, 3, 5)
    assert record.place.samples == 2
    assert record.place.as_json() == PLACE
    assert record.content["seconds"] == 1.5


def test_records_of_early_versions_say_nothing_of_a_shard():
    assert CommitFile.of(RECORD).place is None


def test_every_record_of_an_earlier_version_is_read():
    golden = Path(__file__).parents[1] / "golden"
    records = [json.loads(path.read_text()) for path in golden.glob("**/commits/*/*.json")]
    assert len(records) > 5
    for content in records:
        record = CommitFile.of(content)
        assert record.place is not None
        assert record.place.samples == record.counts.samples == content["samples"]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("run",), None),
        (("chunk",), 3),
        (("files",), []),
        (("files", "scores"), "x"),
        (("files", "scores", "path"), "scores/run=r2/a.parquet"),
        (("files", "scores", "path"), "scores/run=r1/../a.parquet"),
        (("files", "scores", "rows"), "2"),
        (("files", "scores", "rows"), -1),
        (("counts", "samples"), 10**400),
        (("files", "scores", "bytes"), True),
        (("files", "scores", "sha256"), 5),
        (("counts",), {}),
        (("counts", "samples"), 1.5),
        (("number",), "2"),
        (("shard",), None),
        (("stop",), None),
    ],
)
def test_a_part_of_another_kind_is_named(at, value, tmp_path):
    content = copy.deepcopy(RECORD | PLACE)
    part = content
    for name in at[:-1]:
        part = part[name]
    part[at[-1]] = value
    named = {"path": "files.scores", "counts": "samples"}.get(at[-1], at[-1])
    with pytest.raises(ValueError, match=named):
        CommitFile.of(content)
    name = "commits/r1/a-00000.json"
    with pytest.raises(ResultsError, match=r"is damaged \(.*scan again"):
        read_commit(opened(tmp_path), name, json.dumps(content).encode())


def test_a_record_under_another_name_is_damaged(tmp_path):
    with pytest.raises(ResultsError, match="is not the record of its chunk"):
        read_commit(opened(tmp_path), "commits/r1/b.json", json.dumps(RECORD).encode())


def many(count=5):
    return [
        copy.deepcopy(RECORD | PLACE | {"chunk": f"a-{n:05d}", "number": n}) for n in range(count)
    ]


def test_records_of_a_pack_are_what_each_of_them_is_alone():
    contents = many()
    contents[3]["files"]["rejects"] = {
        "path": "rejects/run=r1/a.parquet", "rows": 1, "sha256": "cd", "bytes": 3,
    }  # fmt: skip
    assert read_together(contents, "r1") == [CommitFile.of(content) for content in contents]
    early = [RECORD, *contents]
    assert read_together(early, "r1") == [CommitFile.of(content) for content in early]
    assert read_together([], "r1") == []


@pytest.mark.parametrize(
    ("at", "value", "named"),
    [
        (("run",), "r2", "files.scores"),
        (("chunk",), 3, "chunk"),
        (("files",), [], "files"),
        (("files", "scores"), "x", "files.scores"),
        (("files", "scores", "path"), "scores/run=r1/../a.parquet", "files.scores"),
        (("files", "scores", "rows"), True, "rows"),
        (("files", "scores", "bytes"), 2**63, "bytes"),
        (("files", "scores", "sha256"), None, "sha256"),
        (("counts",), "x", "counts"),
        (("counts", "flagged"), 0.0, "flagged"),
        (("start",), -1, "start"),
        (("shard",), None, "shard"),
    ],
)
def test_a_part_of_another_kind_is_named_among_many(at, value, named):
    contents = many()
    part = contents[2]
    for name in at[:-1]:
        part = part[name]
    part[at[-1]] = value
    with pytest.raises(ValueError, match=named):
        read_together(contents, "r1")

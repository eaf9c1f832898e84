import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from scanner import masks
from scanner.errors import ConfigError, ResultsError
from scanner.records import Caption, ChunkResult, MaskRow, Reject, ScoreRow
from scanner.results import folder
from scanner.results.commit_file import Counts
from scanner.results.folder import MASKS, REJECTS, SCORES, Results, scores_schema

RUN, CHUNK = "0123456789ab", "a-0123456789ab-00000"
FACTS: dict[str, Any] = {"samples": 3, "seconds": 1.5}
MASK = np.array([[True, False], [True, True]])


def result(delta_s: float = 1.0) -> ChunkResult:
    cat = Caption("/s/a.tar", "1", 'naïve "café" & \0 ; DROP TABLE', "https://x", None)
    dog = Caption("/s/a.tar", "2", "a dog")
    return ChunkResult(
        scores=[
            ScoreRow(
                cat,
                0,
                stage="localize",
                delta_s=delta_s,
                screen=0.5,
                p_value=0.25,
                flagged=True,
                extra={"wen": 2.0},
            ),
            ScoreRow(
                cat, 1, stage="localize", delta_s=delta_s, screen=0.5, p_value=0.25, flagged=True
            ),
            ScoreRow(dog, 0, stage="screen", delta_s=None, screen=0.1, flagged=False),
        ],
        masks=[
            MaskRow(
                cat,
                0,
                metric="delta_h",
                baseline="null",
                height=2,
                width=2,
                heatmap=masks.to_heatmap(MASK * -2.0),
                sigma=0.1,
            )
            if delta_s < 0
            else MaskRow(
                cat,
                0,
                metric="delta_h",
                baseline="null",
                height=2,
                width=2,
                heatmap=masks.to_heatmap(MASK * -2.0),
                sigma=0.1,
                threshold=0.5,
                mask=masks.to_runs(MASK),
                area=0.75,
                image=b"\xff\xd8",
                match="verbatim",
                match_mse=0.01,
            )
        ],
        rejects=[Reject("/s/a.tar", "3", "no_caption", "only 'jpg'")],
    )


def commit(root: Path, chunk: str = CHUNK, delta_s: float = 1.0) -> bool:
    return Results(root).commit(RUN, chunk, result(delta_s), extra=["wen"], facts=FACTS)


def leftovers(root: Path) -> list[str]:
    return [str(p) for p in root.rglob("*.tmp")]


def test_the_columns_are_the_contract() -> None:
    assert ", ".join(SCORES.names) == (
        "run, shard, key, caption, caption_sha256, url, seed, stage, screen, delta_s, p_value, "
        "p_kind, seed_p_value, flagged, increments, novelty, image_sha256"
    )
    assert ", ".join(MASKS.names) == (
        "run, shard, key, caption_sha256, seed, metric, baseline, height, width, threshold, mask, "
        "area, heatmap, sigma, image, match, match_mse, mse_inside, mse_outside, "
        "tiled_l2, tightness, image_sha256, pinned, snap_inside, snap_outside, match_contrast, "
        "products, map_error, mask_doubt, outside_doubt, doubt"
    )
    assert ", ".join(REJECTS.names) == "run, shard, key, reason, detail, caption_sha256"
    assert scores_schema(["wen", "lid"]).names == [*SCORES.names, "wen", "lid"]
    for schema in (scores_schema(["wen"]), MASKS, REJECTS):
        assert schema.metadata[b"schema_version"] == b"1"
        for column in schema:
            assert column.metadata[b"doc"]
            assert b"unit" in column.metadata
    for bad in (["seed"], ["wen", "wen"]):
        with pytest.raises(ValueError, match="extra columns must be new and distinct"):
            scores_schema(bad)


def test_nothing_is_created_before_a_write(tmp_path: Path) -> None:
    store = Results(tmp_path / "r")
    assert not store.exists()
    assert store.runs() == []
    assert store.commits(RUN) == {}
    assert store.files("scores") == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="results go to a local"):
        Results("http://host/prefix")


def test_duckdb_reads_what_was_committed(tmp_path: Path) -> None:
    assert commit(tmp_path)
    store = Results(tmp_path)
    read = {t: store.files(t) for t in folder.TABLES}

    rows = duckdb.sql(
        f"SELECT run, key, caption, url, seed, delta_s, flagged, wen FROM "
        f"read_parquet({read['scores']}, hive_partitioning=false) ORDER BY key, seed"
    ).fetchall()
    text = 'naïve "café" & \0 ; DROP TABLE'
    assert rows == [
        (RUN, "1", text, "https://x", 0, 1.0, True, 2.0),
        (RUN, "1", text, "https://x", 1, 1.0, True, None),
        (RUN, "2", "a dog", None, 0, None, False, None),
    ]
    ((runs, heatmap, area),) = duckdb.sql(
        f"SELECT mask, heatmap, list_sum(list_filter(mask, lambda r, i: i % 2 = 0)) "
        f"FROM read_parquet({read['masks']})"
    ).fetchall()
    assert (masks.from_runs(runs, 2, 2) == MASK).all()
    assert area == MASK.sum()
    assert np.allclose(masks.from_heatmap(heatmap, 2, 2), MASK * -2.0, atol=2e-3)
    reasons = duckdb.sql(f"SELECT reason FROM read_parquet({read['rejects']})").fetchall()
    assert reasons == [("no_caption",)]


def test_a_commit_record_accounts_for_its_files(tmp_path: Path) -> None:
    commit(tmp_path)
    record = Results(tmp_path).commits(RUN)[CHUNK]

    assert record.counts == Counts(samples=3, scored=2, rejected=1, flagged=1)
    assert (record.content["seconds"], record.run, record.chunk) == (1.5, RUN, CHUNK)
    assert {t: f.rows for t, f in record.files.items()} == {
        "scores": 3,
        "masks": 1,
        "rejects": 1,
    }
    for table, file in record.files.items():
        path = tmp_path / file.path
        assert path.parent == tmp_path / table / f"run={RUN}"
        assert path.name == f"{CHUNK}.{file.sha256[:8]}.parquet"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
        assert path.stat().st_size == file.bytes
        facts = pq.ParquetFile(path)
        assert facts.metadata.num_row_groups == 1
        assert facts.metadata.row_group(0).column(0).compression == "ZSTD"
        assert facts.schema_arrow.metadata[b"schema_version"] == b"1"
    assert leftovers(tmp_path) == []


def test_scores_are_written_even_without_rows(tmp_path: Path) -> None:
    store = Results(tmp_path)
    assert store.commit(RUN, CHUNK, ChunkResult(), extra=["wen"], facts={"samples": 0})
    assert list(store.commits(RUN)[CHUNK].files) == ["scores"]
    assert pq.read_schema(store.files("scores")[0]).names == [*SCORES.names, "wen"]
    assert store.files("masks") == []


def test_the_first_commit_stays(tmp_path: Path) -> None:
    assert commit(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert not commit(tmp_path, delta_s=2.0)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_rivals_leave_one_set_of_rows(tmp_path: Path) -> None:
    for i in range(10):
        chunk = f"c-{i}"
        with ThreadPoolExecutor(4) as pool:
            deltas = [1.0, 2.0, -1.0, 1.0]
            won = list(pool.map(lambda d, c=chunk: commit(tmp_path, c, d), deltas))
        assert sum(won) == 1
        winner = deltas[won.index(True)]
        record = Results(tmp_path).commits(RUN)[chunk]
        file = tmp_path / record.files["scores"].path
        content = file.read_bytes()
        assert hashlib.sha256(content).hexdigest() == record.files["scores"].sha256
        assert pq.read_table(file, partitioning=None)[9][0].as_py() == winner
        on_disk = {p.name for p in tmp_path.rglob(f"{chunk}.*.parquet")}
        assert on_disk == {Path(f.path).name for f in record.files.values()}
    assert leftovers(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_folder import commit

left = {count}
def deadly(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0 and {before}:
            os.kill(os.getpid(), signal.SIGKILL)
        value = function(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return value
    return call

{patch}
commit(Path({root!r}), delta_s={delta_s})
"""


@pytest.mark.parametrize(
    ("patch", "count", "before", "is_committed"),
    [
        ("os.fsync = deadly(os.fsync)", 4, True, False),
        ("Path.replace = deadly(Path.replace)", 1, False, False),
        ("Path.replace = deadly(Path.replace)", 3, False, False),
        ("Path.hardlink_to = deadly(Path.hardlink_to)", 1, True, False),
        ("Path.hardlink_to = deadly(Path.hardlink_to)", 1, False, True),
    ],
)
def test_a_kill_at_any_point_is_all_or_nothing(
    tmp_path: Path, patch: str, count: int, before: bool, is_committed: bool
) -> None:
    script = textwrap.dedent(KILLED).format(
        tests=str(Path(__file__).parent),
        patch=patch,
        count=count,
        before=before,
        root=str(tmp_path),
        delta_s=7.0,
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -signal.SIGKILL

    store = Results(tmp_path)
    assert (CHUNK in store.commits(RUN)) == is_committed
    assert len(store.files("scores")) == is_committed
    # The second attempt finds other numbers, so that a mix would show.
    assert commit(tmp_path, delta_s=8.0) != is_committed
    (scores,) = store.files("scores")
    assert pq.read_table(scores, partitioning=None)["delta_s"][0].as_py() == (
        7.0 if is_committed else 8.0
    )
    assert not any(p.suffix == ".parquet" for p in map(Path, leftovers(tmp_path)))


def test_the_same_rows_land_on_the_leftovers_of_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", crash)
        with pytest.raises(KeyboardInterrupt):
            commit(tmp_path)
    published = set(tmp_path.rglob("*.parquet"))
    assert len(published) == 3
    assert Results(tmp_path).files("scores") == []

    assert commit(tmp_path)
    assert set(tmp_path.rglob("*.parquet")) == published
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("attempt", [1, 3, 7])
def test_a_full_disk_is_said_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, attempt: int
) -> None:
    calls, real = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == attempt:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ResultsError, match=r"the disk of .* is full .*make room"):
            commit(tmp_path)
    assert leftovers(tmp_path) == []
    assert Results(tmp_path).commits(RUN) == {}
    assert commit(tmp_path)


def test_a_device_that_is_really_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *a, **k: (
            real(Path("/dev/full"), "wb") if mode == "xb" else real(self, mode, *a, **k)
        ),
    )
    with pytest.raises(ResultsError, match=r"the disk of .* is full"):
        commit(tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r".*file cannot be written to"):
        commit(tmp_path / "file")


def test_rows_must_account_for_the_samples(tmp_path: Path) -> None:
    store, good = Results(tmp_path), result()
    double = replace(good, scores=[*good.scores, good.scores[0]])
    stray = replace(good, masks=[replace(good.masks[0], seed=9)])
    for bad, facts, message in (
        (good, {"samples": 4}, "samples must be scored \\+ rejected, got 4 samples"),
        (good, {}, "samples must be"),
        (good, {"samples": 3, "files": 1}, "facts must not hold"),
        (double, FACTS, "4 score rows for 3"),
        (stray, FACTS, "1 maps without a score row"),
    ):
        with pytest.raises(ValueError, match=message):
            store.commit(RUN, CHUNK, bad, extra=["wen"], facts=facts)
    with pytest.raises(ValueError, match="1 has scores of"):
        store.commit(RUN, CHUNK, good, extra=[], facts=FACTS)
    assert not store.exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_only_finite_numbers_are_stored(tmp_path: Path, number: float) -> None:
    for change in ({"delta_s": number}, {"screen": number}, {"extra": {"wen": number}}):
        bad = result()
        bad.scores[0] = replace(bad.scores[0], **change)
        with pytest.raises(ValueError, match="must be finite"):
            Results(tmp_path).commit(RUN, CHUNK, bad, extra=["wen"], facts=FACTS)
    bad = result()
    bad.scores[0] = replace(bad.scores[0], delta_s=None)
    with pytest.raises(ValueError, match="1 has no delta_s at stage localize"):
        Results(tmp_path).commit(RUN, CHUNK, bad, extra=["wen"], facts=FACTS)


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "a b", "-x", ".hidden", "x\0", "x\n"])
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    store = Results(tmp_path)
    for call in (
        lambda: store.commit(name, CHUNK, result(), extra=["wen"], facts=FACTS),
        lambda: store.commit(RUN, name, result(), extra=["wen"], facts=FACTS),
        lambda: store.write_run(name, {}),
        lambda: store.commits(name),
    ):
        with pytest.raises(ValueError, match="a name must be made of"):
            call()


def test_runs_come_in_the_order_they_started(tmp_path: Path) -> None:
    store = Results(tmp_path)
    store.write_run("b", {"started": "2030-01-01T00:00:00"})
    store.write_run("a", {"started": "2031-01-01T00:00:00"})
    store.write_run("c", {"started": "2029-01-01T00:00:00"})
    store.write_run("c", {"started": "2029-01-01T00:00:00", "done": True})
    assert store.exists()
    assert store.runs() == ["c", "b", "a"]
    assert store.read_run("c")["done"] is True
    with pytest.raises(ResultsError, match=r".* has no run x; it has: c, b, a"):
        store.read_run("x")
    (tmp_path / "runs" / "b.json").write_text("{")
    with pytest.raises(ResultsError, match=r".*b.json is damaged"):
        store.runs()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "\udcff",
        lambda text: text.replace(CHUNK, "other"),
        lambda text: json.dumps({**json.loads(text), "files": {"scores": "x"}}),
    ],
)
def test_a_damaged_commit_is_named(tmp_path: Path, damage: Any) -> None:
    commit(tmp_path)
    path = tmp_path / "commits" / RUN / f"{CHUNK}.json"
    path.write_bytes(damage(path.read_text()).encode("utf-8", "surrogateescape"))
    for call in (lambda s: s.commits(RUN), lambda s: s.files("scores")):
        with pytest.raises(ResultsError, match=rf".*{CHUNK}.json is damaged"):
            call(Results(tmp_path))


def test_files_go_by_run(tmp_path: Path) -> None:
    store = Results(tmp_path)
    for run in ("r1", "r2"):
        store.commit(run, CHUNK, result(), extra=["wen"], facts=FACTS)
    assert len(store.files("scores")) == 2
    assert [Path(p).parent.name for p in store.files("masks", ["r2"])] == ["run=r2"]
    with pytest.raises(ValueError, match="table must be one of"):
        store.files("truth")

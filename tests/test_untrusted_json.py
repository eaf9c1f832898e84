"""JSON from elsewhere, in every file that is read: the documented errors and no others come out."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from scanner import cli, models
from scanner.analysis.query import connect, statement
from scanner.analysis.truth import read
from scanner.errors import ConfigError, ResultsError, ScannerError
from scanner.models.limits import limits
from scanner.nightly import policy
from scanner.nightly.state import AuditState
from scanner.parsing import from_json
from scanner.records import Caption, ChunkResult, ScoreRow
from scanner.report.page import PageOptions, page
from scanner.results.folder import Results
from scanner.results.lease import Lease
from scanner.shards import input_rows
from scanner.shards.conversion import Conversion
from scanner.statistics import calibration
from scanner.statistics.calibration import Calibration

DEEP = "[" * 100_000
ABSURD = (10**12, -1, 0, float("nan"), float("inf"), 1e300, "x", None, [], {}, True, [None], "10",
          [10**12], ["x", 3], 10**400)  # fmt: skip
JSON = st.recursive(
    st.sampled_from([*ABSURD, "\ud800", "0000"]) | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
QUICK = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def changed(data: st.DataObject, sound: object, times: int = 2) -> object:
    """Return a copy of a sound content with some values, anywhere in it, replaced."""
    content = copy.deepcopy(sound)
    for _ in range(data.draw(st.integers(1, times))):
        place: Any = content
        parent: Any = None
        keys = []
        while isinstance(place, dict | list) and place and (not keys or data.draw(st.booleans())):
            keys.append(data.draw(st.sampled_from(
                sorted(place) if isinstance(place, dict) else range(len(place)))))  # fmt: skip
            parent, place = place, place[keys[-1]]
        if not keys:
            return copy.deepcopy(data.draw(JSON))
        parent[keys[-1]] = copy.deepcopy(data.draw(JSON))  # some values are shared
    return content


def refused_in_a_line(door: Callable[[], object], kind: type[ScannerError] = ScannerError) -> bool:
    """Return whether a door refuses in one line; anything but a documented error goes through."""
    try:
        door()
    except kind as error:
        found = str(error)
    else:
        return False
    assert len(found.splitlines()) == 1, found
    return True


def test_what_is_read_can_be_written_and_printed() -> None:
    assert from_json(b'{"a": [1, "\xc3\xa9"]}') == {"a": [1, "é"]}
    for text in (DEEP, '{"a":' * 100_000, "[" * 102 + "]" * 102, b"\xff", '"\\ud800"', "9" * 5000,
                 '{"\\udfff": 1}', "", "nul"):  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011 - any text
            from_json(text)
    json.dumps(from_json("[" * 100 + "]" * 100), indent=1)


@pytest.fixture
def folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pipeline_folder, tmp_path / "model")


FILES = (
    "model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json",
    "text_encoder/config.json", "tokenizer/tokenizer_config.json",
)  # fmt: skip


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", ["null", "3", "[]", '"x"', DEEP, "{", '{"_class_name": 5}'])
def test_a_model_folder_of_other_content_is_refused(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    is_refused = refused_in_a_line(lambda: models.load(str(folder)))
    assert is_refused or file.startswith(("tokenizer", "text_encoder"))  # libraries do without


@pytest.mark.parametrize("value", ABSURD, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("name", ["num_train_timesteps", "beta_start", "trained_betas",
                                  "prediction_type", "beta_schedule", "steps_offset"])  # fmt: skip
def test_an_absurd_scheduler_is_refused_in_one_line(folder: Path, name: str, value) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    is_refused = refused_in_a_line(lambda: limits(str(folder)))
    if name == "num_train_timesteps":
        assert is_refused


@settings(QUICK, max_examples=int(os.environ.get("MEMSCAN_FUZZ_MODELS", "10")))
@given(data=st.data())
def test_any_configuration_of_a_model_loads_or_is_refused(
    pipeline_folder: Path, tmp_path: Path, data: st.DataObject
) -> None:
    file = data.draw(st.sampled_from(FILES))
    shutil.copytree(pipeline_folder, tmp_path / "m", dirs_exist_ok=True)
    sound = json.loads((pipeline_folder / file).read_text())
    (tmp_path / "m" / file).write_text(json.dumps(changed(data, sound)))
    refused_in_a_line(lambda: models.load(str(tmp_path / "m")).schedule(3))


@pytest.mark.parametrize("content", ["null", '{"_class_name": 5}', DEEP])
def test_inspect_says_what_is_wrong_with_a_folder(folder: Path, content: str) -> None:
    (folder / "model_index.json").write_text(content)
    done = CliRunner().invoke(cli.app, ["inspect", str(folder)])
    assert isinstance(done.exception, ConfigError)


@QUICK
@given(data=st.data())
def test_any_calibration_is_sound_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "c.json"
    sound = Calibration("m", "s", (1.0, 2.0, 3.0), {"delta_h/null": 1.0}, 0.01, 3, "2026",
                        seed_scores={0: (1.0, 2.0)}, settings={"steps": 3},
                        increments=((0.0, 1.0),))  # fmt: skip
    sound.save(path)
    path.write_text(json.dumps(changed(data, json.loads(path.read_text()))))
    try:
        found = calibration.load(path)
    except ConfigError:
        return
    assert 0 < found.p_value(2.5) <= 1
    found.fingerprint()


RUN = {
    "run": "r1", "status": "complete", "identity": {"model": "m", "spec": "s"}, "updated": "2026",
    "spec": {"fdr": 0.1, "threshold": 1.0, "fpr": 0.1, "source": "generated"}, "started": "2026",
    "config": {"chunk_size": 4, "model": "m", "calibration": "c.json"}, "versions": {"torch": "2"},
    "timings": {"seconds": 1.0, "total_seconds": 1.0}, "counts": {"samples": 3}, "actors": [],
    "incomplete": ["x"], "quarantined": [{"chunk": "c", "reason": "r"}],
    "verdict": {"rate": 0.1, "cutoff": 0.01, "captions": 3, "flagged": 1, "chunks": 1},
}  # fmt: skip


@settings(QUICK, max_examples=60)
@given(data=st.data())
def test_any_record_of_a_run_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    results = Results(tmp_path / "r")
    row = ScoreRow(Caption("a.tar", "k", "a rug"), 0, stage="detect", delta_s=1.0, p_value=0.5,
                   flagged=False)  # fmt: skip
    results.commit("r1", "c", ChunkResult([row], [], []), extra=[], facts={"samples": 1})
    (tmp_path / "r" / "runs").mkdir(exist_ok=True)
    (tmp_path / "r" / "runs" / "r1.json").write_text(json.dumps(changed(data, RUN)))
    try:
        results.read_run("r1")
        with closing(connect(results)) as con:
            con.execute("FROM runs").fetchall()
        page(results, "r1", PageOptions())
    except (ResultsError, ConfigError):
        pass
    done = CliRunner().invoke(cli.app, ["runs", str(tmp_path / "r")])
    assert done.exception is None or isinstance(done.exception, ScannerError | SystemExit)


@QUICK
@given(data=st.data())
def test_any_commit_record_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    results = Results(tmp_path / "r")
    if not results.exists():
        row = ScoreRow(Caption("a.tar", "k", "a rug"), 0, stage="detect", delta_s=1.0)
        results.commit("r1", "c", ChunkResult([row], [], []), extra=[], facts={"samples": 1})
        shutil.copy(tmp_path / "r/commits/r1/c.json", tmp_path / "sound.json")
    sound = json.loads((tmp_path / "sound.json").read_text())
    (tmp_path / "r/commits/r1/c.json").write_text(json.dumps(changed(data, sound)))
    try:
        results.parts(["r1"])
        [commit.counts for commit in results.commits("r1").values()]
    except (ResultsError, ConfigError):
        pass


AUDIT = {
    "run": "r1", "fdr": 0.1, "counts": {"new": 1}, "identity": {"model": "m"},
    "coverage": {"scanned": 1, "captions": 2}, "alerts": [],
    "corpus": {"a.tar": {"id": "1", "size": 3, "etag": "", "in_effect": ["1"], "whole": True}},
}  # fmt: skip


@QUICK
@given(data=st.data())
def test_any_state_of_an_audit_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    state = AuditState(tmp_path)
    place = state.folder("000001-2026-01-01")
    place.mkdir(parents=True, exist_ok=True)
    (place / "audit.json").write_text(json.dumps(changed(data, AUDIT)))
    mutes = {"ab": {"reason": "r", "since": "2026", "until": "2026-01-01"}}
    (tmp_path / "mutes.json").write_text(json.dumps(changed(data, mutes)))
    for door in (state.current, lambda: state.history(3), state.mutes,
                 lambda: state.mute("cd", "x", datetime.now(UTC))):  # fmt: skip
        refused_in_a_line(door, ResultsError)


@QUICK
@given(content=JSON)
def test_any_lease_is_a_lease_or_nothing(tmp_path: Path, content: object) -> None:
    results = Results(tmp_path)
    (tmp_path / "lease" / "x").mkdir(parents=True, exist_ok=True)
    (tmp_path / "lease" / "x" / "000001.json").write_text(json.dumps(content))
    lease = Lease(results.store, "lease/x", "scan")
    assert isinstance(lease._read("000001.json"), dict)


@pytest.mark.parametrize("depth", [50, 2000, 200_000])
def test_a_policy_and_a_query_may_not_be_bottomless(tmp_path: Path, depth: int) -> None:
    (tmp_path / "p.toml").write_text(f"alarm = {'[' * depth}{']' * depth}")
    with pytest.raises(ConfigError):
        policy.load(tmp_path / "p.toml")
    with closing(duckdb.connect()) as con:
        try:
            statement(con, f"SELECT {'(' * min(depth, 20_000)}1{')' * min(depth, 20_000)}")
        except ConfigError:
            assert depth > 50


@pytest.mark.parametrize(
    "select",
    ["'a' AS height", "-3 AS height", "1000000000000 AS height", "[1] AS height", "'x' AS mask",
     "[-1, 17] AS mask", "[NULL] AS mask", "{'a': 1} AS memorized", "NULL AS width",
     "[1e300] AS mask"],
)  # fmt: skip
def test_a_truth_table_of_other_types_is_refused(tmp_path: Path, select: str) -> None:
    columns = {"caption_sha256": "'ab'", "kind": "'k'", "family": "'f'", "memorized": "true",
               "height": "4", "width": "4", "mask": "[4, 12]"}  # fmt: skip
    value, _, name = select.rpartition(" AS ")
    listed = ", ".join(f"{text} AS {column}" for column, text in (columns | {name: value}).items())
    with closing(duckdb.connect()) as con:
        con.execute(f"COPY (SELECT {listed}) TO '{tmp_path / 't.parquet'}' (FORMAT parquet)")
    with pytest.raises(ConfigError, match="truth "):
        read(tmp_path / "t.parquet")


def test_metadata_and_records_of_conversion_may_not_be_bottomless(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "metadata.jsonl").write_text(DEEP + "\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        input_rows._captions_of_metadata(pictures, Conversion(inputs=(str(pictures),)))

"""MLflow and Weights & Biases, the real libraries with a store on this disk."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

CODE = """
import json, sys
from pathlib import Path
from scanner.engine.job import Event
from scanner.notify.callbacks import load
from scanner.notify.outcome import Outcome, Start

word, folder = sys.argv[2], Path(sys.argv[3])
callback = load(sys.argv[1])
callback.started(Start(command="audit", place="/state", model="m", shards=("a", "b"),
                       settings={"steps": 50, "maps": ["delta_h"]}))
callback.progress(Event("chunk", 1, 4, 0, 0, scored=1))
callback.progress(Event("chunk", 2, 4, 0, 0, scored=2))
callback.progress(Event("end", 4, 4, 2, 0, scored=4))
callback.finished(Outcome(command="audit", name="000001-2026-01-01", word=word, why="x",
                          exit_code=1, place="/state", run="r1", counts={"new": 2},
                          severities={"high": 1}), folder if word == "ALARM" else None)
"""


@pytest.fixture
def tracked(tmp_path):
    """Return what logs an audit of a word with a tracker, in a process of its own."""
    folder = tmp_path / "audit"
    folder.mkdir()
    for name in ("audit.json", "report.html", "summary.md", "removal.csv"):
        (folder / name).write_text("{}")

    def track(tracker, word, **environment):
        path = os.pathsep.join(p for p in sys.path if p)
        done = subprocess.run(
            [sys.executable, "-c", CODE, tracker, word, str(folder)], cwd=tmp_path, text=True,
            env=os.environ | {"PYTHONPATH": path} | environment, capture_output=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    return track


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow-skinny is not installed")
@pytest.mark.parametrize(("word", "status"), [("ALARM", "3"), ("FAILED", "4")])
def test_mlflow_has_settings_counts_and_files(tracked, tmp_path, word, status):
    store = tmp_path / "mlruns"
    tracked("mlflow", word, MLFLOW_TRACKING_URI=store.as_uri(), MLFLOW_ALLOW_FILE_STORE="true")
    (run,) = [meta.parent for meta in store.glob("*/*/meta.yaml")]
    assert f"status: {status}" in (run / "meta.yaml").read_text()
    assert (run / "params" / "steps").read_text() == "50"
    assert (run / "params" / "shards").read_text() == "2"
    assert [line.split()[1:] for line in (run / "metrics" / "scored").read_text().splitlines()] == [
        ["1.0", "1"], ["4.0", "4"],
    ]  # fmt: skip
    assert (run / "metrics" / "severity_high").exists()
    assert (run / "tags" / "memscan.word").read_text() == word
    kept = {file.name for file in (run / "artifacts").iterdir()}
    files = {"audit.json", "report.html", "summary.md"} if word == "ALARM" else set()
    assert kept == {"outcome.json"} | files
    assert json.loads((run / "artifacts" / "outcome.json").read_text())["banner"]["word"] == word


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_keeps_a_run_offline_and_nothing_of_the_machine(tracked, tmp_path):
    tracked("wandb", "ALARM", WANDB_MODE="offline", WANDB_DIR=str(tmp_path), WANDB_SILENT="true",
            WANDB_CACHE_DIR=str(tmp_path / "c"), WANDB_DATA_DIR=str(tmp_path / "d"))  # fmt: skip
    (run,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = run.read_bytes()
    for part in (b"delta_h", b"severity_high", b"ALARM", b"report.html", b"memscan-000001"):
        assert part in content, part
    assert b"removal.csv" not in content
    assert not list(tmp_path.glob("wandb/offline-run-*/files/wandb-metadata.json"))

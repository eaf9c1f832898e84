"""What an earlier version wrote opens, keeps its names and resumes: see `golden/make.py`."""

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

import make  # noqa: E402  (the file beside the golden folders)

RUNS = {"a8505488132a": (34, 6, 2), "846f3a722010": (9, 36, 1), "3b551a6b8d85": (16, 18, 1)}
"""Rows of scores, masks and rejects by run."""


def memscan(*words):
    from scanner import cli

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["memscan", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return int(left.value.code or 0), out.getvalue(), err.getvalue()


def rows(*words):
    code, out, err = memscan("query", *words, "--all-runs", "-f", "json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def golden(tmp_path):
    """A copy of what version 0.1.0 wrote."""
    return Path(shutil.copytree(GOLDEN / "0.1.0", tmp_path / "golden"))


def test_runs_are_complete_and_sound(golden):
    code, out, err = memscan("verify", golden / "results", "--keys")
    assert (code, "sound" in out) == (0, True), out + err
    code, out, err = memscan("runs", golden / "results")
    assert (code, out.count("complete")) == (0, 3), out + err


@pytest.mark.parametrize("run", RUNS)
def test_every_row_is_read(golden, run):
    for table, count in zip(("scores", "masks", "rejects"), RUNS[run], strict=True):
        found = rows(golden / "results", f"SELECT count(*) AS n FROM {table} WHERE run = '{run}'")
        assert found == [{"n": count}], table


def test_rows_hold_what_was_written(golden):
    sql = (
        "SELECT key, caption, stage, round(delta_s, 6) AS delta_s, p_value, p_kind, flagged, "
        "round(wen, 4) AS wen, len(increments) AS steps FROM scores "
        "WHERE run = 'a8505488132a' AND key = 'b-003' AND seed = 0"
    )
    (row,) = rows(golden / "results", sql)
    assert row == json.loads((GOLDEN / "row.json").read_text())


def again(golden, kind, *, which):
    """Run a command of the golden folder in a process: Ray's workers need the bucket's address."""
    commands = [c for c in json.loads((golden / "commands.json").read_text()) if c[0] == kind]
    done = subprocess.run(
        [sys.executable, "-m", "scanner", *commands[which]],
        cwd=golden, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("s3")
def test_a_scan_goes_on_where_the_earlier_version_ended(golden):
    make.upload()
    before = sorted(golden.rglob("*.parquet"))
    assert "all of it was done before" in again(golden, "scan", which=1)
    assert sorted(golden.rglob("*.parquet")) == before


@pytest.mark.usefixtures("s3")
def test_an_audit_goes_on_where_the_earlier_version_ended(golden):
    make.upload()
    out = again(golden, "audit", which=-1)
    assert "0 new, 0 worse, 1 persisting" in out
    assert "0 samples scanned tonight" in out


def specs():
    """Specs of all kinds, by a name for the test."""
    from scanner.methods.registry import DETECTORS, MAPS
    from scanner.spec import ScanSpec

    return {
        "default": ScanSpec(),
        "all": ScanSpec(detectors=tuple(d for d in DETECTORS),
                        maps=tuple(m for m in MAPS if m != "snap_back")),
        "paper": ScanSpec(seeds=(0, 1, 2), probe_design="rademacher", guidance_scale=7.0),
        "threshold": ScanSpec(threshold=0.5, pixel_threshold=0.1, localize="all"),
        "fdr": ScanSpec(fdr=0.05, baseline="0123456789ab"),
        "back": ScanSpec(map_back=3, dtype="float16", steps=20),
        "screen": ScanSpec(screen=1.5, store_image=False),
        "image": ScanSpec(source="image", timestep=201, maps=("delta_h", "snap_back")),
        "auto": ScanSpec(source="auto"),
        "images without captions": ScanSpec(source="image", captions=False, baseline="abc"),
    }  # fmt: skip


def fingerprints():
    from scanner import models
    from scanner.spec import run_id
    from scanner.statistics.calibration import load

    found = {
        name: [spec.fingerprint(), spec.score_fingerprint(), run_id("m", spec, "c")]
        for name, spec in specs().items()
    }
    found["models"] = [models.fingerprint("gaussian")]
    found["calibrations"] = [
        load(GOLDEN / "0.1.0" / name).fingerprint()
        for name in ("calibration.json", "image-calibration.json")
    ]
    return found


def test_names_of_runs_stay():
    assert fingerprints() == json.loads((GOLDEN / "fingerprints.json").read_text())

"""What a command writes: refused before work where it cannot be, kept where the command fails."""

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
import typer

from scanner import cli
from scanner.cli.submit_check import WRITTEN
from scanner.engine.job import Resources
from scanner.engine.ray_runtime import placement
from scanner.errors import ConfigError, ExitCode
from scanner.models.device import choose_device, local_device
from scanner.records import Caption, ChunkResult, ScoreRow
from scanner.results.folder import Results

READ_ONLY = {("plan",)}
"""Commands whose ``--out`` names what another command writes."""
COMMAND = [sys.executable, "-m", "scanner"]
WANT_FILES = {
    "calibrate none.tar --model none --out {}": "--out",
    "report none --out {}": "--out",
    "show none key --out {}": "--out",
    "query none sql --out {}": "--out",
    "query none sql -f parquet --out {}": "--out",
    "export none --coco {}": "--coco",
    "recalibrate none -c 0.01 --out {}": "--out",
    "choose none.tar --model none --truth none --out {}": "--out",
    "choose none.tar --model none --truth none --figure {}": "--figure",
    "scan none.tar --model none --out new --events {}": "--events",
    "scan none.tar --model none --out new --profile {}": "--profile",
    "calibrate none.tar --model none --events {}": "--events",
    "audit none.tar --model none --threshold 1 --state new --events {}": "--events",
    "reproduce none.tar --model none --out new --events {}": "--events",
    "confirm none --events {}": "--events",
    "audit none.tar --model none --threshold 1 --state new --metrics-file {}": "--metrics-file",
}
WANT_FOLDERS = {
    "scan none.tar --model none --out {}": "--out",
    "eval none --truth none --figures {}": "--figures",
    "retrieve none --catalogue {}": "--catalogue",
    "removal none --out {}": "--out",
    "reproduce none.tar --model none --out {}": "--out",
    "shards make none --out {}": "--out",
    "testbed make --out {}": "--out",
    "testbed train --out {}": "--out",
    "demo --out {}": "--out",
    "benchmark make --out {}": "--out",
    "benchmark train --out {}": "--out",
    "benchmark measure --out {}": "--out",
    "benchmark compare --out {}": "--out",
    "audit none.tar --model none --threshold 1 --state {}": "--state",
    "mute 00 --reason why --state {}": "--state",
}


def memscan(*words):
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["memscan", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return left.value.code, out.getvalue(), err.getvalue()


@pytest.fixture
def results(tmp_path):
    results = Results(tmp_path / "results")
    results.write_run(
        "r1", {"started": "2026-01-01", "status": "complete", "config": {}, "identity": {}}
    )
    rows = [
        ScoreRow(Caption("a.tar", str(n), f"text {n}"), 0, stage="detect", delta_s=1.0)
        for n in range(40)
    ]
    results.commit("r1", "a-0", ChunkResult(rows), extra=(), facts={"samples": 40})
    return tmp_path / "results"


def options_that_name_outputs(command, words=()):
    for name, inner in getattr(command, "commands", {}).items():
        yield from options_that_name_outputs(inner, (*words, name))
    for parameter in command.params if not hasattr(command, "commands") else ():
        if parameter.name in WRITTEN - {"results"} and words not in READ_ONLY:
            option = max(parameter.opts, key=len)
            yield f"{' '.join(words)} {option}"


def test_every_option_that_names_an_output_is_tried():
    tried = {f"{command.split(' none')[0].split(' 00')[0].split(' --')[0]} {option}"
             for command, option in (WANT_FILES | WANT_FOLDERS).items()}  # fmt: skip
    assert set(options_that_name_outputs(typer.main.get_command(cli.app))) == tried


@pytest.mark.parametrize("command", [*WANT_FILES, *WANT_FOLDERS])
def test_an_output_of_the_wrong_kind_is_refused_before_any_input_is_looked_at(
    command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    option = (WANT_FILES | WANT_FOLDERS)[command]
    wrong = "folder" if command in WANT_FILES else "file"
    kind = "a folder: name a file" if command in WANT_FILES else "a file: name a folder"
    for place, said in ((wrong, kind), ("file/below", "file is a file, not a folder")):
        code, out, err = memscan(*command.format(place).split())
        assert (code, out) == (ExitCode.REFUSED, "")
        assert err.count("\n") == 1
        assert f"memscan: {option} {place}" in err
        assert said in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert not list((tmp_path / "folder").iterdir())


def test_a_calibration_is_not_named_as_the_folder_of_its_scores(tmp_path):
    code, _, err = memscan("calibrate", "a.tar", "-m", "m", "-o", tmp_path / "c.results")
    assert code == ExitCode.REFUSED
    assert "name another file, such as" in err
    (tmp_path / "d.results").touch()
    code, _, err = memscan("calibrate", "a.tar", "-m", "m", "-o", tmp_path / "d.json")
    assert code == ExitCode.REFUSED
    assert "the folder of scores beside --out" in err


def test_results_in_no_store_are_refused_before_a_model_is_looked_at():
    code, _, err = memscan("scan", "a.tar", "-m", "none", "-o", "ftp://host/results")
    assert code == ExitCode.REFUSED
    assert "results go to" in err
    code, _, err = memscan("calibrate", "a.tar", "-m", "none", "-o", "s3://bucket/c.json")
    assert code == ExitCode.REFUSED
    assert "is an address: name a local path" in err


@pytest.mark.parametrize("fmt", ["csv", "json", "table", "parquet"])
def test_a_query_that_fails_leaves_the_file_as_it_was(fmt, results, tmp_path):
    out = tmp_path / "mine"
    out.write_text("before")
    for sql in ("SELECT nothing", "SELECT 1 / CAST(key || 'x' AS INTEGER) FROM scores"):
        code, _, err = memscan("query", results, sql, "-f", fmt, "-o", out)
        assert code == ExitCode.REFUSED
        assert err.startswith("memscan: ")
        assert out.read_text() == "before"
    code, _, err = memscan("query", results, "SELECT key FROM scores", "-f", fmt, "-o", out)
    assert code == ExitCode.OK, err
    assert out.read_bytes() != b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "results"]


@pytest.mark.parametrize("fmt", ["csv", "parquet"])
def test_a_query_writes_to_a_full_disk_a_pipe_or_nowhere(fmt, results, tmp_path):
    sql = "SELECT repeat(caption, 9000) AS c FROM scores"
    code, _, err = memscan("query", results, sql, "-f", fmt, "-o", "/dev/full")
    assert code == ExitCode.REFUSED
    assert err.count("\n") == 1
    assert "No space left on device: make room" in err
    assert memscan("query", results, sql, "-f", fmt, "-o", "/dev/null")[0] == ExitCode.OK
    line = [*COMMAND, "query", results, "SELECT 1 AS one", "-f", fmt, "-o", "/dev/stdout"]
    done = subprocess.run(line, capture_output=True, check=True)
    assert done.stdout.startswith(b"one\n1\n" if fmt == "csv" else b"PAR1")


@pytest.mark.parametrize(
    "words", [["query", "{}", "SELECT caption FROM scores"], ["runs", "{}"], ["--help"]]
)
def test_a_full_standard_output_is_one_line_and_an_exit_code(words, results):
    line = [*COMMAND, *(word.format(results) for word in words)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == ExitCode.REFUSED
    assert done.stderr.startswith("memscan: standard output cannot be written: No space left")
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_is_no_alarm(results):
    line = [
        *COMMAND,
        "query",
        results,
        "SELECT repeat(caption, 9000) AS c FROM scores",
        "-f",
        "csv",
    ]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (ExitCode.OK, b"")


@pytest.mark.parametrize(("cuda", "mps"), [(False, True), (True, True), (False, False)])
def test_every_command_takes_the_same_device(cuda, mps, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    have = {"CPU": 2.0, "GPU": float(cuda)}
    for wanted in ("auto", "cpu"):
        expected = "cuda" if cuda and wanted == "auto" else "cpu"
        assert local_device(wanted) == expected == choose_device(wanted, int(cuda))
        assert placement(Resources(device=wanted), have)[0] == expected
    for device, is_there in (("cuda", cuda), ("mps", mps)):
        if is_there:
            assert local_device(device) == device == placement(Resources(device=device), have)[0]
        else:
            with pytest.raises(ConfigError, match=f"device {device} needs"):
                local_device(device)


@pytest.mark.parametrize("asks", ["choose", "plan", "inspect"])
def test_commands_that_need_no_ray_ask_the_one_rule(asks, monkeypatch):
    from scanner import models
    from scanner.choose import run
    from scanner.cli import inspecting
    from scanner.models import describe, device
    from scanner.planning import forecast

    class AskedError(Exception):
        pass

    def loaded(*args, device="", **_):
        raise AskedError(device or args[1])

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(models, "load", loaded)
    monkeypatch.setattr(describe, "describe", loaded)
    assert run.local_device is forecast.local_device is device.local_device
    if asks == "inspect":
        with pytest.raises(AskedError, match=r"^cpu$"):
            inspecting.inspect("gaussian", device="auto", dtype="float32")
    elif asks == "plan":
        spec = type("Spec", (), {"dtype": "float32", "size": None})
        job = type("Job", (), {"model": "m", "spec": spec, "overlay": None, "offload": "none"})
        with pytest.raises(AskedError, match=r"^cpu$"):
            forecast._measured(job, "auto", 1)
    else:
        monkeypatch.setattr(run, "read", lambda truth: {})
        monkeypatch.setattr(run, "_captions", lambda sources: {})
        monkeypatch.setattr(run, "_chosen", lambda *given: [Caption("s", "k", "text")])
        question = run.ChoiceRequest(model="m", spec=type("Spec", (), {"dtype": "float32"}))
        with pytest.raises(AskedError, match=r"^cpu$"):
            run.measured(question, [], Path("truth"))

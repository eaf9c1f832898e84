"""Two scans of one run, as real processes: the second is refused, or takes over, and says so."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from test_cli import COMMAND, memscan, process
from webdataset.writer import TarWriter

import scanner.engine.driver  # noqa: F401 - the refusal below is to come while there is work left
from scanner import cli
from scanner.errors import ConfigError
from scanner.results.folder import Results


def write_shards(folder, captions=24):
    for shard in range(3):
        with TarWriter(str(folder / f"{shard}.tar")) as writer:
            for n in range(captions):
                writer.write({"__key__": f"{n:04d}", "txt": f"caption {n} of {shard}".encode()})


def test_a_second_scan_is_refused_and_one_that_slept_finds_its_run_taken_over(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MEMSCAN_LEASE_SECONDS", "4")
    write_shards(tmp_path)
    out, store = tmp_path / "results", Results(tmp_path / "results")
    words = ["scan", tmp_path, "--model", "gaussian", "--steps", "150", "--probes", "8",
             "--localize", "all", "--actors", "1", "--chunk-size", "2", "--json",
             "--out", out]  # fmt: skip
    words = [str(word) for word in words]
    first = subprocess.Popen(
        [*COMMAND, *words], env=os.environ, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 200
        while not (store.exists() and any(store.committed(run) for run in store.runs())):
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (run,) = store.runs()
        with pytest.raises(ConfigError, match=rf"another scan of run {run} is at work \(process"):
            cli.app(words, standalone_mode=False)
        assert first.poll() is None
        os.kill(first.pid, signal.SIGSTOP)
        assert len(store.committed(run)) < 36
        time.sleep(5)
        second = process(*words)
        assert second.returncode == 0, second.stderr
        summary = json.loads(second.stdout)
        assert (summary["samples"], summary["complete"]) == (72, True)
        os.kill(first.pid, signal.SIGCONT)
        said = first.communicate(timeout=60)[1]
        assert first.returncode == 4, said
        assert f"another scan of run {run} took over" in said
        assert store.read_run(run)["status"] == "complete"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
    rows = [(row["shard"], row["key"]) for file in store.files("scores")
            for row in store.read(file, ["shard", "key"]).to_pylist()]  # fmt: skip
    assert len(rows) == len(set(rows)) == 72
    verified = memscan("verify", out)
    assert verified.returncode == 0, verified.stdout

"""A scan whose web servers send a byte now and then, as a user meets it."""

import json
import time

import pytest
from slow_server import slow_server
from test_cli import process
from webdataset.writer import TarWriter

from scanner.results.folder import Results

pytest.importorskip("aiohttp")


def test_shards_that_drip_are_named_and_unreadable_and_the_rest_is_scanned(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSCAN_STORE_PATIENCE", "3")
    for name in ("body", "headers", "steady", "whole"):
        with TarWriter(str(tmp_path / f"{name}.tar")) as writer:
            for n in range(12):
                writer.write({"__key__": f"{n:04d}", "txt": f"caption {n} of {name}".encode()})

    def pace(name):
        drip = {"body.tar": ("body", 1, 0.05), "headers.tar": ("headers", 1, 0.05)}
        return drip.get(name, ("body", 400, 0.05) if name == "steady.tar" else None)

    with slow_server(tmp_path, pace) as (url, _):
        begun = time.monotonic()
        done = process("scan", f"{url}/{{body,headers,steady,whole}}.tar", "--model", "gaussian",
                       "--actors", "1", "--json", "--out", tmp_path / "results")  # fmt: skip
        seconds = time.monotonic() - begun
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert summary["samples"] == 24
    told = sorted(summary["incomplete"])
    assert [text.partition(" ")[0] for text in told] == [f"{url}/body.tar", f"{url}/headers.tar"]
    assert all("the server is too slow (it" in text for text in told)
    assert f"{url}/body.tar" in done.stderr
    assert "Traceback" not in done.stderr
    assert seconds < 300
    store = Results(tmp_path / "results")
    assert store.read_run(summary["run"])["status"] == "incomplete"

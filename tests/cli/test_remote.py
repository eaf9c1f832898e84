"""Shards and results in a bucket of a real S3 server, as a user works with them."""

import io
import json
import os
import signal
import subprocess
import time

import fsspec
import pytest
from test_cli import COMMAND, memscan, process
from webdataset.writer import TarWriter

from scanner.results.folder import Results

SETTINGS = ["--model", "gaussian", "--steps", "3", "--probes", "1", "--actors", "1",
            "--threshold", "0", "--chunk-size", "4"]  # fmt: skip


def put_shard(bucket, name, captions):
    stream = io.BytesIO()
    with TarWriter(stream) as writer:
        for number, caption in enumerate(captions):
            writer.write({"__key__": f"{number:04d}", "txt": caption.encode()})
    files = fsspec.filesystem("s3", use_listings_cache=False)
    files.pipe_file(f"{bucket}/shards/{name}", stream.getvalue())


@pytest.fixture
def corpus(s3):
    for shard in range(3):
        put_shard(s3.bucket, f"{shard}.tar", [f"caption {n} of {shard}" for n in range(14)])
    return f"{s3.bucket}/shards/*.tar"


def test_a_scan_in_a_bucket_is_killed_resumed_and_queried(s3, corpus, tmp_path):
    place = f"{s3.bucket}/results"
    command = ["scan", corpus, *SETTINGS, "--out", place]
    first = subprocess.Popen(
        [*COMMAND, *command], env=os.environ, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    store, deadline = Results(place), time.monotonic() + 400
    while not any(store.store.entries("commits")):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)  # each look is work for the server and this machine
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = process(*command, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["samples"], summary["complete"]) == (42, True)
    assert summary["chunks_skipped"] >= 1

    sql = "SELECT count(*) AS n, count(DISTINCT (shard, key)) AS d FROM scores"
    rows = json.loads(memscan("query", place, sql, "-f", "json").stdout)
    assert rows == [{"n": 42, "d": 42}]
    store.store.put("secret.parquet", b"PAR1")
    for hostile in (f"FROM read_parquet('{place}/secret.parquet')", f"FROM glob('{place}/*')",
                    f"COPY scores TO '{place}/x.parquet'",
                    f"FROM read_text('{place}/runs/{summary['run']}.json')"):  # fmt: skip
        done = memscan("query", place, hostile)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), hostile
    assert store.store.entry("x.parquet") is None
    assert "complete" in memscan("runs", place).stdout
    page = memscan("report", place, "--out", tmp_path / "report.html")
    assert page.returncode == 0, page.stderr
    same = memscan("diff", place, summary["run"], summary["run"])
    assert same.returncode == 2 or "new" in same.stdout


def test_results_that_cannot_be_kept_are_refused_before_anything_runs(s3, corpus):
    done = memscan("scan", corpus, *SETTINGS, "--out", "s3://no-such-bucket/r")
    assert done.returncode == 2
    assert "does not exist; check the bucket" in done.stderr
    s3.fails(deaf=True)
    done = memscan("scan", corpus, *SETTINGS, "--out", f"{s3.bucket}/r")
    assert done.returncode == 2
    assert "lets a name be created twice" in done.stderr
    done = memscan("runs", f"{s3.bucket}/nothing")
    assert (done.returncode, "scan into it first" in done.stderr) == (2, True)

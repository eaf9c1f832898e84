"""Shards on a web server that fails, dies and comes back: read whole, or named; never short."""

import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from webdataset.writer import TarWriter

from scanner import retry
from scanner.errors import ShardError
from scanner.shards import reading as shards

pytest.importorskip("aiohttp")
SAMPLES, CHUNK = 90, 40


@contextmanager
def served(folder, mode="ranged", share=0.0, seed=1, port=0):
    script = Path(__file__).parents[1] / "support" / "flaky_server.py"
    words = [sys.executable, script, folder, port, mode, share, seed]
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("a.tar", "a.tar.gz"):
        with TarWriter(str(folder / name)) as sink:
            for n in range(SAMPLES):
                sample = {"txt": f"caption {n}", "jpg": bytes([n]) * 100_000}
                sink.write({"__key__": f"{n:05d}", **sample})
    return folder


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.01)


def read(url):
    index = shards.index(shards.stat(url), CHUNK)
    assert index.problem is None
    items = [item for chunk in index.chunks for item in shards.read(chunk, images=True)]
    assert [(item.text, len(item.image)) for item in items] == [
        (f"caption {n}", 100_000) for n in range(SAMPLES)
    ]
    assert all(item.image == bytes([n]) * 100_000 for n, item in enumerate(items))


@pytest.mark.parametrize("mode", ["ranged", "plain", "chunked"])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_server_that_fails_now_and_then_gives_the_whole_shard(folder, mode, name):
    with served(folder, mode, share=0.4) as (url, _):
        for _ in range(2):
            read(f"{url}/{name}")
        strikes = int(urllib.request.urlopen(f"{url}/strikes", timeout=10).read())
    assert strikes >= 3


def test_a_server_that_dies_while_a_shard_is_read_and_comes_back(folder):
    with served(folder) as (url, process):
        index = shards.index(shards.stat(f"{url}/a.tar"), 1000)
        reading = shards.read(index.chunks[0], images=True)
        found = [next(reading)]
        process.kill()
        process.wait()

        def revive():
            time.sleep(1.0)
            with served(folder, port=url.rpartition(":")[2]):
                done.wait(60)

        done = threading.Event()
        thread = threading.Thread(target=revive)
        thread.start()
        found += list(reading)
        done.set()
        thread.join()
    assert [item.text for item in found] == [f"caption {n}" for n in range(SAMPLES)]


def test_a_server_that_stays_away_is_an_error_with_what_to_do(folder, monkeypatch):
    monkeypatch.setenv("MEMSCAN_STORE_PATIENCE", "0.5")
    with served(folder) as (url, process):
        reading = shards.read(
            shards.index(shards.stat(f"{url}/a.tar"), 1000).chunks[0], images=True
        )
        next(reading)
        process.kill()
        process.wait()
        with pytest.raises(ShardError, match=r".*no answer within .* run again when the store is"):
            list(reading)
        with pytest.raises(ShardError, match=r".*cannot be read: .*no answer within"):
            shards.stat(f"{url}/a.tar")


def test_a_shard_that_is_another_one_when_the_server_is_back_is_refused(folder, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes((folder / "a.tar").read_bytes())
    with served(tmp_path, "plain", share=0.9, seed=3) as (url, _):
        shard = shards.stat(f"{url}/a.tar")
        path.write_bytes((folder / "a.tar").read_bytes()[:-5000])
        with pytest.raises(ShardError, match=r".*changed since it was listed"):
            shards.index(shard, CHUNK)


def test_what_does_not_pass_is_no_reason_to_wait(folder):
    with served(folder) as (url, _):
        begun = time.monotonic()
        with pytest.raises(ShardError, match=r".*it does not exist; check"):
            shards.stat(f"{url}/missing.tar")
        assert time.monotonic() - begun < 5

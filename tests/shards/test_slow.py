"""Web servers that are slow: those that never end are given up, those that are steady are not."""

import time

import pytest
from slow_server import slow_server
from webdataset.writer import TarWriter

from scanner import retry
from scanner.errors import ShardError
from scanner.shards import reading as shards

pytest.importorskip("aiohttp")
PATIENCE = 3.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("a.tar", "a.tar.gz"):
        with TarWriter(str(folder / name)) as sink:
            for n in range(20):
                sink.write({"__key__": f"{n:05d}", "txt": f"caption {n}", "jpg": bytes(1000)})
    return folder


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("MEMSCAN_STORE_PATIENCE", str(PATIENCE))


def read(url):
    index = shards.index(shards.stat(url), 1000)
    assert index.problem is None
    return [item.text for chunk in index.chunks for item in shards.read(chunk, images=True)]


@pytest.mark.parametrize(("ranges", "length"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_server_that_drips_is_tried_again_and_then_given_up(folder, where, ranges, length):
    with slow_server(folder, lambda _: (where, 1, 0.02), ranges=ranges, length=length) as (
        url, requests,
    ):  # fmt: skip
        begun = time.monotonic()
        with pytest.raises(ShardError, match=r"a\.tar cannot be .*: the server is too slow \(it"):
            read(f"{url}/a.tar")
        assert time.monotonic() - begun < 6 * PATIENCE
        assert sum(command == "GET" for command, _ in requests) >= 2


def test_a_server_that_drips_after_a_while_is_given_up_while_a_chunk_is_read(folder):
    drips = False
    with slow_server(folder, lambda _: ("body", 1, 0.02) if drips else None) as (url, _):
        index = shards.index(shards.stat(f"{url}/a.tar"), 1000)
        drips = True
        with pytest.raises(ShardError, match="the server is too slow"):
            list(shards.read(index.chunks[0], images=True))


def test_a_few_bytes_an_answer_are_no_progress(folder):
    """Without ranges every byte that arrives would begin the patience anew."""
    with slow_server(folder, lambda _: ("body", 40, 0.06), ranges=False, length=False) as (url, _):
        begun = time.monotonic()
        with pytest.raises(ShardError, match="the server is too slow"):
            read(f"{url}/a.tar")
        assert time.monotonic() - begun < 6 * PATIENCE


@pytest.mark.parametrize(("ranges", "length"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_server_that_is_slow_and_steady_is_read_to_the_end(folder, name, ranges, length):
    size = (folder / name).stat().st_size
    count = max(1, size // 80)  # a pass takes more than a window of a second
    with slow_server(folder, lambda _: ("body", max(count, 50), 0.02), ranges=ranges,
                     length=length) as (url, _):  # fmt: skip
        assert read(f"{url}/{name}") == [f"caption {n}" for n in range(20)]


def test_time_in_which_nobody_waits_for_the_server_does_not_count(folder):
    with slow_server(folder, lambda _: None, ranges=False, length=False) as (url, _):
        index = shards.index(shards.stat(f"{url}/a.tar"), 1000)
        reading = shards.read(index.chunks[0], images=True)
        found = [next(reading)]
        time.sleep(1.5)
        found += list(reading)
    assert len(found) == 20

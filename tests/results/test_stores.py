"""What a folder and a real S3 server promise alike, and what each does when it fails."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_folder import CHUNK, FACTS, RUN, commit, result

from scanner.errors import ConfigError, ResultsError
from scanner.results import stores
from scanner.results.folder import Results


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        return stores.opened(tmp_path / "store")
    return stores.opened(f"{request.getfixturevalue('s3').bucket}/pre/fix")


def test_a_store_gives_back_what_was_put_and_creates_once(store):
    stores.check(store)
    assert store.entries("") == []
    assert store.read("a/b.json") is None
    assert store.entry("a/b.json") is None
    store.put("a/b.json", b"one")
    store.put("a/b.json", b"three")
    assert not store.create("a/b.json", b"two")
    assert store.create("a/c/d.json", b"new")
    assert [(e.name, e.size) for e in store.entries("a")] == [("a/b.json", 5), ("a/c/d.json", 3)]
    assert abs(store.entry("a/b.json").modified - time.time()) < 60
    assert store.folders("a") == ["c"]
    assert store.folders("nowhere") == store.entries("nowhere") == []
    names = ["a/c/d.json", "a/none", "a/b.json"]
    assert list(store.read_all(names)) == [("a/c/d.json", b"new"), ("a/b.json", b"three")]
    with store.open("a/b.json") as file:
        file.seek(2)
        assert file.read() == b"ree"
    store.remove("a/b.json")
    store.remove("a/b.json")
    assert store.read("a/b.json") is None


def test_of_many_that_create_one_name_one_succeeds(store):
    for n in range(5):
        with ThreadPoolExecutor(8) as pool:
            contents = [f"{n}-{i}".encode() for i in range(8)]
            won = list(pool.map(lambda c, n=n: store.create(f"race/{n}", c), contents))
        assert sum(won) == 1
        assert store.read(f"race/{n}") == contents[won.index(True)]


def test_results_in_a_bucket_are_results(s3):
    place = f"{s3.bucket}/results"
    store = Results(place)
    assert not store.exists()
    assert store.commit(RUN, CHUNK, result(), extra=["wen"], facts=FACTS)
    assert not store.commit(RUN, CHUNK, result(2.0), extra=["wen"], facts=FACTS)
    assert store.exists()
    assert list(store.commits(RUN)) == store.committed(RUN) == [CHUNK]
    (file,) = store.files("scores")
    assert file.startswith(f"{place}/scores/run={RUN}/")
    assert store.read(file, ["delta_s"])["delta_s"].to_pylist() == [1.0, 1.0, None]
    store.write_run(RUN, {"started": "2030"})
    assert store.read_run(RUN) == {"started": "2030"}


def test_rivals_in_a_bucket_leave_one_set_of_files(s3):
    place, deltas = f"{s3.bucket}/rivals", [1.0, 2.0, 3.0, 4.0]
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda d: commit(place, CHUNK, d), deltas))
    assert sum(won) == 1
    store = Results(place)
    record = store.commits(RUN)[CHUNK]
    listed = sorted(file.path for file in record.files.values())
    assert [e.name for e in store.store.entries("") if e.name.endswith(".parquet")] == listed


@pytest.mark.parametrize("status", [500, 503, 429])
def test_what_passes_is_waited_for(s3, status):
    place = f"{s3.bucket}/flaky"
    s3.fails(status=status, times=3)
    assert commit(place)
    s3.fails(status=status, times=3)
    assert list(Results(place).commits(RUN)) == [CHUNK]


def test_a_commit_whose_answer_was_lost_is_ours(s3):
    s3.fails(status=500, applied=True, times=1, methods=["PUT"], inside="commits")
    assert commit(f"{s3.bucket}/lost")


def test_what_does_not_pass_is_said_at_once_with_what_to_do(s3, monkeypatch):
    begun = time.monotonic()
    with pytest.raises(ResultsError, match=r"s3://no-such-bucket/.*does not exist; check the buck"):
        commit("s3://no-such-bucket/x")
    s3.fails(status=403, methods=["PUT"])
    with pytest.raises(ResultsError, match=r"cannot be written: .*access is denied; give cred"):
        commit(f"{s3.bucket}/denied")
    assert time.monotonic() - begun < 5
    s3.fails(status=503)
    monkeypatch.setenv("MEMSCAN_STORE_PATIENCE", "0.1")
    with pytest.raises(ResultsError, match=r"no answer within 0 s; run again when the store is"):
        commit(f"{s3.bucket}/down")


def test_a_store_that_ignores_conditions_is_refused(s3):
    s3.fails(deaf=True)
    with pytest.raises(ConfigError, match=r"lets a name be created twice .*use a store that hon"):
        Results(f"{s3.bucket}/deaf").check()


def test_addresses_that_hold_no_results_are_refused():
    for bad in ("http://host/x", "ftp://x/y", "s3://", "file:///x", "s3://a::gs://b"):
        with pytest.raises(ConfigError, match="results go to a local"):
            Results(bad)
    with pytest.raises(ConfigError, match=r"install memscan\[s3\] or memscan\[gcs\]"):
        Results("gs://bucket/x")


def test_a_path_becomes_absolute_and_an_address_stays():
    assert stores.place("s3://b/p/") == "s3://b/p"
    assert stores.place("x") == str(Path("x").absolute())

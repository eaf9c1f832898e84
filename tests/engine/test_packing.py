"""A long run packs itself: its rows stay, and what cannot be packed does not stop the scan."""

import pytest
from engine_harness import job_of, rows, write_shard

from scanner.engine import Resources, packing, scan
from scanner.errors import ConfigError, ResultsError
from scanner.results import compact, verify
from scanner.results.folder import Results

LEAST = 4


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(packing, "LEAST_CHUNKS", LEAST)
    monkeypatch.setattr(compact, "FULL_CHUNKS", LEAST)


@pytest.fixture
def shards(tmp_path):
    return [
        write_shard(tmp_path / f"{name}.tar", [f"{name} {n}" for n in range(6)]) for name in "ab"
    ]


def here(shards, root, heard=lambda event: None, **resources):
    resources = Resources(local=True, device="cpu", threads=1, **resources)
    return scan(job_of(shards, root, chunk_size=1), resources, heard)


def test_a_long_run_is_packed_and_a_short_one_is_not(shards, tmp_path):
    done = here(shards[:1], tmp_path / "r", most_samples=LEAST - 1)
    results = Results(tmp_path / "r")
    assert results.history(done.run).length == 0
    done = here(shards, tmp_path / "r")
    history = results.history(done.run)
    commits = results.commits(done.run)
    assert len(commits) == 12
    left = commits.keys() - history.commits().keys()  # the last one, if all packs before are full
    assert len(left) <= 1
    assert verify.verify(results, done.run, lambda *_: None, keys=True).is_sound
    assert here(shards, tmp_path / "r").chunks_done == 0
    assert results.history(done.run).length == history.length
    before = rows(tmp_path / "r")
    replaced = {name for pack in history.effective() for name in history.replaced(pack)}
    assert len(replaced) >= 11
    for name in replaced:
        (tmp_path / "r" / name).unlink()  # nothing reads the small files any more
    assert verify.verify(results, done.run, lambda *_: None).is_sound
    assert rows(tmp_path / "r") == before


@pytest.mark.parametrize(("error", "told"), [(ResultsError, 1), (ConfigError, 0)])
def test_what_cannot_be_packed_stops_nothing(shards, tmp_path, monkeypatch, error, told):
    def fails(*_):
        raise error("the disk is odd")

    monkeypatch.setattr(compact, "compact", fails)
    heard = []
    done = here(shards, tmp_path / "r", heard.append)
    assert (done.samples, done.is_complete) == (12, True)
    texts = [event.text for event in heard if event.kind == "problem"]
    assert len(texts) == told
    assert all("the disk is odd" in text for text in texts)


def test_a_pack_of_many_chunks_does_not_grow(shards, tmp_path):
    done = here(shards[:1], tmp_path / "r")
    results = Results(tmp_path / "r")
    first = {frozenset(pack.commits) for pack in results.history(done.run).effective()}
    here(shards, tmp_path / "r")
    history = results.history(done.run)
    full = {chunks for chunks in first if len(chunks) >= LEAST}
    assert full
    assert full <= {frozenset(pack.commits) for pack in history.effective()}

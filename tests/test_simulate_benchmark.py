"""The simulated scan at toy size: nothing lost or twice, and its check can fail."""

import importlib
import json
from pathlib import Path

import pytest

from scanner.engine import packing
from scanner.results import compact, manifest

SHARDS, CHUNK = 6, 50


@pytest.fixture(scope="module")
def modules():
    """The simulation's modules by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        names = ("simulate", "simulated_runtime", "simulated_store")
        yield {name: importlib.import_module(name) for name in names}


@pytest.fixture
def toy(modules, tmp_path, monkeypatch):
    """A scan of 60 chunks that is killed half way, resumed, and packed."""
    monkeypatch.setattr(packing, "LEAST_CHUNKS", 20)
    monkeypatch.setattr(compact, "FULL_CHUNKS", 20)
    fleet = modules["simulated_runtime"].Fleet(
        actors=4, rate=5.0, load_seconds=20.0, lifetime_hours=0.05, seed=1
    )
    simulation = modules["simulate"].Simulation(
        tmp_path, SHARDS * 500, SHARDS, fleet, CHUNK, refused=0.05, lost=0.05, per_second=100.0
    )
    with simulation.clock.installed():
        simulation.head(dies=100.0)
        assert 0 < simulation.done < sum(simulation.samples.values())
        simulation.head()
        yield simulation


def test_deaths_and_a_store_that_fails_lose_nothing(toy):
    assert list(toy.problems()) == []
    assert sum(runtime.spent.deaths for runtime in toy.runtimes) > 0
    assert toy.bucket.requests["lost"] > 0
    assert toy.bucket.requests["503"] > 0
    assert toy.results.history("0123456789ab").commits()  # a long run packs itself
    toy.head()
    assert toy.chunks == 0


def test_requests_of_one_that_waits_take_nothing_from_the_others(modules, tmp_path):
    store = modules["simulated_store"]
    clock = store.Clock()
    bucket = store.Bucket(clock, tmp_path / "bucket.db", latency=0.0, per_second=2)
    clock.sleep(30)  # one that waited long, so it is ahead
    for _ in range(2):
        bucket.pipe_file("one", b"")
    with pytest.raises(store.StoreError, match="429"):
        bucket.pipe_file("one", b"")
    clock.settled()
    for _ in range(2):
        assert bucket.cat_file("one") == b""
    assert bucket.requests["429"] == 1


def test_a_commit_that_is_lost_is_found(toy, modules):
    run = modules["simulate"].RUN
    history = toy.results.history(run)
    victim = next(iter(history.commits()))
    dissolved = {"dissolves": list(history.in_effect)}  # a pack has the record of its chunks too
    assert manifest.append(toy.results.store, run, history.length, dissolved)
    toy.results.store.remove(f"commits/{run}/{victim}.json")
    texts = list(toy.problems())
    assert any("no commit record" in text for text in texts)
    assert any("is not committed whole" in text for text in texts)


def test_a_commit_that_is_made_twice_is_found(toy, modules):
    run, results = modules["simulate"].RUN, toy.results
    record = next(iter(results.commits(run).values()))
    results.commit_files(
        run, f"{record.chunk}.0-9", record.files, counts=record.content["counts"],
        facts={n: v for n, v in record.content.items() if n in ("shard", "shard_id", "number")}
        | {"chunk_samples": CHUNK, "start": 0, "stop": 9, "shard_chunks": 10},
    )  # fmt: skip
    assert any("is committed twice" in text for text in toy.problems())


def test_a_size_that_nobody_gave_is_chosen_and_the_table_has_its_row(modules, tmp_path, capsys):
    words = ["2e4", "--actors", "4", "--rate", "20", "--per-shard", "5000"]
    code = modules["simulate"].main([*words, "--json", "--folder", str(tmp_path)])
    assert code == 0
    row = json.loads(capsys.readouterr().out)
    assert row["samples"] == 1216  # a minute at 20 a second, in batches of 32
    assert row["records"] == sum(-(-n // 1216) for n in _samples(modules, 2e4, 5000))
    assert set(modules["simulate"].HEADS) <= set(row)


def _samples(modules, captions, per_shard):
    shards = int(captions // per_shard)
    return dict(modules["simulate"]._corpus(per_shard, shards, 0)).values()

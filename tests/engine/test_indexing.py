"""Counting: a shard that takes its time is named, tried again, and holds up no other."""

import time

import pytest
import ray

from scanner.engine import indexing
from scanner.engine.failures import Failure
from scanner.engine.indexing import ShardIndexer
from scanner.engine.job import Resources
from scanner.engine.ray_runtime import RayRuntime
from scanner.errors import ShardError


def told(one, until, seconds=120):
    """Return the answers and the late shards of a survey until ``until`` says that is enough."""
    answers, late, deadline = [], [], time.monotonic() + seconds
    while not until(answers):
        assert time.monotonic() < deadline
        answers += one.answers()
        late += one.late()
        ray.wait(one.refs, timeout=0.2) if one.refs else time.sleep(0.05)
    return answers, late


def indexer(urls, width, **settings):
    runtime = RayRuntime(Resources(device="cpu"))
    runtime.indexing_width = width
    return ShardIndexer(runtime, urls, 4, {}, **settings)


@pytest.fixture(autouse=True)
def quick_limits(monkeypatch):
    def counted(url, chunk_size, finished):
        time.sleep(600 if url.startswith("slow") else 0)
        return url

    monkeypatch.setattr(indexing, "index_shard", counted)
    monkeypatch.setattr(indexing, "LATE_SECONDS", 0.2)


def test_a_slow_shard_is_named_and_the_others_do_not_wait_for_it():
    one = indexer(["slow.tar", "b.tar", "c.tar"], 2, in_order=False)
    answers, late = told(one, lambda answers: len(answers) == 2)
    assert sorted(answers) == [("b.tar", "b.tar"), ("c.tar", "c.tar")]
    assert late.count("slow.tar") == 1
    one.stop()
    assert one.is_over


def test_a_shard_that_is_not_counted_in_time_is_tried_again_and_then_given_up(monkeypatch):
    told(indexer(["warm.tar"], 1), lambda answers: len(answers) == 1)
    monkeypatch.setattr(indexing, "COUNT_SECONDS", 3.0)
    one = indexer(["slow.tar"], 1)
    ((url, answer),), _ = told(one, lambda answers: len(answers) == 1)
    assert url == "slow.tar"
    assert answer == Failure(
        ShardError,
        "slow.tar could not be counted within 3 s, tried 2 times: split it, or copy it to a "
        "faster place",
    )
    assert one.is_over


def test_where_the_order_counts_the_shards_come_in_it():
    one = indexer(["a.tar", "b.tar", "c.tar"], 3)
    answers, _ = told(one, lambda answers: len(answers) == 3)
    assert [url for url, _ in answers] == ["a.tar", "b.tar", "c.tar"]

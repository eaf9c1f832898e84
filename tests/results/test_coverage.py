"""The loss of commit records shows, and nothing is called lost that was never recorded."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.results import coverage
from scanner.results.commit_file import CommitFile, Counts, ShardRange

NUMBERS = st.sets(st.integers(0, 40))


def commits(shard="a.tar", identity="id-a", chunks=4, numbers=None, size=10, **facts):
    found = {}
    for number in range(chunks) if numbers is None else numbers:
        place = ShardRange(
            shard, identity, number, chunk_samples=size, start=0, stop=size, shard_chunks=chunks
        )
        name = f"{identity}-{number}"
        counts = Counts(samples=size, scored=size, rejected=0, flagged=0)
        found[name] = CommitFile("r1", name, {}, counts, place._replace(**facts))
    return found


def record(there, **content):
    known = coverage.written(coverage.committed(there.values()))
    return {"status": "complete", coverage.KEY: known, **content}


def lost(content, there):
    return list(coverage.missing(content, there))


@settings(deadline=None)
@given(NUMBERS)
def test_ranges_read_back(numbers):
    assert coverage._numbers(coverage.ranges(numbers)) == numbers


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
def test_every_chunk_that_was_recorded_and_is_gone_is_named(then, now):
    told = lost(record(commits(chunks=41, numbers=then)), commits(chunks=41, numbers=now))
    gone = then - now
    assert bool(told) == bool(gone)
    if gone:
        assert f" {coverage.ranges(gone)} of 41" in told[0]


def test_a_lost_part_of_a_chunk_is_named_and_the_whole_chunk_stands_for_its_parts():
    part = {"a": next(iter(commits(numbers=[2], stop=6).values()))}
    rest = {"b": next(iter(commits(numbers=[2], start=6).values()))}
    known = record(part)
    assert known[coverage.KEY]["id-a"]["parts"] == {"2": 6}
    assert lost(known, part) == []
    assert lost(known, part | rest) == []
    assert lost(known, commits(numbers=[2])) == []
    assert lost(known, {}) == ["a.tar: no commit record of chunk 2 of 4"]
    assert lost(record(part | rest), part) == ["a.tar: no commit record of chunk 2 of 4"]


def test_shards_of_earlier_scans_of_the_run_stay_recorded():
    first, second = commits(), commits("b.tar", "id-b")
    then = coverage.recorded(record(first))
    now = coverage.committed(second.values())
    coverage.merge(then, now)
    content = {coverage.KEY: coverage.written(then)}
    assert lost(content, first | second) == []
    assert lost(content, second) == ["a.tar: no commit record of chunks 0-3 of 4"]


def test_a_shard_that_changed_and_was_scanned_whole_takes_the_place_of_what_it_was():
    known, new = record(commits()), commits(identity="id-new", chunks=3)
    assert lost(known, new) == []
    del new["id-new-1"]
    assert lost(known, new) == ["a.tar: no commit record of chunks 0-3 of 4"]


def test_a_run_of_an_earlier_version_is_held_to_its_counts_alone():
    config = {"shards": ["a.tar", "b.tar"]}
    content = {"status": "complete", "config": config, "counts": {"samples": 80}}
    every = commits() | commits("b.tar", "id-b")
    assert lost(content, every) == []
    assert lost(content, commits()) == [
        "the last scan counted 80 samples, and commit records have 40 of them",
        "b.tar: no commit record",
    ]
    del every["id-b-2"]
    assert lost(content, every)[1:] == ["b.tar: no commit record of chunk 2 of 4"]
    assert coverage.status(content, every) == "incomplete"
    budget = content | {"counts": {"samples": 70}}  # complete, because its budget was spent
    assert lost(budget, every) == []


def test_what_an_interrupted_run_never_committed_is_not_lost():
    some = commits(numbers=[0, 3])
    for status in ("running", "interrupted", "failed"):
        content = record(some, status=status)
        assert lost(content, some) == []
        assert coverage.status(content, {}) == status
    assert lost({"status": "running", "counts": {"samples": 0}}, some) == []


def test_commits_that_name_no_shard_are_left_out():
    old = {"c": CommitFile("r1", "c", {}, Counts(samples=10, scored=10, rejected=0, flagged=0))}
    assert lost({"status": "complete", "counts": {"samples": 10},
                 "config": {"shards": ["a.tar"]}}, old) == []  # fmt: skip

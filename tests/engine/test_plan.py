from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from scanner.engine.plan import CommitIndex, Plan
from scanner.results.commit_file import CommitFile, Counts


def index_of(sizes, shard="s"):
    shard = SimpleNamespace(id=f"{shard}-id", url=f"{shard}.tar", size=1, etag="")
    chunks = tuple(
        SimpleNamespace(shard=shard, number=n, samples=size, name=f"{shard.id}-{n}")
        for n, size in enumerate(sizes)
    )
    return SimpleNamespace(shard=shard, chunks=chunks, samples=sum(sizes), problem=None)


def plan_all(commits, limit, indices):
    """Plan every shard; return the units, and what is committed after they are."""
    ledger = CommitIndex(commits)
    plan, units = Plan(ledger, limit), []
    for index in indices:
        if index.shard.id in ledger.finished().get(index.shard.url, ()):
            plan.skip(index.shard.id)
        else:
            units += plan.work_units(index)
    done = {
        unit.name: CommitFile("r1", unit.name, {}, Counts(unit.place.samples, 0, 0, 0), unit.place)
        for unit in units
    }
    assert len(done) == len(units)
    return plan, units, commits | done


def covered(commits):
    return [
        (record.place.shard_id, record.place.number, position)
        for record in commits.values()
        for position in range(record.place.start, record.place.stop)
    ]


@given(
    sizes=st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=3),
    limits=st.lists(st.integers(1, 30), max_size=4),
)
def test_limits_in_any_order_and_then_none_cover_each_sample_once(sizes, limits):
    indices = [index_of(chunks, f"s{n}") for n, chunks in enumerate(sizes)]
    every = [
        (index.shard.id, chunk.number, position)
        for index in indices
        for chunk in index.chunks
        for position in range(chunk.samples)
    ]
    commits = {}
    for limit in [*limits, None]:
        plan, _, commits = plan_all(commits, limit, indices)
        taken = covered(commits)
        assert len(taken) == len(set(taken))
        assert set(every[:limit]) <= set(taken)
    assert sorted(covered(commits)) == sorted(every)
    assert plan.total == len(every)
    assert plan_all(commits, None, indices)[1] == []


def test_a_whole_chunk_keeps_its_own_name_and_a_part_gets_another():
    _, units, _ = plan_all({}, 5, [index_of([4, 4])])
    assert [p.name for p in units] == ["s-id-0", "s-id-1.0-1"]


def test_a_finished_shard_need_not_be_opened_and_a_partial_one_must():
    index = index_of([4, 2])
    _, _, partial = plan_all({}, 5, [index])
    assert CommitIndex(partial).finished() == {}
    _, _, whole = plan_all(partial, None, [index])
    assert CommitIndex(whole).finished() == {"s.tar": {"s-id"}}

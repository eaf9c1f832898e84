from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.engine.plan import WorkUnit
from scanner.engine.queue import ATTEMPTS, MOST_FAILURES_IN_A_ROW, Queue


def unit(name, samples):
    return WorkUnit(SimpleNamespace(name=name, samples=samples), 0, samples, 1)


def drain(queue, kills):
    """Run tasks to the end; ``kills`` says whether a sample of a unit fails its task."""
    committed, tries = {}, 0
    while (task := queue.take()) is not None:
        tries += 1
        assert tries < 1000
        poison = {position for position, _ in task.poison}
        scanned = set(range(task.start, task.stop)) - poison
        if any(kills(task.unit.name, position) for position in scanned):
            queue.failed(task, "it died\ntrace")
        else:
            queue.succeeded(task)
            if not task.trial:
                assert task.unit.name not in committed
                committed[task.unit.name] = poison
    return committed, tries


@pytest.mark.parametrize("samples", [1, 2, 3, 7, 16, 256])
def test_the_poison_sample_is_found_wherever_it_stands(samples):
    for bad in {0, samples // 2, samples - 1}:
        queue = Queue()
        queue.add(unit("good", 3))
        queue.add(unit("bad", samples))
        committed, tries = drain(queue, lambda name, p, bad=bad: name == "bad" and p == bad)
        assert committed == {"good": set(), "bad": {bad}}
        assert not queue.quarantined
        assert tries <= 1 + ATTEMPTS + 2 * (samples - 1).bit_length() + 2 + 1


def test_several_poison_samples_are_found():
    queue = Queue()
    queue.add(unit("bad", 64))
    committed, _ = drain(queue, lambda _, p: p in {3, 4, 60})
    assert committed == {"bad": {3, 4, 60}}


def test_a_piece_of_which_nothing_comes_back_is_given_up_not_rejected():
    queue = Queue()
    queue.add(unit("bad", 64))
    queue.add(unit("good", 2))
    committed, tries = drain(queue, lambda name, _: name == "bad")
    assert committed == {"good": set()}
    assert queue.quarantined == [("bad", "it died\ntrace")]
    assert tries <= 1 + ATTEMPTS + MOST_FAILURES_IN_A_ROW


def test_where_nothing_ever_works_no_sample_is_blamed():
    queue = Queue()
    queue.add(unit("one", 1))
    queue.add(unit("two", 2))
    committed, _ = drain(queue, lambda *_: True)
    assert committed == {}
    assert sorted(name for name, _ in queue.quarantined) == ["one", "two"]


def test_failures_that_pass_cost_no_sample():
    queue = Queue()
    queue.add(unit("unlucky", 8))
    for _ in range(ATTEMPTS):
        queue.failed(queue.take(), "the node died")
    committed, _ = drain(queue, lambda *_: False)
    assert committed == {"unlucky": set()}


def test_an_task_given_back_is_the_next_and_costs_no_attempt():
    queue = Queue()
    queue.add(unit("a", 1))
    queue.add(unit("b", 1))
    for _ in range(2 * ATTEMPTS):
        task = queue.take()
        assert task.unit.name == "a"
        queue.give_back(task)
    assert drain(queue, lambda *_: False)[0] == {"a": set(), "b": set()}


def test_an_unreadable_piece_is_tried_again_and_then_left_without_blame():
    queue = Queue()
    queue.add(unit("a", 1))
    assert [queue.unreadable(queue.take()) for _ in range(ATTEMPTS)] == [True, True, False]
    assert queue.take() is None
    assert not queue.quarantined


def test_what_must_be_alone_is_passed_over_by_an_actor_that_has_company():
    queue = Queue()
    queue.add(unit("a", 2))
    queue.add(unit("b", 2))
    queue.give_back(queue.take(), suspect=True)
    assert queue.apart == 1
    assert queue.take(alone=False).unit.name == "b"
    assert queue.take(alone=False) is None
    task = queue.take()
    assert (task.unit.name, task.alone) == ("a", True)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    bad=st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=3),
    depth=st.integers(1, 6),
    seed=st.randoms(use_true_random=False),
)
def test_company_of_what_kills_is_never_blamed(sizes, bad, depth, seed):
    """An actor with several tasks dies if any of them is deadly; the driver's rules, no Ray."""
    queue, committed, flight, started = Queue(), {}, [], 0
    queue.add(unit("fine", 1))
    for number, size in enumerate(sizes):
        queue.add(unit(str(number), size))
    deadly = {(str(n), p) for n, p in bad if n < len(sizes) and p < sizes[n]}
    while len(queue) or flight:
        started += 1
        assert started < 2000
        while len(flight) < depth and not any(task.alone for task in flight):
            if (task := queue.take(alone=not flight)) is None:
                break
            flight.append(task)
        doomed = [
            task for task in flight
            if any(
                (task.unit.name, p) in deadly and p not in dict(task.poison)
                for p in range(task.start, task.stop)
            )
        ]  # fmt: skip
        if doomed and len(flight) == 1:
            queue.failed(flight.pop(), "it died")
        elif doomed:
            for task in reversed(flight):
                queue.give_back(task, suspect=True)
            flight = []
        else:
            task = flight.pop(seed.randrange(len(flight)))
            queue.succeeded(task)
            if not task.trial:
                committed[task.unit.name] = {p for p, _ in task.poison}
    given_up = {name for name, _ in queue.quarantined}
    names = {"fine", *(str(n) for n in range(len(sizes)))}
    assert set(committed) | given_up == names
    for name, poison in committed.items():
        assert {(name, p) for p in poison} == {one for one in deadly if one[0] == name}
    assert given_up <= {name for name, _ in deadly}

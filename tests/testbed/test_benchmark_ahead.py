"""Pictures drawn ahead by another process are the same, and nobody waits for a dead one."""

import threading
from multiprocessing import Value

import numpy as np
import pytest

from scanner.testbed.benchmark import ahead, recipe
from scanner.testbed.benchmark.latents import Latents

QUICK = recipe.quick("unet")


class Process:
    """Lives as long as it is told to."""

    def __init__(self, *, alive: bool) -> None:
        self.alive = alive

    def is_alive(self) -> bool:
        return self.alive


class Drawn:
    """Latents that note which chunks are drawn here."""

    def __init__(self, *present: int) -> None:
        self.present, self.here = set(present), []

    def has(self, chunk: int) -> bool:
        return chunk in self.present

    def draw(self, chunk: int) -> None:
        self.here.append(chunk)
        self.present.add(chunk)


def test_what_is_there_is_not_drawn():
    latents = Drawn(3)
    ahead.Ahead(latents, [3, 4], Process(alive=True), Value("i", 3)).need(3)
    assert latents.here == []


@pytest.mark.parametrize(("alive", "at"), [(True, 7), (True, ahead.NOTHING), (False, 3)])
def test_a_chunk_that_nobody_is_drawing_is_drawn_here(alive, at):
    latents = Drawn()
    ahead.Ahead(latents, [3, 4], Process(alive=alive), Value("i", at)).need(3)
    assert latents.here == [3]


def test_the_next_chunk_is_drawn_while_another_process_is_at_this_one():
    latents = Drawn()
    timer = threading.Timer(0.5, latents.present.add, [3])
    timer.start()
    ahead.Ahead(latents, [3, 5], Process(alive=True), Value("i", 3)).need(3)
    assert latents.here == [5]
    assert latents.has(3)


def test_a_process_that_dies_is_not_waited_for():
    latents, process = Drawn(5), Process(alive=True)
    threading.Timer(0.5, setattr, [process, "alive", False]).start()
    ahead.Ahead(latents, [3, 5], process, Value("i", 3)).need(3)
    assert latents.here == [3]


def test_another_process_draws_the_same(tmp_path, monkeypatch):
    chunks, here = [0, 2], ahead.latents_of(QUICK, tmp_path / "here")
    there = ahead.latents_of(QUICK, tmp_path / "there")
    with ahead.drawing(QUICK, tmp_path / "there", there, chunks):
        monkeypatch.setattr(Latents, "draw", lambda *_: pytest.fail("drawn here"))
        while not all(map(there.has, chunks)):
            threading.Event().wait(0.1)
    monkeypatch.undo()
    size = here.background_chunk
    for number in (0, size - 1, 2 * size):
        (said, own), (other, latent) = here.background(number), there.background(number)
        assert said == other
        assert np.array_equal(own, latent)
    assert not there.has(1)


def test_nothing_is_started_for_what_is_there(tmp_path, monkeypatch):
    latents = ahead.latents_of(QUICK, tmp_path)
    latents.draw(0)
    monkeypatch.setattr(ahead.multiprocessing, "get_context", lambda _: pytest.fail("started"))
    with ahead.drawing(QUICK, tmp_path, latents, [0]):
        latents.background(0)

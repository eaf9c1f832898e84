"""Pictures of the background drawn ahead, by a process of its own, while a network trains."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Protocol

import torch

from scanner.testbed.benchmark import starting
from scanner.testbed.benchmark.latents import BACKGROUND_CHUNK, COPY_CHUNK, Latents
from scanner.testbed.benchmark.recipe import Recipe

NICENESS = 10
"""The network comes first."""
POLL_SECONDS = 0.1
NOTHING = -1


class _Process(Protocol):
    def is_alive(self) -> bool: ...


def latents_of(recipe: Recipe, folder: Path) -> Latents:
    """Return the latents that a training takes."""
    chunks = (32, 4) if recipe.small else (BACKGROUND_CHUNK, COPY_CHUNK)
    return Latents(
        folder / "latents", starting.load_vae(folder), recipe.seed,
        starting.assignment(recipe).items, recipe.corpus.cast, chunks,
    )  # fmt: skip


class Ahead:
    """Chunks of the background in order, while another process may be drawing some of them.

    Args:
        latents: Draws what the other process does not.
        chunks: All that training needs, in order.
        process: The other one.
        drawing: The chunk that it is at, or `NOTHING`.
    """

    def __init__(
        self, latents: Latents, chunks: Sequence[int], process: _Process,
        drawing: "Synchronized[int]",
    ) -> None:  # fmt: skip
        self._latents, self._process, self._drawing = latents, process, drawing
        self._next = dict(pairwise(chunks))

    def need(self, chunk: int) -> None:
        """Return once a chunk is on disk; draw the next one while the other process is at it."""
        while not self._latents.has(chunk):
            coming = self._next.get(chunk)
            if self._drawing.value != chunk or not self._process.is_alive():
                self._latents.draw(chunk)
            elif coming is not None and not self._latents.has(coming):
                self._latents.draw(coming)
            else:
                time.sleep(POLL_SECONDS)


@contextmanager
def drawing(
    recipe: Recipe, folder: Path, latents: Latents, chunks: Sequence[int]
) -> Iterator[None]:
    """Have chunks drawn in another process, if there is a second core for it.

    Args:
        recipe: Of the training.
        folder: Of the whole benchmark.
        latents: Of this process.
        chunks: All that training needs, in order.
    """
    if (os.cpu_count() or 1) < 2 or all(map(latents.has, chunks)):
        yield
        return
    context = multiprocessing.get_context("spawn")
    at: Synchronized[int] = context.Value("i", NOTHING)
    process = context.Process(target=draw, args=(recipe, folder, chunks, at), daemon=True)
    process.start()
    usual, latents.need = latents.need, Ahead(latents, chunks, process, at).need
    try:
        yield
    finally:
        latents.need = usual
        process.terminate()
        process.join()


def draw(recipe: Recipe, folder: Path, chunks: Sequence[int], drawing: "Synchronized[int]") -> None:
    """Draw the chunks that are not there yet, at a low priority, while the training lives.

    Args:
        recipe: Of the training.
        folder: Of the whole benchmark.
        chunks: Their numbers, in order.
        drawing: Told which chunk it is at.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training ends this process itself
    os.nice(NICENESS)
    torch.set_num_threads(1)
    latents, training = latents_of(recipe, folder), multiprocessing.parent_process()
    for chunk in chunks:
        if training is not None and not training.is_alive():
            return
        if not latents.has(chunk):
            drawing.value = chunk
            latents.draw(chunk)
    drawing.value = NOTHING

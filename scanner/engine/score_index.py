"""Index of scored captions for all actors of a scan: one process, asked by hash."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from scanner.results.folder import Results
from scanner.results.score_cache import BackgroundScoreIndex, RunShard, ScoreFinder

QUESTIONS = 64
"""Questions at a time."""


class ScoreIndexClient(ScoreFinder):
    """The memory as an actor sees it. Should it be gone, nothing is known, and all is scored.

    Args:
        handle: The Ray actor.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def find(self, prefixes: NDArray[np.uint64]) -> list[tuple[RunShard, list[int]]]:
        """Return places, each with the positions in ``prefixes`` of what it may hold."""
        try:
            return ray.get(self._handle.find.remote(prefixes))
        except RayError:
            return []

    def add(self, place: RunShard, prefixes: NDArray[np.uint64]) -> None:
        """Note that a chunk is committed, without waiting for the answer."""
        self._handle.add.remote(place, prefixes)


class ScoreIndexActor(BackgroundScoreIndex):
    """The index in a process of its own.

    Args:
        root: The results folder.
        runs: The runs whose rows do for this scan.
    """

    def __init__(self, root: str, runs: tuple[str, ...]) -> None:
        super().__init__(Results(root), runs)


def start(root: str, runs: Iterable[str]) -> Any:
    """Start the memory of a scan; it comes back by itself if its process dies."""
    actor = ray.remote(ScoreIndexActor).options(
        num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=QUESTIONS
    )
    return actor.remote(root, tuple(runs))

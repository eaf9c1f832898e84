"""What is scored already, known to all actors of a scan: one process that answers by hash."""

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from scanner.errors import ResultsError
from scanner.results.folder import Results
from scanner.results.run_file import Identity
from scanner.results.score_cache import RunShard, ScoreFinder, ScoreIndex

LOAD_SECONDS = 60.0
"""How long a question waits while earlier commits are read; after that, it is answered by what
is known so far, and a caption may be scored again."""
QUESTIONS = 64
"""Questions at a time."""


class ScoreIndexActor:
    """A Ray actor around a `ScoreIndex`, filled from earlier commits at its start.

    Args:
        root: The results folder.
        runs: The runs whose rows do for this scan.
    """

    def __init__(self, root: str, runs: tuple[str, ...]) -> None:
        self._index, self._loaded = ScoreIndex(), threading.Event()
        threading.Thread(target=self._load, args=(root, runs), daemon=True).start()

    def find(self, prefixes: NDArray[np.uint64]) -> list[tuple[RunShard, list[int]]]:
        """Return places, each with the positions in ``prefixes`` of what it may hold."""
        self._loaded.wait(LOAD_SECONDS)
        return self._index.find(prefixes)

    def add(self, place: RunShard, prefixes: NDArray[np.uint64]) -> None:
        """Note that a chunk is committed."""
        self._index.add(place, prefixes)

    def _load(self, root: str, runs: tuple[str, ...]) -> None:
        try:
            self._index.load(Results(root), runs)
        except ResultsError:
            pass  # a damaged record: the driver, which reads them too, says so
        finally:
            self._loaded.set()


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


def start(root: str, runs: Iterable[str]) -> Any:
    """Start the memory of a scan; it comes back by itself if its process dies."""
    actor = ray.remote(ScoreIndexActor).options(
        num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=QUESTIONS
    )
    return actor.remote(root, tuple(runs))


def runs_like(results: Results, run: str, identity: Identity) -> list[str]:
    """Return a run, and the others whose rows were made by the same model and settings.

    Calibration, thresholds, and which captions get maps may differ: verdicts are made anew. A
    detector of another distribution must be of the same version, where both runs have it.
    """
    found, own = [run], identity.packages
    for other in results.runs() if results.exists() else []:
        theirs = results.run_file(other).identity
        is_like = (theirs.model, theirs.scores) == (identity.model, identity.scores)
        packages = theirs.packages
        if other != run and is_like and all(packages.get(n, v) == v for n, v in own.items()):
            found.append(other)
    return found

"""Shards counted in Ray tasks, so that the driver never opens one."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set

import ray
from ray.exceptions import LocalRayletDiedError, RayError

from scanner.engine import watch
from scanner.engine.worker import Failure, survey
from scanner.io.shards import ShardIndex


class Survey:
    """Counts shards, a few at a time, and tells of them in order.

    Args:
        urls: The shards.
        chunk_size: Samples per chunk.
        finished: Identities of the shards that need no counting, by address.
        width: Shards at a time.
    """

    def __init__(
        self, urls: Sequence[str], chunk_size: int, finished: Mapping[str, Set[str]], width: int
    ) -> None:
        self._urls, self._chunk_size, self._finished = deque(urls), chunk_size, finished
        self._width = width
        self._running: deque[tuple[str, ray.ObjectRef]] = deque()
        self._task = ray.remote(survey).options(num_cpus=0, max_retries=2)

    @property
    def refs(self) -> list[ray.ObjectRef]:
        """What to wait for."""
        return [ref for _, ref in list(self._running)[:1]]

    @property
    def is_over(self) -> bool:
        """Whether every shard has been told of."""
        return not self._urls and not self._running

    def stop(self) -> None:
        """Look at no further shard."""
        self._urls.clear()
        for _, ref in self._running:
            ray.cancel(ref, force=True)
        self._running.clear()

    def answers(self) -> Iterator[tuple[str, ShardIndex | str | Failure]]:
        """Yield address and index of the next shards that are counted, without waiting.

        Of a shard that is finished, the identity stands for the index; of one that cannot be
        read, the failure.

        Raises:
            ClusterLostError: If this process's own node is dead.
        """
        self._fill()
        while self._running and ray.wait([self._running[0][1]], timeout=0)[0]:
            url, ref = self._running.popleft()
            self._fill()
            yield url, _answer(ref)

    def _fill(self) -> None:
        while self._urls and len(self._running) < self._width:
            url = self._urls.popleft()
            finished = frozenset(self._finished.get(url, ()))
            self._running.append((url, self._task.remote(url, self._chunk_size, finished)))


def _answer(ref: ray.ObjectRef) -> ShardIndex | str | Failure:
    try:
        return ray.get(ref)
    except LocalRayletDiedError as error:  # says nothing of the shard
        raise watch.lost("the node that this process is connected to is dead") from error
    except RayError as error:
        return Failure(None, f"the process that counted it died ({type(error).__name__})")

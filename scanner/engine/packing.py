"""Packing beside a scan: the small files of many chunks become few while the scan goes on.

A call of its own packs (`scanner.results.compact`) whenever a tenth of what is committed lies in
small files; so a long run is always read from few files, and each chunk's record is read with
thousands of others. A short run is left as it is.
"""

from scanner.engine.failures import Failure, value_or_failure
from scanner.engine.runtime import Ref, Runtime, WorkerLost
from scanner.errors import ConfigError
from scanner.results import compact
from scanner.results.folder import Committed, Results

LEAST_CHUNKS = compact.FULL_CHUNKS
"""Chunks in small files before any is packed: fewer are no trouble to anybody."""
LARGEST_SHARE = 0.1
"""Share of a run's chunks that lies in small files before these are packed."""


class Packer:
    """Packs what a scan commits, one call at a time.

    Args:
        runtime: Where it is done.
        results: The results folder.
        run: The run.
        committed: What earlier scans of the run committed.
    """

    def __init__(self, runtime: Runtime, results: str, run: str, committed: Committed) -> None:
        self._runtime, self._results, self._run = runtime, results, run
        self._chunks = len(committed.records)
        self._loose = self._chunks - len(committed.history.commits())
        self._ref: Ref | None = None
        self._packs = runtime.size > 0

    @property
    def refs(self) -> list[Ref]:
        """References that are waited for."""
        return [] if self._ref is None else [self._ref]

    def add_commit(self) -> None:
        """Note that a chunk is committed."""
        self._chunks += 1
        self._loose += 1

    def step(self, *, is_last: bool = False) -> str | None:
        """Begin to pack if it is time, and note what came of it; return why it was given up.

        Args:
            is_last: Whether nothing more will be committed, so that all of a long run is packed.
        """
        problem = None
        if self._ref is not None:
            if not self._runtime.ready([self._ref], 0):
                return None
            problem = self._answer()
        least = max(LEAST_CHUNKS, LARGEST_SHARE * self._chunks)
        if is_last and self._chunks >= LEAST_CHUNKS:
            least = 1
        if self._packs and self._loose >= least:
            self._ref, self._loose = self._runtime.submit(pack, self._results, self._run), 0
        return problem

    def stop(self) -> None:
        """Stop what is being packed; what is in no pack yet stays where it is."""
        if self._ref is not None:
            self._runtime.cancel(self._ref)
            self._ref = None

    def _answer(self) -> str | None:
        ref, self._ref = self._ref, None
        try:
            answer = self._runtime.result(ref)
        except WorkerLost as lost:
            answer = Failure(None, f"its process died: {lost.reason}")
        if not isinstance(answer, Failure) or answer.error is ConfigError:  # somebody else packed
            return None
        self._packs = False
        return f"chunks are not packed any more, and queries get slower: {answer.text}"


def pack(results: str, run: str) -> int | Failure:
    """Pack what is in no pack yet; return how many chunks."""
    return value_or_failure(
        lambda: compact.compact(Results(results), run, lambda done, of, text: None).chunks
    )

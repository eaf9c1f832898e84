"""A scanner that scores only captions that its run has not seen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from scanner.engine import Job
from scanner.engine.worker import build_scanner
from scanner.io.recall import Recall
from scanner.io.results import Results
from scanner.records import Caption, ChunkResult


class Remembering:
    """Fans out what is known and hands on the rest.

    Args:
        scanner: Scores what is not known.
        recall: What is.
    """

    def __init__(self, scanner: Any, recall: Recall) -> None:
        self._scanner, self._recall = scanner, recall

    @property
    def denoiser_seconds(self) -> float:
        """Seconds in the denoiser so far."""
        return self._scanner.denoiser_seconds

    @property
    def evaluations(self) -> Counter[str]:
        """What was spent so far; what is remembered costs nothing."""
        return self._scanner.evaluations

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the score columns beyond the fixed ones."""
        return self._scanner.extra_columns

    def scan(self, captions: Sequence[Caption]) -> ChunkResult:
        """Return the rows that scanning all of them would return."""
        known = self._recall.rows(captions)
        fresh = [caption for caption in captions if caption.sha256 not in known]
        result = self._scanner.scan(fresh) if fresh else ChunkResult()
        for caption in captions:
            result.scores += [
                replace(row, caption=caption) for row in known.get(caption.sha256, ())
            ]
        return result


@dataclass(frozen=True, slots=True)
class BuildRemembering:
    """Makes an actor's scanner; travels to the actor as it is.

    Attributes:
        run: The run whose captions are known.
    """

    run: str

    def __call__(self, job: Job, device: str) -> Any:
        """Load the networks and what the run has scored."""
        recall = Recall(Results(job.results), self.run)
        return cast(Any, Remembering(build_scanner(job, device), recall))

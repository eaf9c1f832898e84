"""Problems of a run, and the account of what was read to find them."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: ``record`` (a record is damaged or missing), ``commit`` (chunks were committed and
            have no record any more), ``missing`` (a file is), ``damaged``, ``rows``,
            ``duplicate``, ``range``, ``keys`` or ``orphan``.
        chunk: The chunk, or ``""``.
        text: What was found.
        pack: Number of the pack that it is in, or null.
    """

    kind: str
    chunk: str
    text: str
    pack: int | None = None


@dataclass(slots=True)
class Verification:
    """Account of what `verify` read of a run, and the problems that it found.

    Attributes:
        run: The run.
        chunks: Commit records read.
        samples: Samples that they account for.
        shards: Shards that they come from.
        shards_read: Of these, shards whose keys were compared.
        problems: What is wrong; empty if the run is sound.
        notes: Shards that could not be compared, and what a repair did.
    """

    run: str
    chunks: int = 0
    samples: int = 0
    shards: int = 0
    shards_read: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong but files that nothing lists."""
        return all(problem.kind == "orphan" for problem in self.problems)

    def advice(self, *, repaired: bool) -> str:
        """Return what to do about the problems."""
        kinds = {problem.kind for problem in self.problems} - {"orphan"}
        if repaired or kinds <= {"commit"}:
            return "the same scan again does what is missing"
        return "memscan verify --repair sets damaged chunks aside; then scan again"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"sound": self.is_sound}

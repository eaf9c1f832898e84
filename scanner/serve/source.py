"""What the application shows: results, the audit around them if there is one, and its words."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from scanner.analysis.query import connect
from scanner.matching.copies import Copy, Group
from scanner.nightly.state import AuditState
from scanner.results.folder import Results, derived
from scanner.results.manifest import entry_names
from scanner.results.run_file import RunFile

MEMORY = "2GB"
"""The most that one table of captions, or one question, holds before it spills to the disk."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What the last audit says of a finding.

    Attributes:
        state: ``new``, ``worse``, ``persisting``, ``better``, ``pending`` or ``resolved``.
        reason: Why, for a person.
        severity: The policy's word.
        images: The images of the corpus that copy it; null where none were looked for.
    """

    state: str
    reason: str
    severity: str
    images: Group | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """The last audit of a state.

    Attributes:
        name: Number and date.
        run: The run that it counted.
        shards: Identities of the shards that it counted.
        remarks: What it says, by a finding's identity.
    """

    name: str
    run: str
    shards: frozenset[str]
    remarks: Mapping[str, Remark] = field(default_factory=dict)


class Source:
    """The results that are shown.

    Attributes:
        results: The results folder.
        state: The audit's state whose results they are, if they are.
        run: The run that is shown where no other is asked for; null for the default one.
        images: Whether training images may be read from the shards.

    Args:
        results: The results folder.
        state: The audit's state whose results they are.
        run: The run that was named.
        images: Whether training images may be read.
    """

    def __init__(
        self, results: Results, state: AuditState | None = None, *, run: str | None = None,
        images: bool = True,
    ) -> None:  # fmt: skip
        self.results, self.state, self.run, self.images = results, state, run, images
        self._audit: Audit | None = None

    def runs(self) -> dict[str, RunFile]:
        """Return the records of the runs, the one started last at the end.

        Raises:
            ResultsError: If a record is damaged.
        """
        return {name: self.results.run_file(name) for name in self.results.runs()}

    def default_run(self) -> str:
        """Return the run that is shown where none is named.

        Raises:
            ConfigError: If there is no run.
            ResultsError: If the results cannot be read.
        """
        if self.run is not None:
            return self.run
        audit = self.audit()
        return self.results.default_run() if audit is None else audit.run

    def audit(self) -> Audit | None:
        """Return the last audit; null of results that are no audit's.

        Raises:
            ResultsError: If it is damaged.
        """
        if self.state is None or not (names := self.state.audits()):
            return None
        if self._audit is None or self._audit.name != names[-1]:
            run, shards = self.state.current()
            alerts = self.state.read(names[-1]).get("alerts") or []
            self._audit = Audit(names[-1], run, shards, dict(map(_remark, alerts)))
        return self._audit

    def remarks(self, run: str) -> Mapping[str, Remark]:
        """Return what the last audit says of a run's findings, by identity."""
        audit = self.audit()
        return {} if audit is None or audit.run != run else audit.remarks

    def mutes(self) -> dict[str, dict[str, str]]:
        """Return the mutes of the audit's state that are in effect today, by what they name.

        Raises:
            ResultsError: If the file is damaged.
        """
        if self.state is None:
            return {}
        today = datetime.now(UTC).date().isoformat()
        return {n: m for n, m in self.state.mutes().items() if m.get("until", today) >= today}

    def connect(self, run: str) -> duckdb.DuckDBPyConnection:
        """Return locked views of a run; of the run of the last audit, the shards that it counted.

        Raises:
            ConfigError: If there is no such run.
            ResultsError: If the results cannot be read.
        """
        audit = self.audit()
        shards = audit.shards if audit is not None and audit.run == run else None
        return connect(self.results, runs=[run], shards=shards, memory=MEMORY)

    def version(self, run: str) -> Hashable:
        """Return a value that changes when there is more of a run to read.

        Raises:
            ResultsError: If the results cannot be read.
        """
        audit, record = self.audit(), self.results.run_file(run)
        verdict = None if record.verdict is None else record.verdict.chunks
        store = self.results.store
        kept = tuple(store.entry(derived(run, table)) for table in ("retrieved", "confirmed"))
        return (
            tuple(self.results.committed(run)),
            tuple(entry_names(self.results.store, run)), record.status, verdict, kept,
            None if audit is None else audit.name,
        )  # fmt: skip

    def marks_file(self) -> Path | None:
        """Return where marks are kept if no file is named; null of results in a bucket."""
        root = self.results.root if self.state is None else self.state.root
        return None if "://" in root else Path(root) / "marks.jsonl"


def _remark(alert: Mapping[str, Any]) -> tuple[str, Remark]:
    images = alert.get("images")
    group = None
    if isinstance(images, dict):
        listed = [each for each in images.get("copies") or [] if isinstance(each, dict)]
        copies = [_copy(each) for each in listed]
        group = Group(copies, bool(images.get("plain")), bool(images.get("more")))
    state, reason, severity = (str(alert.get(n) or "") for n in ("state", "reason", "severity"))
    return str(alert.get("finding")), Remark(state, reason, severity, group)


def _copy(entry: Mapping[str, Any]) -> Copy:
    known: dict[str, Any] = {name: entry.get(name) for name in Copy.__slots__}
    return Copy(**known)

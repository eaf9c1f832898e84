"""Changes of findings between two views: their states, and how they are written and read."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scanner.analysis.findings import Finding
from scanner.text import aligned, plain, printable

STATES = ("new", "worse", "persisting", "better", "pending", "resolved")


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one finding.

    Attributes:
        state: One of `STATES`. What is ``pending`` was a finding; its caption is yet to be scanned
            again.
        reason: Why, in words; empty for what persists.
        before: The finding as it was, if it was one.
        after: The finding as it is, if it is one.
        run: The run that found what is pending, else ``""``.
    """

    state: str
    reason: str
    before: Finding | None
    after: Finding | None
    run: str = ""

    @property
    def finding(self) -> Finding:
        """The finding as it is, or as it was where it is resolved.

        Raises:
            ValueError: If there is neither.
        """
        found = self.after or self.before
        if found is None:
            raise ValueError("a change must be of a finding")
        return found


@dataclass(frozen=True, slots=True)
class Diff:
    """The changes between two views.

    Attributes:
        changes: By state in the order of `STATES`, worst first within one.
        causes: What differs in how the views were made: ``new model`` and such.
        cutoff: P-value up to which the later view flags by its false-discovery rate, if it does.
        figures: Captions, samples, rejects and shards of the later view.
    """

    changes: list[Change]
    causes: list[str]
    cutoff: float | None = None
    figures: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return how many findings are in which state."""
        found = Counter(change.state for change in self.changes)
        return {state: found[state] for state in STATES}


def alerted(
    alerts: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, Finding], dict[str, tuple[Finding, str]]]:
    """Return what the alerts of an ``audit.json`` are of: findings, and pending ones with runs."""
    found, pending = dict[str, Finding](), dict[str, tuple[Finding, str]]()
    for alert in alerts:
        if alert["after"]:
            one = _finding_of(alert["after"])
            found[one.identity] = one
        elif alert["state"] == "pending":
            one = _finding_of(alert["before"])
            pending[one.identity] = one, alert["run"]
    return found, pending


def as_text(found: Diff, limit: int, width: int | None = None) -> str:
    """Return a diff for a terminal: counts, causes, and the worst of each state but persisting."""
    counted = ", ".join(f"{number} {state}" for state, number in found.counts().items())
    lines = [counted, f"between the two: {', '.join(found.causes) or 'the same identity'}"]
    for state in STATES:
        some = [change for change in found.changes if change.state == state]
        if not some or state == "persisting":
            continue
        rows = [
            (change.finding.identity[:12], change.finding.p_value, change.finding.delta_s,
             change.finding.match, change.finding.copies, change.reason,
             printable(change.finding.caption))
            for change in some[:limit]
        ]  # fmt: skip
        heads = ("hash", "p", "delta_s", "match", "copies", "reason", "caption")
        more = f"\n({len(some) - limit} more)" if len(some) > limit else ""
        lines += ["", f"{state}: {len(some)}", aligned(heads, rows, width) + more]
    return "\n".join(lines)


def as_json(found: Diff) -> dict[str, Any]:
    """Return a diff for a program."""
    return {
        "counts": found.counts(), "causes": found.causes,
        "changes": [change_json(change) for change in found.changes],
    }  # fmt: skip


def change_json(change: Change) -> dict[str, Any]:
    """Return one change for a program."""
    return {
        "finding": change.finding.identity, "state": change.state, "reason": change.reason,
        "before": _finding_json(change.before), "after": _finding_json(change.after),
        "run": change.run or None,
    }  # fmt: skip


def _finding_json(finding: Finding | None) -> dict[str, Any] | None:
    if finding is None:
        return None
    return {name: plain(getattr(finding, name)) for name in Finding.__slots__}


def _finding_of(content: Mapping[str, Any]) -> Finding:
    """Return a finding as `_finding_json` wrote it; a caption that was withheld is empty."""
    known: dict[str, Any] = {n: content[n] for n in Finding.__slots__ if n in content}
    known["caption"] = known["caption"] or ""
    return Finding(**known)

"""One audit: what it found, how it ends, and the one sentence that says so."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from scanner.analysis.changes import STATES, Change
from scanner.analysis.drift import Drift
from scanner.errors import ExitCode
from scanner.matching.copies import Group
from scanner.nightly.policy import LEVELS
from scanner.report.banner import Banner, by_match, counted
from scanner.report.items import RowMark

_STATUS = {
    ExitCode.OK: "clear",
    ExitCode.ALARM: "alarm",
    ExitCode.INCOMPLETE: "incomplete",
    ExitCode.PARTIAL: "partial",
}


@dataclass(frozen=True, slots=True)
class Alert:
    """A change with what the policy says of it.

    Attributes:
        change: What became of the finding.
        severity: Its level.
        muted: The reason that it was muted with, or ``""``.
        alarms: Whether it raises the alarm; a muted one never does.
        images: The images of the corpus that copy it; null where none were looked for.
    """

    change: Change
    severity: str
    muted: str = ""
    alarms: bool = False
    images: Group | None = None

    def mark(self) -> RowMark:
        """Return what a page shows of it."""
        return RowMark(self.change.state, self.change.reason, self.severity, self.muted,
                       alarms=self.alarms)  # fmt: skip

    @property
    def order(self) -> tuple[Any, ...]:
        """Sort key, worst first: alarms, then what is there now and not muted.

        Within each: by severity, match, p-value and score.
        """
        is_gone = self.change.after is None
        level = LEVELS.index(self.severity)
        return not self.alarms, is_gone, bool(self.muted), level, self.change.finding.order


@dataclass(frozen=True, slots=True, kw_only=True)
class NightReport:
    """One audit.

    Attributes:
        name: Number and date.
        previous: The audit that it is compared with; null for the first.
        run: The run that holds the scores.
        identity: Fingerprints of model, settings and calibration.
        alerts: Every change, alarms first.
        shards: Names of the shards that were ``added``, ``changed``, ``removed``, ``unreadable``.
        incomplete: What is missing, in words.
        figures: Captions, samples, rejects and shards in effect.
        scanned: Samples that were scored this night.
        causes: What differs from the previous audit besides the corpus.
        cutoff: P-value up to which the false-discovery rate flags, if one was asked for.
        history: New findings of earlier nights, the latest last.
        coverages: Share of the captions scanned, 0 to 1, in those of them that had a budget.
        partial: The budget that left something for later nights, in words, or ``""``.
        coverage: With a budget, distinct ``captions`` of the corpus and how many are ``scanned``.
        nulls: What the calibration's null scores are of, where that is a corpus; else ``""``.
        policy: What alarms: the least ``severity``, the states that do, and the rule of each level.
        command: What was typed.
        drift: How the captions differ from the null captions; null if it cannot be told.
        started: ISO 8601.
        seconds: Wall time.
    """

    name: str
    previous: str | None
    run: str
    identity: dict[str, str]
    alerts: list[Alert]
    shards: dict[str, list[str]]
    incomplete: list[str]
    figures: dict[str, int]
    scanned: int
    causes: list[str] = field(default_factory=list)
    cutoff: float | None = None
    history: list[int] = field(default_factory=list)
    coverages: list[float] = field(default_factory=list)
    partial: str = ""
    coverage: dict[str, int] = field(default_factory=dict)
    nulls: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    drift: Drift | None = None
    started: str = ""
    seconds: float = 0.0

    @property
    def alarms(self) -> list[Alert]:
        """The alerts that raise the alarm."""
        return [alert for alert in self.alerts if alert.alarms]

    @property
    def exit_code(self) -> ExitCode:
        """An alarm comes first, then what is missing, then what a budget left."""
        if self.alarms:
            return ExitCode.ALARM
        if self.incomplete or not self.figures.get("captions"):
            return ExitCode.INCOMPLETE
        return ExitCode.PARTIAL if self.partial else ExitCode.OK

    @property
    def status(self) -> str:
        """The exit code as a word."""
        return _STATUS[self.exit_code]

    @property
    def banner(self) -> Banner:
        """The audit in a word and a sentence, free of captions, keys and addresses."""
        word = self.status.upper()
        missing, alarms = self._missing(), self._alarming()
        known = [a for a in self.alerts if a.change.after is not None and not a.alarms]
        silent = sum(a.change.state == "new" and not a.muted for a in known)
        calm = (
            f"{counted(silent, 'new finding')} that the policy lets pass" if silent
            else "no new finding"
        )  # fmt: skip
        if rest := len(known) - silent:
            calm += f", {rest:,} known or muted"
        besides = missing or (self._reach() if self.partial else "")
        said = {
            "ALARM": [alarms, f"besides, {besides}" if besides else ""],
            "INCOMPLETE": [missing, calm],
            "PARTIAL": [calm, self._reach()],
            "CLEAR": [calm, self._reach()],
        }
        return Banner(word, "; ".join(filter(None, said[word])))

    def _alarming(self) -> str:
        """Return in words what raises the alarm."""
        alarms = self.alarms
        if not alarms:
            return ""
        states = Counter(alert.change.state for alert in alarms)
        told = " and ".join(f"{states[state]:,} {state}" for state in STATES if states[state])
        least = self.policy.get("severity", LEVELS[-1])
        bound = "" if least == LEVELS[-1] else f" of severity {least}"
        bound += " or worse" if bound and least != LEVELS[0] else ""
        noun = "finding" if len(alarms) == 1 else "findings"
        return f"{told} {noun}{bound}: {by_match(a.change.finding.match for a in alarms)}"

    def _missing(self) -> str:
        """Return in words what is missing, without saying where."""
        if not self.incomplete:
            return "" if self.figures.get("captions") else "no caption was ever scanned"
        unread = self.shards.get("unreadable", [])
        other = sum(not any(url in text for url in unread) for text in self.incomplete)
        parts = [f"{counted(len(unread), 'shard')} could not be read"] if unread else []
        if other:
            parts.append(
                f"{counted(other, 'shard or chunk', 'shards or chunks')} not scanned whole"
            )
        return ", ".join(parts)

    def _reach(self) -> str:
        """Return in words how much of the corpus is scanned."""
        captions = self.figures.get("captions", 0)
        if self.partial:
            scanned, whole = self.coverage.get("scanned", captions), self.coverage.get("captions")
            share = (
                f"{scanned:,} of {counted(whole, 'caption')}" if whole else f"{scanned:,} captions"
            )
            return f"a budget of {self.partial} left the rest for later: {share} scanned"
        rejected = self.figures.get("rejected", 0)
        some = f", {counted(rejected, 'sample')} rejected" if rejected else ""
        every = "the only caption is" if captions == 1 else f"all {captions:,} captions are"
        return f"{every} scanned{some}"

    def scope(self) -> str:
        """Return in words how much of the corpus is scanned, where a budget was set."""
        if not self.coverage:
            return ""
        scanned, captions = self.coverage["scanned"], self.coverage["captions"]
        share = f"{scanned} of {captions} captions scanned ({scanned / max(1, captions):.1%})"
        return f"partial by budget ({self.partial}): {share}" if self.partial else share

    def counts(self) -> dict[str, int]:
        """Return how many findings are in which state, and how many alarm and are muted."""
        states = [alert.change.state for alert in self.alerts]
        counted = {state: states.count(state) for state in STATES}
        muted = sum(bool(alert.muted) for alert in self.alerts)
        return {**counted, "alarms": len(self.alarms), "muted": muted}

    def severities(self) -> dict[str, dict[str, int]]:
        """Return by severity how many findings there are now, and how many of them alarm."""
        found = Counter(a.severity for a in self.alerts if a.change.after is not None)
        loud = Counter(alert.severity for alert in self.alarms)
        return {level: {"findings": found[level], "alarms": loud[level]} for level in LEVELS}

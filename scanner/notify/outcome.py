"""What a scan or an audit is when it starts, and what came of it: all that anyone is told."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from scanner import __version__
from scanner.errors import ExitCode
from scanner.signed import redacted
from scanner.text import plain, printable

if TYPE_CHECKING:
    from scanner.analysis.findings import Finding
    from scanner.engine.job import Job, Summary
    from scanner.nightly.night import NightReport
    from scanner.nightly.policy import Policy
    from scanner.report.banner import Banner

SCHEMA = 1
"""Of `Outcome.as_json`; ``docs/notify.md`` lists the fields. A new field does not change it."""
MOST_FINDINGS = 1000
"""Findings that are listed at most; the rest are counted."""
MOST_MISSING = 100
FAILED, INTERRUPTED = "FAILED", "INTERRUPTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is about to run.

    Attributes:
        command: ``audit`` or ``scan``.
        place: Folder or address of the results; of an audit, the state folder.
        model: What ``--model`` says.
        shards: Addresses of the corpus, without secrets.
        settings: Everything that decides the numbers, by the names of `scanner.spec.ScanSpec`.
    """

    command: str
    place: str
    model: str
    shards: tuple[str, ...]
    settings: dict[str, Any]

    @classmethod
    def of_job(cls, command: str, place: str, job: "Job") -> "Start":
        """Return what a job is when it starts."""
        return cls(
            command=command, place=redacted(place), model=redacted(job.model),
            shards=tuple(redacted(str(url)) for url in job.shards),
            settings=plain(asdict(job.spec)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """A finding as it is told.

    Attributes:
        finding: Its identity, from night to night.
        severity: Its level.
        state: Compared with last night; null after a scan.
        match: ``verbatim``, ``template`` or ``none``; null without a training image.
        p_value: Null without calibration.
        copies: Samples that carry it.
        key: The very key of the sample with the strongest evidence: hostile text.
        shard: That sample's shard.
        caption_sha256: Hash of the caption.
        image_sha256: Hash of the image that was scored, or null.
        caption: The caption, hostile text; null unless captions were asked for.
        level: Level of evidence, of `scanner.analysis.levels.LEVELS`; null of an earlier version.
        known: What is known of it, in words, where it was drawn again, else ``""``.
    """

    finding: str
    severity: str
    state: str | None
    match: str | None
    p_value: float | None
    copies: int
    key: str
    shard: str
    caption_sha256: str
    image_sha256: str | None
    caption: str | None = None
    level: str | None = None
    known: str = ""

    @classmethod
    def of(
        cls, found: "Finding", severity: str, state: str | None = None, *, captions: bool
    ) -> "Top":
        """Return what is told of a finding."""
        return cls(
            finding=found.identity, severity=severity, state=state, match=found.match,
            p_value=found.p_value, copies=found.copies, key=found.key,
            shard=redacted(found.shard), caption_sha256=found.caption_sha256,
            image_sha256=found.image_sha256, caption=found.caption if captions else None,
            level=found.level, known=found.known if found.drawn else "",
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a scan or an audit.

    Attributes:
        command: ``audit`` or ``scan``.
        name: Number and date of an audit; the run of a scan.
        word: The banner's word, or ``FAILED`` or ``INTERRUPTED``.
        why: One sentence; of ``FAILED`` the error, which may name files: hostile text.
        exit_code: What the command ends with.
        place: Folder or address of the results; of an audit, its own folder once there is one.
        link: Where people may open the report, or ``""``.
        run: The run, or ``""`` if it never began.
        model: What ``--model`` says.
        fingerprints: Of ``model``, ``settings`` and ``calibration``, as far as they are known.
        counts: Of an audit, findings by state, ``alarms`` and ``muted``; of a scan, samples.
        severities: How many findings there are now, by level.
        findings: What alarms, or what a scan flags, worst first; at most `MOST_FINDINGS`.
        left_out: How many more there are.
        missing: What is not scanned whole, in words with addresses; at most `MOST_MISSING`.
        started: ISO 8601, or ``""``.
        seconds: Wall time.
    """

    command: str
    name: str
    word: str
    why: str
    exit_code: int
    place: str
    link: str = ""
    run: str = ""
    model: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    severities: dict[str, int] = field(default_factory=dict)
    findings: tuple[Top, ...] = ()
    left_out: int = 0
    missing: tuple[str, ...] = ()
    started: str = ""
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """Name of what is told: the same if it is told again."""
        parts = (self.command, self.place, self.name, self.word, self.started)
        return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:32]

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs, as ``docs/notify.md`` lists it."""
        own = {name: value for name, value in asdict(self).items() if name not in ("word", "why")}
        banner = {"word": self.word, "why": self.why}
        head = {"schema_version": SCHEMA, "memscan": __version__, "id": self.id, "banner": banner}
        return plain(head | own)


def of_night(
    night: "NightReport", folder: str, *, model: str, link: str = "", captions: bool = False
) -> Outcome:
    """Return what came of an audit.

    Args:
        night: What it found.
        folder: Where it is written.
        model: What ``--model`` says.
        link: Where people may open its report, or ``""``.
        captions: Whether captions of findings are told.
    """
    alarms = night.alarms
    told = tuple(
        Top.of(a.change.finding, a.severity, a.change.state, captions=captions)
        for a in alarms[:MOST_FINDINGS]
    )
    return Outcome(
        command="audit", name=night.name, word=night.banner.word, why=night.banner.why,
        exit_code=int(night.exit_code), place=folder, link=link, run=night.run,
        model=redacted(model), fingerprints=dict(night.identity), counts=night.counts(),
        severities={level: n["findings"] for level, n in night.severities().items()},
        findings=told, left_out=len(alarms) - len(told), missing=_missing(night.incomplete),
        started=night.started, seconds=round(night.seconds, 3),
    )  # fmt: skip


def of_scan(
    summary: "Summary", banner: "Banner", findings: "Sequence[Finding]", policy: "Policy", *,
    place: str, model: str, link: str = "", captions: bool = False, started: str = "",
) -> Outcome:  # fmt: skip
    """Return what came of a scan.

    Args:
        summary: The scan's.
        banner: Its verdict.
        findings: What it flags.
        policy: Severities.
        place: Folder or address of the results.
        model: What ``--model`` says.
        link: Where people may open a report, or ``""``.
        captions: Whether captions of findings are told.
        started: ISO 8601.
    """
    levels = [policy.severity(found) for found in findings]
    names = ("samples", "scored", "flagged", "localized", "rejected", "screened", "recalled")
    told = tuple(
        Top.of(found, level, captions=captions)
        for found, level in zip(findings[:MOST_FINDINGS], levels, strict=False)
    )
    given_up = [f"chunk {name} was given up" for name, _ in summary.quarantined]
    return Outcome(
        command="scan", name=summary.run, word=banner.word, why=banner.why,
        exit_code=int(ExitCode.OK if summary.is_complete else ExitCode.INCOMPLETE), place=place,
        link=link, run=summary.run, model=redacted(model),
        counts={name: getattr(summary, name) for name in names},
        severities={level: levels.count(level) for level in dict.fromkeys(levels)},
        findings=told, left_out=len(findings) - len(told),
        missing=_missing([*summary.incomplete, *given_up]), started=started,
        seconds=round(summary.seconds, 3),
    )  # fmt: skip


def reason(error: BaseException) -> str:
    """Return on one line, without secrets, why something failed.

    The text of an error that is not memscan's own may hold anything, so its kind alone is told.
    """
    from scanner.errors import ScannerError

    if isinstance(error, ScannerError):
        return printable(redacted(str(error)))
    return f"an error inside of memscan ({type(error).__name__}); its log has the traceback"


def _missing(texts: "Sequence[str]") -> tuple[str, ...]:
    return tuple(printable(redacted(text)) for text in texts[:MOST_MISSING])

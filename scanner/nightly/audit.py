"""One night: list, scan what is new, compare, judge, publish."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scanner.analysis.changes import Change, Diff, alerted
from scanner.analysis.diff import PreviousNight, RunView, diff
from scanner.analysis.drift import drift
from scanner.engine import Event, Job, Resources, Summary
from scanner.engine import scan as scan_on_ray
from scanner.engine.identity import identify
from scanner.engine.job import PHASE
from scanner.engine.plan import CommitIndex
from scanner.matching import copies
from scanner.nightly import budgets, corpus
from scanner.nightly.corpus import CorpusListing
from scanner.nightly.folder import Folder
from scanner.nightly.night import Alert, NightReport
from scanner.nightly.policy import Policy
from scanner.nightly.state import AuditState, in_effect
from scanner.report.options import PageOptions
from scanner.results.lease import Lease
from scanner.shards import reading
from scanner.text import counted

NIGHTS = 14
"""Nights whose new findings a summary lists."""

Scan = Callable[..., Summary]
"""`scanner.engine.scan`, or what stands in for it."""

Progress = Callable[[int, int, str], None]

Confirm = Callable[[str, frozenset[str]], str]
"""From a run and the identities of its shards that count to findings drawn again; returns what is
missing, or ``""``."""


def _nothing(_run: str, _shards: frozenset[str]) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """The settings of one audit.

    Attributes:
        job: What to scan, into the state's results.
        policy: Severities and alarms.
        page: What the report shows.
        command: What was typed, for the record.
        copies: Whether to look for the images of the corpus that copy a finding.
    """

    job: Job
    policy: Policy
    page: PageOptions
    command: str = ""
    copies: bool = True


@dataclass(frozen=True, slots=True)
class AuditResult:
    """A finished night.

    Attributes:
        night: What was found.
        folder: Where it is written: a path, or an address in a bucket.
    """

    night: NightReport
    folder: Path | str


def audit(
    state: AuditState,
    request: AuditRequest,
    resources: Resources,
    progress: Callable[[Event], None],
    *,
    scan: Scan = scan_on_ray,
    now: datetime | None = None,
    told: Progress = lambda done, total, word: None,
    confirm: Confirm = _nothing,
) -> AuditResult:
    """Scan what is new, compare with the last audit, and write an audit's folder.

    A crash at any time leaves the last audit as it was; the next one goes on where the commits
    stop.

    Args:
        state: What earlier nights left.
        request: What is asked.
        resources: Where and how wide to scan.
        progress: Told of everything that happens in the scan.
        scan: The engine.
        now: The time that the audit is dated with.
        told: Told how far the look at the corpus' images is.
        confirm: Draws the run's findings again, once it is scanned.

    Raises:
        ConfigError: If another audit is at work, or the scan cannot be served as asked.
        LeaseError: If this process stood still and another audit took over.
        ResultsError: If the state cannot be read or written.
        ClusterError: If processes die faster than they can be replaced.
    """
    started, begun = now or datetime.now(UTC), time.monotonic()
    who = identify(request.job)
    with Lease(state.store, "lease", "audit") as lease:
        names = state.audits()
        last = state.read(names[-1]) if names else None
        before: Mapping[str, Any] = last["corpus"] if last else {}
        shards = request.job.shards
        text = f"looking at {counted(len(shards), 'shard')}"
        progress(Event(PHASE, 0, 0, 0, 0, text, run=who.run))
        listing = corpus.listed(shards)
        done = _scan_what_is_new(
            state, request, resources, progress, scan, listing, before, who.run
        )
        lacking = confirm(who.run, done.shards)
        view = RunView(results=state.results, run=who.run, shards=done.shards)
        changed = corpus.compared(listing, before)
        found = diff(
            _view_of(state, last), view, _with_reasons(state, last, listing, changed, done.left)
        )
        incomplete = [*done.incomplete, *_unscored(found.figures), *[lacking] * bool(lacking)]
        then, today = (last or {}).get("started", "")[:10], f"{started:%Y-%m-%d}"
        alerts = _judged(found, request.policy, state.mutes(), then, today)
        if request.copies:
            alerts = _with_copies(alerts, state, view, listing, told)
        nights = state.history(NIGHTS)
        with closing(view.open()) as con:
            apart = drift(con, state.results.run_file(who.run))
        night = NightReport(
            name=state.next_name(started), previous=names[-1] if names else None, run=who.run,
            identity=who.names(), alerts=alerts,
            shards=changed, incomplete=list(dict.fromkeys(incomplete)),
            figures=found.figures, scanned=done.samples, causes=found.causes, cutoff=found.cutoff,
            drift=apart,
            history=[earlier.new for earlier in nights],
            coverages=[n.coverage for n in nights if n.coverage is not None],
            partial=done.budget if done.missing else "",
            coverage=budgets.coverage(state, listing, found.figures) if done.budget else {},
            nulls=request.page.calibration.nulls if request.page.calibration else "",
            policy=request.policy.as_json(), command=request.command,
            started=started.isoformat(timespec="seconds"), seconds=time.monotonic() - begun,
        )  # fmt: skip
        lease.check()
        kept = {"corpus": corpus.remembered(listing, done.counts, done.left)}
        told_of = Folder(night, view, request.page, kept, nights)
        folder = state.publish(night.name, told_of.write, lease.check)
    return AuditResult(night, folder)


@dataclass(frozen=True, slots=True)
class _NightScan:
    """A night's scan.

    Attributes:
        samples: Samples scanned now.
        incomplete: What is missing of the corpus, with the reason.
        counts: Identities of the shards whose rows count, by address.
        left: Shards not scanned whole.
        missing: Of these, the ones that no reason names.
        budget: What the scan was limited to, in words; ``""`` without a limit.
    """

    samples: int
    incomplete: list[str]
    counts: dict[str, list[str]]
    left: list[str]
    missing: list[str]
    budget: str

    @property
    def shards(self) -> frozenset[str]:
        """Identities of the shards whose rows count."""
        return frozenset(identity for ids in self.counts.values() for identity in ids)


def _scan_what_is_new(
    state: AuditState, request: AuditRequest, resources: Resources,
    progress: Callable[[Event], None], scan: Scan, listing: CorpusListing,
    before: Mapping[str, Any], run: str,
) -> _NightScan:  # fmt: skip
    """Scan if there is anything to scan, and see what of the corpus is committed then."""
    samples, incomplete = _scanned(state, request, resources, progress, scan, listing, before, run)
    commit_index = CommitIndex(state.results.commits(run))
    counts, left = corpus.in_effect(listing, before, commit_index)
    incomplete += corpus.problems_of(commit_index, {i for ids in counts.values() for i in ids})
    named = " ".join(incomplete)
    missing = [url for url in left if url not in named]
    if not (budget := budgets.told(resources)):
        incomplete += [f"{url}: not scanned whole" for url in missing]
    return _NightScan(samples, incomplete, counts, left, missing, budget)


def _scanned(
    state: AuditState, request: AuditRequest, resources: Resources,
    progress: Callable[[Event], None], scan: Scan, listing: CorpusListing,
    before: Mapping[str, Any], run: str,
) -> tuple[int, list[str]]:  # fmt: skip
    """Scan if there is anything to scan; return samples scanned now and what is incomplete."""
    commits = state.results.commits(run)
    whole = CommitIndex(commits).finished()
    is_known = run in (state.results.runs() if state.results.exists() else [])
    todo = [u for u, s in listing.shards.items() if s is None or s.id not in whole.get(u, ())]
    if not todo and is_known:
        return 0, []
    job = request.job
    if budgets.told(resources):
        job = replace(job, shards=budgets.ordered(state, job, listing, before))
    summary = scan(job, resources, progress)
    samples = sum(
        c.counts.samples for n, c in state.results.commits(run).items() if n not in commits
    )
    given_up = [
        f"chunk {name} was given up: {reason.partition(chr(10))[0]}"
        for name, reason in summary.quarantined
    ]
    return samples, [*summary.incomplete, *given_up]


def _unscored(figures: Mapping[str, int]) -> list[str]:
    """Return what to say where every sample was rejected."""
    if figures["captions"] or not figures["rejected"]:
        return []
    why = "SELECT reason, count(*) FROM rejects GROUP BY ALL"
    return [f"no sample can be scored, {figures['rejected']} are rejected: query {why!r} says why"]


def _view_of(state: AuditState, last: Mapping[str, Any] | None) -> RunView | None:
    """Return what the last audit looked at."""
    if last is None:
        return None
    return RunView(
        results=state.results, run=last["run"], shards=in_effect(last), fdr=last.get("fdr")
    )


def _with_reasons(
    state: AuditState, last: Mapping[str, Any] | None, listing: CorpusListing,
    changed: Mapping[str, list[str]], left: list[str],
) -> PreviousNight | None:  # fmt: skip
    """Return what the last audit told, and which of it stands in shards that are left for later."""
    if last is None:
        return None
    findings, pending = alerted(last["alerts"])
    return PreviousNight(
        findings=findings, pending=pending,
        gone={url: f"{kind} shard" for kind in ("removed", "changed") for url in changed[kind]},
        late=corpus.late(listing, last["corpus"]),
        waiting=lambda found: corpus.waiting(found, listing, left, state.image_index),
    )  # fmt: skip


def _judged(
    found: Diff, policy: Policy, mutes: Mapping[str, Mapping[str, str]], last: str, today: str
) -> list[Alert]:
    """Return every change with severity, mute and alarm, alarms first.

    A mute that ran out after the last audit lets its finding alarm once, whatever its state.

    Args:
        found: The changes.
        policy: What alarms.
        mutes: Every mute, by the identity of a finding or the hash of a caption.
        last: Date of the last audit, or ``""``.
        today: Date of this one.
    """

    def alert(change: Change) -> Alert:
        own = change.finding
        entry = mutes.get(own.identity) or mutes.get(own.caption_sha256) or {}
        until = entry.get("until", "9999")
        is_muted, ran_out = bool(entry) and today <= until, last <= until < today
        muted = (entry["reason"] or "no reason given") if is_muted else ""
        if ran_out and change.after is not None:
            reason = "; ".join(filter(None, (change.reason, f"its mute ran out on {until}")))
            change = replace(change, reason=reason)
        is_back = ran_out and change.after is not None and policy.reaches(change.after)
        alarms = not is_muted and (policy.alarms(change) or is_back)
        return Alert(change, policy.severity(change.finding), muted, alarms)

    return sorted(map(alert, found.changes), key=lambda a: a.order)


def _with_copies(
    alerts: list[Alert], state: AuditState, view: RunView, listing: CorpusListing, told: Progress
) -> list[Alert]:
    """Return the alerts with the images of the corpus that copy what is a finding now."""
    there = [a.change.after for a in alerts if a.change.after is not None]
    if not there:
        return alerts
    corpus_now = [shard for shard in listing.shards.values() if shard is not None]
    state.image_index.fill(corpus_now, images=True, progress=told)
    with closing(view.open()) as con:
        groups = copies.search(con, there, corpus_now, state.image_index, reading.images, told)
    state.image_index.forget(but={shard.id for shard in corpus_now})
    return [
        replace(a, images=groups.get(a.change.finding.identity))
        if a.change.after is not None else a
        for a in alerts
    ]  # fmt: skip

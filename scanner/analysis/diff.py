"""Two views of results compared: which findings are new, resolved, worse, better, and why."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import duckdb

from scanner.analysis.changes import STATES, Change, Diff
from scanner.analysis.findings import Finding, cutoff_of, findings, totals
from scanner.analysis.query import connect
from scanner.results.folder import Results

MOVED = "other captions moved the rate"
NEW_SOURCE = "new source"
REACHED_LATE = "not reached until now"
FACTOR = 2.0
"""A p-value, or a score where there is none, that changes by less stays the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run, or some shards of one, as a side of a comparison.

    Attributes:
        results: The results folder.
        run: The run.
        shards: Identities of the shards that count; null for all.
        fdr: Flag by this false-discovery rate instead of the run's own rule.
    """

    results: Results
    run: str
    shards: frozenset[str] | None = None
    fdr: float | None = None

    def open(self) -> duckdb.DuckDBPyConnection:
        """Return the view as a connection; the caller closes it."""
        return connect(self.results, runs=[self.run], shards=self.shards, fdr=self.fdr)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousNight:
    """Findings of the last audit, and the shards that hold their captions now.

    Its view alone is not enough: a run goes on after an audit, so tonight the same view may hold
    findings that no audit has reported.

    Attributes:
        findings: Findings that it reported, by identity.
        pending: Pending findings, by identity, with the run that found them.
        gone: Why the samples of a shard may be gone, by its address.
        late: Addresses of unchanged shards that earlier audits left for later.
        waiting: Returns, of some findings, the identities of those whose caption stands in a
            shard that is not scanned whole.
    """

    findings: Mapping[str, Finding]
    pending: Mapping[str, tuple[Finding, str]]
    gone: Mapping[str, str]
    late: Collection[str]
    waiting: Callable[[Collection[Finding]], Collection[str]]


@dataclass(frozen=True, slots=True)
class _EarlierFinding:
    finding: Finding
    run: str
    causes: list[str]


def diff(before: RunView | None, after: RunView, last: PreviousNight | None = None) -> Diff:
    """Compare two views; against nothing, every finding is new.

    A finding of a sampled caption and those of the same caption at its images are one: a change
    of the source makes no known finding new, and none of it worse or better.

    Args:
        before: The earlier view; null where there is none.
        after: The later one.
        last: What the earlier one was told as; null takes all that it holds today.

    Raises:
        ConfigError: If a run is not there.
        ResultsError: If the results cannot be read.
    """
    with closing(after.open()) as con:
        rate = cutoff_of(con)
        cutoff = None if rate is None else rate[1]
        now = {f.identity: f for f in findings(con)}
        if before is None:
            changes = [Change("new", "first audit", None, f) for f in now.values()]
            return Diff(changes, [], cutoff, totals(con))
        causes = differences(before, after)
        with closing(before.open()) as earlier:
            own = last.findings if last else {f.identity: f for f in findings(earlier)}
            then = {name: _EarlierFinding(f, before.run, causes) for name, f in own.items()}
            then = _matched_across_sources(now, then | _pending_findings(before, after, last))
            seen_then = scanned(earlier, [now[name] for name in now.keys() - then.keys()])
        seen_now = scanned(con, [then[name].finding for name in then.keys() - now.keys()])
        moved = "new data" if rate is None else MOVED
        changes = [
            *_appeared(now, then, seen_then, causes or [moved], last.late if last else ()),
            *_stayed(now, then),
            *_disappeared(now, then, seen_now, last),
        ]
        changes.sort(key=lambda change: (STATES.index(change.state), change.finding.order))
        return Diff(changes, causes, cutoff, totals(con))


def scanned(con: duckdb.DuckDBPyConnection, found: Collection[Finding]) -> set[str]:
    """Return the identities of those findings that a view has scores of, from whatever source.

    Another image beside the same caption is not the finding's.
    """
    rows = con.execute(
        "SELECT DISTINCT w.identity FROM scores AS s JOIN (SELECT unnest($1::VARCHAR[]) "
        "AS identity, unnest($2::VARCHAR[]) AS sha, unnest($3::VARCHAR[]) AS image) AS w "
        "ON s.caption_sha256 = w.sha AND coalesce(s.image_sha256 = w.image, true)",
        [[getattr(f, name) for f in found]
         for name in ("identity", "caption_sha256", "image_sha256")],
    ).fetchall()  # fmt: skip
    return {name for (name,) in rows}


def differences(before: RunView, after: RunView) -> list[str]:
    """Return what differs in how two views were made."""
    records = [view.results.run_file(view.run) for view in (before, after)]
    specs = [dict(record.spec) for record in records]
    sources = [spec.pop("source", "generated") for spec in specs]
    rates = [spec.pop("fdr", None) for spec in specs]
    rates = [v.fdr or rate for v, rate in zip((before, after), rates, strict=True)]
    if before.run == after.run and before.results.root == after.results.root:
        return [] if rates[0] == rates[1] else ["new rate"]
    compared = {
        "new model": [record.model for record in records],
        "new calibration": [record.identity.calibration for record in records],
        NEW_SOURCE: sources,
        "new settings": specs,
        "new rate": rates,
    }
    return [cause for cause, (one, other) in compared.items() if one != other]


def _matched_across_sources(
    now: Mapping[str, Finding], then: Mapping[str, _EarlierFinding]
) -> dict[str, _EarlierFinding]:
    """Return earlier findings by what they are now, if captions are scored from another source.

    A caption that was sampled stands for each of its images that is a finding now; of images of
    one caption that is sampled now the worst does.
    """
    left, by_caption = dict(then), dict[str, list[_EarlierFinding]]()
    for name, earlier in then.items():
        if name not in now:
            by_caption.setdefault(earlier.finding.caption_sha256, []).append(earlier)
    for name in now.keys() - then.keys():
        is_sampled = now[name].image_sha256 is None
        others = [
            earlier for earlier in by_caption.get(now[name].caption_sha256, ())
            if (earlier.finding.image_sha256 is None) != is_sampled
        ]  # fmt: skip
        if others:
            left[name] = min(others, key=lambda earlier: earlier.finding.order)
            for earlier in others:
                left.pop(earlier.finding.identity, None)
    return left


def _pending_findings(
    before: RunView, after: RunView, last: PreviousNight | None
) -> dict[str, _EarlierFinding]:
    pending = last.pending if last else {}
    causes = {
        run: differences(replace(before, run=run), after)
        for run in {r for _, r in pending.values()}
    }
    return {sha: _EarlierFinding(found, run, causes[run]) for sha, (found, run) in pending.items()}


def _appeared(
    now: Mapping[str, Finding], then: Mapping[str, _EarlierFinding], seen: set[str],
    causes: list[str], late: Collection[str],
) -> Iterator[Change]:  # fmt: skip
    for sha in now.keys() - then.keys():
        was_late = now[sha].shard in late
        if sha in seen and not (was_late and causes[0] in ("new data", MOVED)):
            yield Change("new", ", ".join(causes), None, now[sha])
        else:
            yield Change("new", REACHED_LATE if was_late else "new data", None, now[sha])


def _disappeared(
    now: Mapping[str, Finding],
    then: Mapping[str, _EarlierFinding],
    seen: set[str],
    last: PreviousNight | None,
) -> Iterator[Change]:
    lost = [then[sha].finding for sha in then.keys() - now.keys() - seen]
    waiting, gone = (last.waiting(lost), last.gone) if last else ((), {})
    for sha in then.keys() - now.keys():
        earlier = then[sha]
        causes = ", ".join(earlier.causes)
        unseen = "no longer scanned" + (f": {NEW_SOURCE}" if NEW_SOURCE in causes else "")
        because = gone.get(earlier.finding.shard, unseen)
        if sha in seen:
            yield Change("resolved", causes or MOVED, earlier.finding, None)
        elif sha in waiting:
            reason = f"not yet rescanned: {causes or because}"
            yield Change("pending", reason, earlier.finding, None, earlier.run)
        else:
            yield Change("resolved", because, earlier.finding, None)


def _stayed(now: Mapping[str, Finding], then: Mapping[str, _EarlierFinding]) -> Iterator[Change]:
    for sha in now.keys() & then.keys():
        state, reason = _state_and_reason(then[sha].finding, now[sha], then[sha].causes)
        yield Change(state, reason, then[sha].finding, now[sha])


def _state_and_reason(before: Finding, after: Finding, causes: list[str]) -> tuple[str, str]:
    """Return state and reason of a finding that was one before: evidence, then score, then copies.

    Scores of two models are on two scales: without p-values they are not compared. Nothing is
    where one was sampled and the other scored at its image.
    """
    if (before.image_sha256 is None) != (after.image_sha256 is None):
        return "persisting", ", ".join(causes) or NEW_SOURCE
    cause = f"{', '.join(causes)}: " if causes else "new data: "
    if before.match_rank != after.match_rank:
        words = [finding.match or "score only" for finding in (before, after)]
        state = "worse" if after.match_rank < before.match_rank else "better"
        return state, f"{cause}{words[0]}, now {words[1]}"
    if before.p_value and after.p_value:
        ratio, name = before.p_value / after.p_value, "p-value"
        values = before.p_value, after.p_value
    elif before.delta_s and after.delta_s and "new model" not in causes:
        ratio, name, values = (
            after.delta_s / before.delta_s,
            "score",
            (before.delta_s, after.delta_s),
        )
    else:
        ratio, name, values = 1.0, "", (0.0, 0.0)
    if ratio >= FACTOR or ratio <= 1 / FACTOR:
        state = "worse" if ratio > 1 else "better"
        return state, f"{cause}{name} {values[0]:.3g}, now {values[1]:.3g}"
    if before.copies != after.copies:
        state = "worse" if after.copies > before.copies else "better"
        return state, f"new data: {before.copies} copies, now {after.copies}"
    return "persisting", ""

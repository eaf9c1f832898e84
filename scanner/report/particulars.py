"""What a page says of its run in words and numbers: counts, particulars, and what it leaves out."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from scanner.analysis.changes import STATES
from scanner.analysis.findings import Finding
from scanner.analysis.levels import LEVELS
from scanner.pictures import MATCHES
from scanner.report.items import RowMark
from scanner.report.options import MOST_GROUPED, MOST_SHARDS, PageOptions, Remarks
from scanner.report.thumbnails import SIDES, Gallery
from scanner.results.run_file import Identity, RunFile

MOST_NOTES = 20


def numbers(
    counts: Mapping[str, int], every: Sequence[Finding], record: RunFile, said: Remarks, shards: int
) -> list[tuple[str, str]]:
    """Return the few numbers that a decision needs, name and text.

    Args:
        counts: Of the run, from `scanner.analysis.findings.totals`.
        every: All findings.
        record: The run's.
        said: What an audit adds.
        shards: How many the corpus has.
    """
    matches = Counter(finding.match for finding in every)
    copied = sum(finding.level == LEVELS[0] for finding in every)
    is_audit = said.banner is not None
    whole = max(0, shards - len(record.incomplete))
    share = said.share if is_audit else (f"{whole:,} of {shards:,}", "shards scanned whole")
    return [
        *[("alarms", f"{said.alarms:,}")] * is_audit,
        ("findings" if is_audit else "captions flagged", f"{len(every):,}"),
        ("verbatim copies", f"{matches['verbatim']:,}"),
        ("template copies", f"{matches['template']:,}"),
        *[("copied, drawn again", f"{copied:,}")] * any(finding.drawn for finding in every),
        *[("captions scored", f"{counts['captions']:,}")] * (not is_audit),
        *[(share[1], share[0])] * bool(share[1]),
    ]


def more(
    counts: Mapping[str, int], every: Sequence[Finding], record: RunFile, marks: Collection[RowMark]
) -> list[tuple[str, str]]:
    """Return the numbers that a decision can do without, name and text."""
    states = Counter("muted" if mark.muted else mark.state for mark in marks)
    severities = Counter(m.severity for m in marks if m.severity and m.state != "resolved")
    alone = sum(finding.match not in MATCHES for finding in every)
    return [
        *((state, f"{states[state]:,}") for state in (*STATES, "muted") if states[state]),
        *((f"of severity {level}", f"{number:,}") for level, number in severities.items()),
        ("captions scored", f"{counts['captions']:,}"),
        ("samples with them", f"{counts['samples']:,}"),
        ("by score alone", f"{alone:,}"),
        *_levels(every),
        *_retrieved(every),
        *_stored(every),
        *[("screened off", f"{counts['screened']:,}")] * bool(counts["screened"]),
        ("rejected samples", f"{counts['rejected']:,}"),
        ("incomplete shards", f"{len(record.incomplete):,}"),
    ]


def stamps(record: RunFile, run: str) -> list[tuple[str, str]]:
    """Return what a page is filed by, name and text: fingerprints, the run, the version."""
    return [
        ("model", record.model or "no fingerprint"),
        ("calibration", record.identity.calibration or "none"),
        ("run", run),
        ("version", f"memscan {record.versions.get('memscan', 'unknown')}"),
    ]


def date(moment: str) -> str:
    """Return an ISO 8601 moment for people; as it is if it is none.

    Example:
        >>> date("2026-01-05T03:04:05+00:00")
        '2026-01-05 03:04 UTC'
    """
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    zone = f" {found.tzname()}" if found.tzname() else ""
    return f"{found:%Y-%m-%d %H:%M}{zone}"


def _levels(every: Sequence[Finding]) -> list[tuple[str, str]]:
    """Return how many findings are of which level of evidence, where some were drawn again."""
    if not any(finding.drawn for finding in every):
        return []
    counts = Counter(finding.level for finding in every)
    return [(level, f"{counts[level]:,}") for level in LEVELS if counts[level]]


def _retrieved(every: Sequence[Finding]) -> list[tuple[str, str]]:
    """Return how many findings copy another caption's image, where that was looked for."""
    if not any(finding.nearest_match for finding in every):
        return []
    found = sum(f.nearest_match in MATCHES and not f.nearest_own for f in every)
    return [("retrieved copies", f"{found:,}")]


def _stored(every: Sequence[Finding]) -> list[tuple[str, str]]:
    """Return how much of the images is stored that findings are of, where images were scored."""
    if all(finding.image_sha256 is None for finding in every):
        return []
    pinned = Counter(finding.pinned for finding in every)
    return [
        ("images stored whole", f"{pinned['whole']:,}"),
        ("images stored in a region", f"{pinned['region']:,}"),
    ]


def particulars(
    record: RunFile, run: str, counts: Mapping[str, int], options: PageOptions,
    rate: tuple[float, float] | None,
) -> list[tuple[str, str]]:  # fmt: skip
    """Return what to quote of a run, name and text."""
    rows = [
        ("model", f"{record.config.get('model', 'unnamed')} ({record.model or 'no fingerprint'})"),
        ("run", f"{run}, {record.status}"),
        ("samples", f"{counts['samples']:,} scored in {counts['shards']:,} shards"),
        ("settings", ", ".join(f"{k} {v}" for k, v in record.spec.items() if v not in (None, ""))),
        ("calibration", _calibration(record.identity, options)),
        ("started", record.started or "unknown"),
        ("last written", record.updated or "unknown"),
        ("versions", ", ".join(f"{k} {v}" for k, v in record.versions.items())),
    ]
    if counts["screened"]:
        rows.insert(3, ("screen", f"{counts['screened']:,} captions dropped after one step"))
    if rate is not None:
        level = f"p ≤ {rate[1]:.3g}" if rate[1] >= 0 else "no caption passes"
        rows.insert(3, ("flagged by", f"false-discovery rate {rate[0]:g}: {level}"))
    return [(name, value) for name, value in rows if value]


def _calibration(identity: Identity, options: PageOptions) -> str:
    said = identity.calibration or "none: no p-values"
    if options.calibration is None:
        return said
    null = options.calibration
    lines = [f"{said}, {null.captions:,} null captions: p-values are {null.min_p:.2g} or more"]
    if null.nulls:
        lines.append(f"nulls: {null.nulls}")
    elif null.families is not None and null.families < null.captions:
        lines.append(f"the null captions are {null.families:,} families of near-identical ones")
    if said == null.tail_fingerprint:
        lines.append("smaller ones are of a tail model that promised too much")
    return "; ".join(lines)


def notes(
    record: RunFile, cut: int, shown: int, pictures: Gallery, options: PageOptions
) -> list[str]:
    """Return in sentences what is missing of a run and what a page leaves out.

    Args:
        record: The run's.
        cut: Findings that are not on the page.
        shown: Findings that are.
        pictures: Those that are.
        options: What was asked.
    """
    told = [f"Incomplete: {text}" for text in record.incomplete[:MOST_NOTES]]
    told += [
        f"Chunk given up: {entry.chunk}: {entry.reason.partition(chr(10))[0]}"
        for entry in record.quarantined[:MOST_NOTES]
    ]
    if cut > 0:
        told.append(f"{cut:,} further findings are not on this page: query the results.")
    if shown > MOST_GROUPED:
        told.append(
            f"Near-identical captions share a card among the worst {MOST_GROUPED:,} findings alone."
        )
    if options.images is None:
        told.append("Pictures were left out on request.")
    if pictures.left_out:
        told.append(
            f"Pictures of the last {pictures.left_out:,} findings are left out: this page holds "
            f"at most {pictures.cap / 2**20:.3g} MiB of pictures. memscan show draws any of them."
        )
    elif pictures.side < SIDES[0] and pictures.illustrations:
        told.append(
            f"Pictures are at most {pictures.side} pixels wide, so that those of all findings fit "
            f"into {pictures.cap / 2**20:.3g} MiB. memscan show draws any of them larger."
        )
    if pictures.unread:
        told.append(
            f"Training images of {pictures.unread:,} shards were not looked for: a page opens at "
            f"most {MOST_SHARDS} shards."
        )
    return told

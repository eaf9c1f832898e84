"""One self-contained page about a run: figures, distribution, and the findings as pictures.

Everything that comes from a corpus reaches the page as JSON that the script writes with
``textContent``, or escaped by the template. The page loads nothing, and its content policy lets
no other script run than its own.
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import duckdb

from scanner.analysis.findings import Finding, cutoff_of, findings, totals
from scanner.analysis.query import connect
from scanner.analysis.views import MATCHES
from scanner.matching.copies import Group
from scanner.report import items, templates
from scanner.report.histogram import Histogram, histogram
from scanner.report.thumbnails import SIDES, Gallery, Images, gallery
from scanner.results.folder import Results
from scanner.results.run_file import Identity, RunFile
from scanner.statistics.calibration import Calibration

IMAGE_CAP = 48 * 1024 * 1024
MOST_FINDINGS = 20_000
MOST_SHARDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """Options of a page.

    Attributes:
        images: Where training images come from; null leaves every picture out.
        redact: Whether captions are withheld; hashes and keys stay.
        fdr: Flag by this false-discovery rate instead of the run's own rule.
        image_cap: The most bytes of pictures.
        calibration: What the run was scanned with, for the threshold.
        title: Heading.
    """

    images: Images | None = None
    redact: bool = False
    fdr: float | None = None
    image_cap: int = IMAGE_CAP
    calibration: Calibration | None = None
    title: str = "Memorization report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """Remarks that an audit adds to the page of its run.

    Attributes:
        marks: What it says of findings, by identity.
        gone: Findings that are resolved, as they were.
        banners: Sentences that stand on top.
        facts: Further rows of the table of particulars, name and text.
        copies: Images of the corpus that copy a finding, by its identity.
    """

    marks: Mapping[str, items.RowMark] = field(default_factory=dict)
    gone: Sequence[Finding] = ()
    banners: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    copies: Mapping[str, Group] = field(default_factory=dict)


def page(
    results: Results, run: str, options: PageOptions, *,
    shards: Collection[str] | None = None, remarks: Remarks | None = None,
) -> str:  # fmt: skip
    """Return the page of one run as HTML.

    Args:
        results: The results folder.
        run: The run.
        options: What to show.
        shards: Identities of the shards that count; all by default.
        remarks: What an audit adds.

    Raises:
        ConfigError: If there is no such run.
        ResultsError: If the results cannot be read.
    """
    said = remarks or Remarks()
    with closing(connect(results, runs=[run], shards=shards, fdr=options.fdr)) as con:
        record = RunFile.of(json.loads(con.execute("SELECT record FROM runs").fetchall()[0][0]))
        rate, every, counts = cutoff_of(con), findings(con), totals(con)
        found = sorted(every, key=lambda f: (_place(said.marks.get(f.identity)), f.order))
        found = found[:MOST_FINDINGS]
        scores, pictures = _scores(con, record, options, rate), _pictures(con, found, options)
        urls = items.addresses(con, found)
    kept = [*found, *said.gone[: MOST_FINDINGS - len(found)]]
    left_out = len(every) + len(said.gone) - len(kept)
    return templates.rendered(
        "report.html",
        title=options.title,
        headline=_headline(counts, every, record, said.marks),
        notes=[*said.banners, *_notes(record, left_out, pictures, options)],
        scores=scores,
        particulars=[*_particulars(record, run, counts, options, rate), *said.facts],
        items=[_item(finding, said, options, urls, pictures) for finding in kept],
        pictures=pictures.illustrations,
    )


def _item(
    finding: Finding, said: Remarks, options: PageOptions, urls: Mapping[str, str],
    pictures: Gallery,
) -> dict[str, object]:  # fmt: skip
    """Return a finding for the page's script; ``i`` says whether its pictures are in the page."""
    name = finding.identity
    own = items.item(finding, said.marks.get(name), urls.get(name, ""), redact=options.redact)
    own["i"] = name in pictures.illustrations
    return own | items.copies(said.copies[name]) if name in said.copies else own


def _pictures(
    con: duckdb.DuckDBPyConnection, found: Sequence[Finding], options: PageOptions
) -> Gallery:
    if options.images is None:
        return Gallery()
    return gallery(con, found, options.images, cap=options.image_cap, most_shards=MOST_SHARDS)


def _scores(
    con: duckdb.DuckDBPyConnection, record: RunFile, options: PageOptions,
    rate: tuple[float, float] | None,
) -> Histogram | None:  # fmt: skip
    """Return how the scores spread, beside the null captions' where they are of one kind."""
    is_mixed = record.source == "auto"
    null = options.calibration.null_scores if options.calibration and not is_mixed else ()
    return histogram(con, _threshold(con, record, options, rate), null)


def _place(mark: items.RowMark | None) -> int:
    """Return 0 for what is new or worse, 1 for what is known, 2 for what is muted."""
    if mark is None:
        return 1
    return 2 if mark.muted else 0 if mark.state in ("new", "worse") else 1


def _headline(
    counts: Mapping[str, int], every: Sequence[Finding], record: RunFile,
    marks: Mapping[str, items.RowMark],
) -> list[tuple[str, str]]:  # fmt: skip
    matches = Counter(finding.match for finding in every)
    states = Counter("muted" if mark.muted else mark.state for mark in marks.values())
    told = ("new", "worse", "resolved", "muted") if marks else ()
    return [
        ("captions scanned", f"{counts['captions']:,}"),
        ("flagged", f"{len(every):,}"),
        *((state, f"{states[state]:,}") for state in told),
        ("verbatim copies", f"{matches['verbatim']:,}"),
        ("template copies", f"{matches['template']:,}"),
        *_retrieved(every),
        *_stored(every),
        ("rejected samples", f"{counts['rejected']:,}"),
        ("incomplete shards", f"{len(record.incomplete):,}"),
    ]


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


def _threshold(
    con: duckdb.DuckDBPyConnection, record: RunFile, options: PageOptions,
    rate: tuple[float, float] | None,
) -> float | None:  # fmt: skip
    """Return the score above which captions are flagged, from the first place that knows it."""
    spec = record.spec
    if record.source == "auto":
        return None  # images and samples have one each
    if spec.get("flag_by", "delta_s") != "delta_s":
        return None  # of another score
    if rate is None and isinstance(spec.get("threshold"), int | float):
        return float(spec["threshold"])
    if rate is None and options.calibration is not None and isinstance(spec.get("fpr"), float):
        level = options.calibration.threshold(spec["fpr"])
        if math.isfinite(level):
            return level
        if not options.calibration.tail_fingerprint:
            return None  # nothing could be flagged; with a tail, something may have been
    highest = con.execute("SELECT max(delta_s) FROM captions WHERE NOT flagged").fetchall()[0][0]
    return None if highest is None else float(highest)


def _particulars(
    record: RunFile, run: str, counts: dict[str, int], options: PageOptions,
    rate: tuple[float, float] | None,
) -> list[tuple[str, str]]:  # fmt: skip
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
    if null.families is not None and null.families < null.captions:
        lines.append(f"the null captions are {null.families:,} families of near-identical ones")
    if said == null.tail_fingerprint:
        lines.append("smaller ones are of a tail model that promised too much")
    return "; ".join(lines)


def _notes(record: RunFile, cut: int, pictures: Gallery, options: PageOptions) -> list[str]:
    notes = [f"Incomplete: {text}" for text in record.incomplete[:20]]
    notes += [
        f"Chunk given up: {entry.chunk}: {entry.reason.partition(chr(10))[0]}"
        for entry in record.quarantined[:20]
    ]
    if cut > 0:
        notes.append(f"{cut:,} further findings are not on this page: query the results.")
    if options.images is None:
        notes.append("Pictures were left out on request.")
    if pictures.left_out:
        notes.append(
            f"Pictures of the last {pictures.left_out:,} findings are left out: this page holds "
            f"at most {pictures.cap / 2**20:.3g} MiB of pictures. memscan show draws any of them."
        )
    elif pictures.side < SIDES[0] and pictures.illustrations:
        notes.append(
            f"Pictures are at most {pictures.side} pixels wide, so that those of all findings fit "
            f"into {pictures.cap / 2**20:.3g} MiB. memscan show draws any of them larger."
        )
    if pictures.unread:
        notes.append(
            f"Training images of {pictures.unread:,} shards were not looked for: a page opens at "
            f"most {MOST_SHARDS} shards."
        )
    return notes

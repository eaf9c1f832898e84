"""One self-contained page about a run: verdict, figures, findings as pictures, distributions.

Everything that comes from a corpus reaches the page as JSON that the script writes with
``textContent``, or escaped by the template. The page loads nothing, and its content policy lets
no other script run than its own.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb

from scanner.analysis.drift import Drift, drift
from scanner.analysis.findings import Finding, cutoff_of, findings, totals
from scanner.analysis.query import connect
from scanner.report import items, particulars, templates
from scanner.report.addresses import corpus, shortened
from scanner.report.banner import Banner, of_scan
from scanner.report.histogram import Histogram, histogram
from scanner.report.options import (
    MOST_FINDINGS,
    MOST_GROUPED,
    MOST_SHARDS,
    PageOptions,
    Remarks,
)
from scanner.report.p_values import PValues, p_values
from scanner.report.thumbnails import Gallery, gallery
from scanner.results.folder import Results
from scanner.results.run_file import RunFile
from scanner.statistics.families import families

Rows = list[tuple[str, str]]

__all__ = ["Content", "PageOptions", "Remarks", "as_html", "content", "page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a page shows, on a screen or on paper.

    Attributes:
        options: What was asked.
        remarks: What an audit adds.
        banner: The verdict.
        about: Model, corpus and date, name and text.
        numbers: The few that matter, name and text.
        more: Further numbers.
        notes: What is missing or left out, in sentences.
        scores: How the scores spread; null if no caption has one.
        chances: How the p-values spread; null if no caption has one.
        drift: How the captions differ from the null captions; null if it cannot be told.
        particulars: Rows of a table, name and text.
        stamps: What the page is filed by: fingerprints, run, exit code.
        found: The findings, worst first, then those that are resolved.
        families: Of every finding, the place of the first one with a near-identical caption.
        urls: The address of a finding's image by identity, where its shard gave one.
        pictures: Of the findings.
    """

    options: PageOptions
    remarks: Remarks
    banner: Banner
    about: Rows
    numbers: Rows
    more: Rows
    notes: list[str]
    scores: Histogram | None
    chances: PValues | None
    drift: Drift | None
    particulars: Rows
    stamps: Rows
    found: list[Finding]
    families: list[int]
    urls: Mapping[str, str]
    pictures: Gallery


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
    return as_html(content(results, run, options, shards=shards, remarks=remarks))


def content(
    results: Results, run: str, options: PageOptions, *,
    shards: Collection[str] | None = None, remarks: Remarks | None = None,
) -> Content:  # fmt: skip
    """Return what the page of one run shows; the arguments are those of `page`.

    Raises:
        ConfigError: If there is no such run.
        ResultsError: If the results cannot be read.
    """
    said = remarks or Remarks()
    rank = {name: place for place, name in enumerate(said.marks)}
    with closing(connect(results, runs=[run], shards=shards, fdr=options.fdr)) as con:
        record = RunFile.of(json.loads(con.execute("SELECT record FROM runs").fetchall()[0][0]))
        rate, every, counts = cutoff_of(con), findings(con), totals(con)
        found = sorted(every, key=lambda f: (rank.get(f.identity, len(rank)), f.order))
        found = found[:MOST_FINDINGS]
        scores, pictures = _scores(con, record, options, rate), _pictures(con, found, options)
        urls, chances = items.addresses(con, found), p_values(con)
        apart = drift(con, record)
        places = said.corpus or _shards(con, record)
    kept = [*found, *said.gone[: MOST_FINDINGS - len(found)]]
    left_out = len(every) + len(said.gone) - len(kept)
    told = particulars.notes(record, left_out, len(kept), pictures, options)
    known = {note.partition(": ")[2] for note in said.notes}
    facts = particulars.particulars(record, run, counts, options, rate)
    return Content(
        options=options, remarks=said,
        banner=said.banner or _verdict(record, counts, every, rate),
        about=[("model", shortened(str(record.config.get("model", "unnamed")))),
               ("corpus", corpus(places, counts["captions"])),
               ("date", said.date or particulars.date(record.started) or "unknown")],
        numbers=particulars.numbers(counts, every, record, said, len(places)),
        more=particulars.more(counts, every, record, said.marks.values()),
        notes=[
            *said.notes, *_unlike(apart, options),
            *(note for note in told if note.partition(": ")[2] not in known),
        ],
        scores=scores, chances=chances, drift=apart, particulars=[*facts, *said.facts],
        stamps=[*particulars.stamps(record, run), *said.stamps],
        found=kept, families=_families(kept), urls=urls, pictures=pictures,
    )  # fmt: skip


def as_html(shown: Content) -> str:
    """Return a page as HTML."""
    return templates.rendered(
        "report.html",
        shown=shown,
        title=shown.options.title,
        items=[_item(shown, place) for place in range(len(shown.found))],
        pictures=shown.pictures.illustrations,
    )


def _item(shown: Content, place: int) -> dict[str, Any]:
    """Return a finding for the page's script.

    ``i`` says whether its pictures are in the page, ``f`` to which of them it is near-identical.
    """
    finding, said = shown.found[place], shown.remarks
    name, family = finding.identity, shown.families[place]
    own = items.item(
        finding, said.marks.get(name), shown.urls.get(name, ""), redact=shown.options.redact
    )
    own["i"] = name in shown.pictures.illustrations
    if family != place:
        own["f"] = family
    return own | items.copies(said.copies[name]) if name in said.copies else own


def _unlike(apart: Drift | None, options: PageOptions) -> list[str]:
    """Return what to say on top where the captions differ from the null captions."""
    return [] if apart is None else [_sentence(t) for t in apart.lines(redact=options.redact)[:1]]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _families(found: Sequence[Finding]) -> list[int]:
    """Return for every finding the place of the first one with a near-identical caption.

    An image without a caption is like no other, nor is a finding beyond `MOST_GROUPED`.
    """
    told = [place for place, f in enumerate(found[:MOST_GROUPED]) if f.caption.strip()]
    texts = [found[place].caption[: items.MOST_CHARACTERS] for place in told]
    own = list(range(len(found)))
    for place, first in zip(told, families(texts), strict=True):
        own[place] = told[first]
    return own


def _verdict(
    record: RunFile, counts: Mapping[str, int], every: Sequence[Finding],
    rate: tuple[float, float] | None,
) -> Banner:  # fmt: skip
    """Return what a scan that is compared with no other comes to."""
    by_rule = bool(record.identity.calibration or rate or record.spec.get("threshold") is not None)
    return of_scan(
        counts["captions"], [finding.match for finding in every],
        len(record.incomplete) + len(record.quarantined),
        by_rule=by_rule, unfinished=record.status in ("running", "interrupted", "failed"),
    )  # fmt: skip


def _shards(con: duckdb.DuckDBPyConnection, record: RunFile) -> list[str]:
    """Return the addresses of the shards that were to be scanned."""
    asked = record.config.get("shards")
    if isinstance(asked, list | tuple) and asked:
        return [str(address) for address in asked]
    rows = con.execute("SELECT DISTINCT shard FROM scores ORDER BY 1").fetchall()
    return [shard for (shard,) in rows]


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

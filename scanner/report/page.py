"""One self-contained page about a run: figures, distribution, and the findings as pictures.

Everything that comes from a corpus reaches the page as JSON that the script writes with
``textContent``, or escaped. The page loads nothing, and its content policy lets no other script
run than its own.
"""

import base64
import hashlib
import html
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import duckdb

from scanner.analysis.findings import Finding, cutoff_of, findings, totals
from scanner.analysis.query import connect
from scanner.analysis.views import MATCHES
from scanner.matching.copies import Group, explain
from scanner.report.histogram import Histogram, as_svg, histogram, levels, ticks
from scanner.report.thumbnails import SIDES, Gallery, Images, gallery
from scanner.results.folder import Results
from scanner.results.run_file import Identity, RunFile
from scanner.statistics.calibration import Calibration
from scanner.text import printable

IMAGE_CAP = 48 * 1024 * 1024
MOST_FINDINGS = 20_000
MOST_SHARDS = 200
MOST_CHARACTERS = 2000
MOST_COPIES = 20
MOST_URL = 300


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


@dataclass(frozen=True, slots=True)
class RowMark:
    """An audit's remark on a finding.

    Attributes:
        state: ``new``, ``worse``, ``better``, ``persisting``, ``pending`` or ``resolved``.
        reason: Why, for a person.
        severity: The policy's word.
        muted: The reason it was muted with, or ``""``.
        rows: Further particulars, name and text, for the finding's detail.
    """

    state: str = ""
    reason: str = ""
    severity: str = ""
    muted: str = ""
    rows: tuple[tuple[str, str], ...] = ()


def page(
    results: Results,
    run: str,
    options: PageOptions,
    *,
    shards: Collection[str] | None = None,
    marks: Mapping[str, RowMark] | None = None,
    gone: Sequence[Finding] = (),
    banners: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
    copies: Mapping[str, Group] | None = None,
    cards: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the page of one run as HTML.

    Args:
        results: The results folder.
        run: The run.
        options: What to show.
        shards: Identities of the shards that count; all by default.
        marks: What an audit says of findings, by identity.
        gone: Findings that are resolved, as they were.
        banners: Sentences that stand on top.
        facts: Further rows of the table of particulars.
        copies: Images of the corpus that copy a finding, by its identity.
        cards: Further headline figures, name and text.

    Raises:
        ConfigError: If there is no such run.
        ResultsError: If the results cannot be read.
    """
    said = marks or {}
    with closing(connect(results, runs=[run], shards=shards, fdr=options.fdr)) as con:
        record = RunFile.of(json.loads(con.execute("SELECT record FROM runs").fetchall()[0][0]))
        rate, every = cutoff_of(con), findings(con)
        found = sorted(every, key=lambda f: (_place(said.get(f.identity)), f.order))
        found = found[:MOST_FINDINGS]
        counts = totals(con)
        is_mixed = record.source == "auto"
        null = options.calibration.null_scores if options.calibration and not is_mixed else ()
        shown = histogram(con, _threshold(con, record, options, rate), null)
        pictures = Gallery()
        if options.images is not None:
            pictures = gallery(
                con, found, options.images, cap=options.image_cap, most_shards=MOST_SHARDS
            )
        addresses = _addresses(con, found)
    kept = [*found, *gone[: MOST_FINDINGS - len(found)]]
    items = [_item(f, said.get(f.identity), options, addresses) for f in kept]
    for item in items:
        item["i"] = item["id"] in pictures.illustrations
        if item["id"] in (copies or {}):
            item |= _copies((copies or {})[item["id"]])
    headline = [*_headline(counts, every, record, said), *cards]
    rows = [*_particulars(record, run, counts, options, rate), *facts]
    left_out = len(every) + len(gone) - len(kept)
    notes = [*banners, *_notes(record, left_out, pictures, options)]
    return _assembled(options.title, headline, rows, notes, _distribution(shown), items, pictures)


def _place(mark: RowMark | None) -> int:
    """Return 0 for what is new or worse, 1 for what is known, 2 for what is muted."""
    if mark is None:
        return 1
    return 2 if mark.muted else 0 if mark.state in ("new", "worse") else 1


def _headline(
    counts: Mapping[str, int], every: Sequence[Finding], record: RunFile,
    marks: Mapping[str, RowMark],
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


def _addresses(con: duckdb.DuckDBPyConnection, found: Sequence[Finding]) -> dict[str, str]:
    """Return the url of each finding's sample by identity, where its shard gave one."""
    rows = con.execute(
        "SELECT w.identity, any_value(s.url) FROM scores AS s JOIN (SELECT unnest($1::VARCHAR[]) "
        "AS identity, unnest($2::VARCHAR[]) AS shard, unnest($3::VARCHAR[]) AS key"
        ") AS w ON s.shard = w.shard AND s.key = w.key WHERE s.url IS NOT NULL GROUP BY 1",
        [[f.identity for f in found], [f.shard for f in found], [f.key for f in found]],
    ).fetchall()
    return dict(rows)


def site(url: str) -> str:
    """Return the host of an untrusted url, in lower case and without www; empty if it has none.

    Example:
        >>> site("https://www.Example.org:8080/a.jpg"), site("javascript:alert(1)"), site("http://[")
        ('example.org', '', '')
    """
    try:
        return printable((urlsplit(url).hostname or "").removeprefix("www."))
    except ValueError:
        return ""


def _threshold(
    con: duckdb.DuckDBPyConnection, record: RunFile, options: PageOptions,
    rate: tuple[float, float] | None,
) -> float | None:  # fmt: skip
    """Return the score above which captions are flagged, from the first place that knows it."""
    spec = record.spec
    if record.source == "auto":
        return None  # images and samples have one each
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


def _item(
    finding: Finding, mark: RowMark | None, options: PageOptions, addresses: Mapping[str, str]
) -> dict[str, Any]:
    caption = None if options.redact else printable(finding.caption[:MOST_CHARACTERS])
    url = addresses.get(finding.identity, "")
    item = {
        "id": finding.identity, "c": caption, "l": len(finding.caption),
        "d": _finite(finding.delta_s), "p": _finite(finding.p_value), "n": finding.copies,
        "s": printable(finding.shard), "k": printable(finding.key), "m": finding.match,
        "e": [_finite(x) for x in (finding.match_mse, finding.mse_inside, finding.mse_outside)],
        "a": finding.area, "u": printable(url[:MOST_URL]), "h": site(url),
    }  # fmt: skip
    if rows := _evidence(finding):
        item["x"] = rows
    if finding.image_sha256 is not None:
        item["q"] = finding.caption_sha256
    if finding.p_kind == "tail":
        item["tail"] = True
    if mark:
        rows = [[printable(name), printable(text)] for name, text in mark.rows]
        item |= asdict(mark) | {"rows": rows}
    return item


def _evidence(finding: Finding) -> list[list[str]]:
    """Return further particulars of a finding's evidence, name and text."""
    rows = []
    if finding.image_sha256 is not None:
        rows.append(["scored", "at its own image: nothing was generated"])
    if finding.snap_back is not None:
        rows.append(["snap-back, bits", f"{finding.snap_back:.3g}"])
    if finding.pinned is not None:
        rows.append(["stored of the image", finding.pinned])
    if finding.tiled_l2 is not None:
        rows.append(["worst tile, a copy below 0.15", f"{finding.tiled_l2:.3g}"])
    if finding.tightness is not None:
        rows.append(["worst tile between its seeds", f"{finding.tightness:.3g}"])
    if finding.nearest:
        where = f"{finding.nearest} in {finding.nearest_shard}"
        error = "" if finding.nearest_mse is None else f", error {finding.nearest_mse:.3g}"
        rows.append(["nearest image", printable(where) + error])
    return rows


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _copies(group: Group) -> dict[str, Any]:
    listed = [
        [printable(copy.key), printable(copy.shard), copy.match or "same image", copy.mse]
        for copy in group.copies[:MOST_COPIES]
    ]
    return {"v": explain(group), "w": listed}


def _distribution(shown: Histogram | None) -> str:
    if shown is None:
        return "<p>No caption has a score.</p>"
    labels = "".join(
        f'<span style="left:{100 * place:.2f}%">{label}</span>' for place, label in ticks(shown)
    )
    counts = "".join(
        f'<span style="bottom:{100 * height:.2f}%">{label}</span>'
        for height, label in levels(shown)
    )
    cut = ""
    if shown.threshold is not None and math.isfinite(shown.threshold):
        place = shown.place(shown.threshold)
        side = "right" if place > 0.5 else "left"
        at = 100 * (1 - place) if side == "right" else 100 * place
        cut = (
            f'<div class="cutlabel"><span style="{side}:{at:.2f}%">'
            f"threshold {shown.threshold:.4g}</span></div>"
        )
    null = ""
    if shown.null is not None:
        null = f'<span class="key null"></span> {shown.null.sum():,} null captions (calibration)'
    return (
        '<p class="hint"><span class="key clear"></span> clear <span class="key flag"></span> '
        f'flagged {null}</p><div class="hist">{cut}<div class="plot">'
        f'<div class="counts" aria-hidden="true">{counts}</div>{as_svg(shown)}'
        f'<div class="ticks" aria-hidden="true">{labels}</div></div></div>'
    )


def _assembled(
    title: str, headline: Sequence[tuple[str, str]], rows: Sequence[tuple[str, str]],
    notes: Sequence[str], distribution: str, items: Sequence[dict[str, Any]], pictures: Gallery,
) -> str:  # fmt: skip
    assets = files("scanner.report") / "assets"
    template, style, script = (
        (assets / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    cards = "".join(
        f"<div><dt>{_safe(name)}</dt><dd>{_safe(value)}</dd></div>" for name, value in headline
    )
    table = "".join(
        f"<tr><th scope=row>{_safe(name)}</th><td>{_safe(value)}</td></tr>" for name, value in rows
    )
    blocks = "\n".join(
        f'<script type="application/json" id="i-{sha}">{_json(one.as_json())}</script>'
        for sha, one in pictures.illustrations.items()
    )
    parts = {
        "title": _safe(title), "style": style, "script": script, "digest": digest,
        "headline": cards, "particulars": table, "distribution": distribution,
        "notes": "".join(f"<p>{_safe(note)}</p>" for note in notes),
        "items": _json(items), "pictures": blocks,
    }  # fmt: skip
    pieces = template.split("%%")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _safe(text: str) -> str:
    return html.escape(printable(text))


def _json(content: object) -> str:
    """Return JSON that nothing inside a script element can end."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

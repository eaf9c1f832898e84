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
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import duckdb

from scanner.audit.copies import Group, told_of
from scanner.audit.findings import Finding, cutoff_of, findings
from scanner.audit.histogram import Histogram, as_svg, histogram, ticks
from scanner.audit.query import connect, model_of
from scanner.audit.text import printable
from scanner.audit.thumbnails import Gallery, Images, gallery
from scanner.calibration import Calibration
from scanner.io.results import Results

IMAGE_CAP = 32 * 1024 * 1024
MOST_FINDINGS = 20_000
MOST_SHARDS = 200
MOST_CHARACTERS = 2000
MOST_COPIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """What a page shows.

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
class Mark:
    """What an audit says of a finding.

    Attributes:
        state: ``new``, ``worse``, ``better``, ``persisting`` or ``resolved``.
        reason: Why, for a person.
        severity: The policy's word.
        muted: The reason it was muted with, or ``""``.
    """

    state: str = ""
    reason: str = ""
    severity: str = ""
    muted: str = ""


def page(
    results: Results,
    run: str,
    options: PageOptions,
    *,
    shards: Collection[str] | None = None,
    marks: Mapping[str, Mark] | None = None,
    banners: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
    copies: Mapping[str, Group] | None = None,
) -> str:
    """Return the page of one run as HTML.

    Args:
        results: The results folder.
        run: The run.
        options: What to show.
        shards: Identities of the shards that count; all by default.
        marks: What an audit says of findings, by caption hash.
        banners: Sentences that stand on top.
        facts: Further rows of the table of particulars.
        copies: Images of the corpus that copy a finding, by caption hash.

    Raises:
        ConfigError: If there is no such run.
        ResultsError: If the results cannot be read.
    """
    record = results.read_run(run)
    with closing(connect(results, runs=[run], shards=shards, fdr=options.fdr)) as con:
        rate, every = cutoff_of(con), findings(con)
        found = sorted(every, key=lambda f: _first((marks or {}).get(f.caption_sha256), f))
        found = found[:MOST_FINDINGS]
        counts = figures(con)
        shown = histogram(con, _threshold(con, record, options, rate))
        pictures = Gallery()
        if options.images is not None:
            pictures = gallery(
                con, found, options.images, cap=options.image_cap, most_shards=MOST_SHARDS
            )
    items = [_item(f, (marks or {}).get(f.caption_sha256), options) for f in found]
    for item in items:
        item["i"] = item["id"] in pictures.pictures
        if item["id"] in (copies or {}):
            item |= _copies((copies or {})[item["id"]])
    headline = [
        ("captions scanned", f"{counts['captions']:,}"),
        ("flagged", f"{len(every):,}"),
        ("rejected samples", f"{counts['rejected']:,}"),
        ("incomplete shards", f"{len(record.get('incomplete', ())):,}"),
    ]
    rows = [*_particulars(record, run, counts, options, rate), *facts]
    notes = _notes(record, len(every) - len(found), pictures, options)
    return _assembled(
        options.title, headline, rows, [*banners, *notes], _distribution(shown), items, pictures
    )


def figures(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return how many captions, samples and rejects the views hold."""
    row = con.execute(
        "SELECT (SELECT count(*) FROM captions), "
        "(SELECT coalesce(sum(occurrences), 0) FROM captions), "
        "(SELECT count(*) FROM rejects), (SELECT count(DISTINCT shard) FROM scores)"
    ).fetchall()[0]
    return dict(zip(("captions", "samples", "rejected", "shards"), map(int, row), strict=True))


def _first(mark: Mark | None, finding: Finding) -> tuple[Any, ...]:
    news = mark is not None and mark.state in ("new", "worse") and not mark.muted
    return not news, finding.order


def _threshold(
    con: duckdb.DuckDBPyConnection, record: dict[str, Any], options: PageOptions,
    rate: tuple[float, float] | None,
) -> float | None:  # fmt: skip
    """Return the score above which captions are flagged, from the first place that knows it."""
    spec = record.get("spec") or {}
    if rate is None and spec.get("threshold") is not None:
        return float(spec["threshold"])
    if rate is None and options.calibration is not None and "fpr" in spec:
        level = options.calibration.threshold(float(spec["fpr"]))
        return level if math.isfinite(level) else None
    highest = con.execute("SELECT max(delta_s) FROM captions WHERE NOT flagged").fetchall()[0][0]
    return None if highest is None else float(highest)


def _particulars(
    record: dict[str, Any], run: str, counts: dict[str, int], options: PageOptions,
    rate: tuple[float, float] | None,
) -> list[tuple[str, str]]:  # fmt: skip
    identity, config = record.get("identity") or {}, record.get("config") or {}
    spec = record.get("spec") or {}
    rows = [
        ("model", f"{config.get('model', 'unnamed')} ({model_of(record) or 'no fingerprint'})"),
        ("run", f"{run}, {record.get('status', 'of unknown status')}"),
        ("samples", f"{counts['samples']:,} scored in {counts['shards']:,} shards"),
        ("settings", ", ".join(f"{k} {v}" for k, v in spec.items() if v not in (None, ""))),
        ("calibration", _calibration(identity, options)),
        ("started", str(record.get("started", "unknown"))),
        ("last written", str(record.get("updated", "unknown"))),
        ("versions", ", ".join(f"{k} {v}" for k, v in (record.get("versions") or {}).items())),
    ]
    if rate is not None:
        level = f"p ≤ {rate[1]:.3g}" if rate[1] >= 0 else "no caption passes"
        rows.insert(3, ("flagged by", f"false-discovery rate {rate[0]:g}: {level}"))
    return [(name, value) for name, value in rows if value]


def _calibration(identity: dict[str, Any], options: PageOptions) -> str:
    said = str(identity.get("calibration") or "none: no p-values")
    if options.calibration is None:
        return said
    least = options.calibration.min_p
    below = "there are no smaller ones"
    if options.calibration.tail is not None:
        below = f"smaller ones, from {options.calibration.least_p:.2g}, are model-based"
    return (
        f"{said}, {options.calibration.captions:,} null captions: p-values from {least:.2g} are "
        f"conformal, {below}"
    )


def _notes(record: dict[str, Any], cut: int, pictures: Gallery, options: PageOptions) -> list[str]:
    notes = [f"Incomplete: {text}" for text in list(record.get("incomplete", ()))[:20]]
    notes += [
        f"Chunk given up: {entry['chunk']}: {str(entry['reason']).partition(chr(10))[0]}"
        for entry in list(record.get("quarantined", ()))[:20]
    ]
    if cut > 0:
        notes.append(f"{cut:,} further findings are not on this page: query the results.")
    if options.images is None:
        notes.append("Pictures were left out on request.")
    if pictures.left_out:
        notes.append(
            f"Pictures of the last {pictures.left_out:,} findings are left out: this page holds "
            f"at most {pictures.cap / 2**20:.3g} MiB of pictures. `memscan show` draws any of them."
        )
    if pictures.unread:
        notes.append(
            f"Training images of {pictures.unread:,} shards were not looked for: a page opens at "
            f"most {MOST_SHARDS} shards."
        )
    return notes


def _item(finding: Finding, mark: Mark | None, options: PageOptions) -> dict[str, Any]:
    caption = None if options.redact else printable(finding.caption[:MOST_CHARACTERS])
    return {
        "id": finding.caption_sha256, "c": caption, "d": finding.delta_s, "p": finding.p_value,
        "n": finding.copies, "s": printable(finding.shard), "k": printable(finding.key),
        "m": finding.match, "e": finding.match_mse, "a": finding.area,
        "ei": finding.mse_inside, "eo": finding.mse_outside,
        **(asdict(mark) if mark else {}),
    }  # fmt: skip


def _copies(group: Group) -> dict[str, Any]:
    listed = [
        [printable(copy.key), printable(copy.shard), copy.match or "same image", copy.mse]
        for copy in group.copies[:MOST_COPIES]
    ]
    return {"v": told_of(group), "w": listed}


def _distribution(shown: Histogram | None) -> str:
    if shown is None:
        return "<p>No caption has a score.</p>"
    labels = "".join(
        f'<span style="left:{100 * place:.2f}%">{label}</span>' for place, label in ticks(shown)
    )
    cut = ""
    if shown.threshold is not None and math.isfinite(shown.threshold):
        place = shown.place(shown.threshold)
        side = "right" if place > 0.5 else "left"
        at = 100 * (1 - place) if side == "right" else 100 * place
        cut = (
            f'<div class="cutlabel"><span class="{side}" style="{side}:{at:.2f}%">'
            f"threshold {shown.threshold:.4g}</span></div>"
        )
    return f'<div class="hist">{cut}{as_svg(shown)}<div class="ticks">{labels}</div></div>'


def _assembled(
    title: str, headline: Sequence[tuple[str, str]], rows: Sequence[tuple[str, str]],
    notes: Sequence[str], distribution: str, items: Sequence[dict[str, Any]], pictures: Gallery,
) -> str:  # fmt: skip
    assets = files("scanner.audit") / "assets"
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
        for sha, one in pictures.pictures.items()
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

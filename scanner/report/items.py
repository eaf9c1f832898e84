"""Findings as the page's script reads them: as JSON of untrusted texts made printable."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import duckdb

from scanner.analysis import levels
from scanner.analysis.findings import Finding
from scanner.matching.copies import Group, explain
from scanner.text import printable

MOST_CHARACTERS = 2000
MOST_COPIES = 20
MOST_URL = 300


@dataclass(frozen=True, slots=True)
class RowMark:
    """An audit's remark on a finding.

    Attributes:
        state: ``new``, ``worse``, ``better``, ``persisting``, ``pending`` or ``resolved``.
        reason: Why, for a person.
        severity: The policy's word.
        muted: The reason it was muted with, or ``""``.
        rows: Further particulars, name and text, for the finding's detail.
        alarms: Whether it raises the alarm.
    """

    state: str = ""
    reason: str = ""
    severity: str = ""
    muted: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    alarms: bool = False


def addresses(con: duckdb.DuckDBPyConnection, found: Sequence[Finding]) -> dict[str, str]:
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


def item(finding: Finding, mark: RowMark | None, url: str, *, redact: bool) -> dict[str, Any]:
    """Return a finding under the short names that the script knows.

    Args:
        finding: The finding.
        mark: What an audit says of it.
        url: The address of its sample, or ``""``.
        redact: Whether its caption is withheld.
    """
    caption = None if redact else printable(finding.caption[:MOST_CHARACTERS])
    found = {
        "id": finding.identity, "c": caption, "l": len(finding.caption),
        "d": _finite(finding.delta_s), "p": _finite(finding.p_value), "n": finding.copies,
        "s": printable(finding.shard), "k": printable(finding.key), "m": finding.match,
        "e": [_finite(x) for x in (finding.match_mse, finding.mse_inside, finding.mse_outside)],
        "a": finding.area, "lv": finding.level, "kn": finding.known,
        "u": printable(url[:MOST_URL]), "h": site(url),
    }  # fmt: skip
    if rows := _evidence(finding):
        found["x"] = rows
    if finding.image_sha256 is not None:
        found["q"] = finding.caption_sha256
    if finding.p_kind == "tail":
        found["tail"] = True
    if mark:
        rows = [[printable(name), printable(text)] for name, text in mark.rows]
        found |= asdict(mark) | {"rows": rows}
    return found


def _evidence(finding: Finding) -> list[list[str]]:
    """Return further particulars of a finding's evidence, name and text."""
    rows = []
    if finding.image_sha256 is not None:
        rows.append(["scored", "at its own image: nothing was generated"])
    if finding.snap_back is not None:
        rows.append(["snap-back, bits", f"{finding.snap_back:.3g}"])
    if finding.pinned is not None:
        rows.append(["stored of the image", finding.pinned])
    if doubt := levels.doubt_of(finding.mask_doubt, finding.outside_doubt):
        rows.append(["mask's pixels in doubt", doubt])
    if finding.tiled_l2 is not None:
        rows.append(["worst tile, a copy below 0.15", f"{finding.tiled_l2:.3g}"])
    if finding.tightness is not None:
        rows.append(["worst tile between its seeds", f"{finding.tightness:.3g}"])
    if finding.nearest:
        where = f"{finding.nearest} in {finding.nearest_shard}"
        error = "" if finding.nearest_mse is None else f", error {finding.nearest_mse:.3g}"
        rows.append(["nearest image", printable(where) + error])
    return rows


def copies(group: Group) -> dict[str, Any]:
    """Return the first images that copy a finding, and in words how many do."""
    listed = [
        [printable(copy.key), printable(copy.shard), copy.match or "same image", copy.mse]
        for copy in group.copies[:MOST_COPIES]
    ]
    return {"v": explain(group), "w": listed}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

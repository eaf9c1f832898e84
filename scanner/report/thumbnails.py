"""The pictures of findings, small enough for a page: training, generated, heatmap, outline."""

import base64
import io
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from typing import Any

import duckdb
from PIL import Image

from scanner import pictures
from scanner.analysis.evidence import colour_scale
from scanner.analysis.findings import Finding
from scanner.masks import from_heatmap, from_runs, to_runs
from scanner.report.canvas import overlay, without_specks

Images = Callable[[str, Collection[str]], Iterator[tuple[str, bytes]]]
"""From a shard and keys to the encoded training images that there are, by key."""

SIDES = (448, 320, 224, 160, 128, 96)
"""Sides of pictures in pixels: the largest at which those of all findings fit is taken."""
QUALITY, EFFORT = 60, 2
"""Of WebP, which takes half of what a JPEG does; more effort saves a tenth at twice the time."""
AT_ONCE, SAMPLE = 200, 16

MAPS = """
SELECT w.identity, m.metric, m.height, m.width, m.heatmap, m.mask, m.image
FROM masks AS m JOIN wanted AS w
  ON m.caption_sha256 = w.sha AND m.image_sha256 IS NOT DISTINCT FROM w.image
  AND m.shard = w.shard AND m.key = w.key AND m.seed = w.seed
QUALIFY row_number() OVER (
    PARTITION BY w.identity, m.metric ORDER BY m.baseline NOT IN ('null', 'none'), m.baseline
) = 1
ORDER BY w.identity, m.metric = 'delta_h' DESC, m.metric = 'delta_s' DESC, m.metric
"""


@dataclass(slots=True)
class Illustration:
    """The pictures of one finding, ready for a page.

    Attributes:
        training: Training image as a data URI; where it is what was scored, as it was cut.
        generated: Generated picture as a data URI.
        heatmap: Map as a data URI, see-through where nothing is.
        mask: COCO run lengths of the mask without specks, if there is one.
        size: Height and width of map and mask.
    """

    training: str = ""
    generated: str = ""
    heatmap: str = ""
    mask: list[int] = field(default_factory=list)
    size: tuple[int, int] = (1, 1)

    @property
    def num_bytes(self) -> int:
        """Bytes that it adds to a page."""
        runs = sum(len(str(run)) + 1 for run in self.mask)
        return runs + sum(map(len, (self.training, self.generated, self.heatmap)))

    def as_json(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {"t": self.training, "g": self.generated, "h": self.heatmap, "o": self.mask,
                "s": self.size}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures of the worst findings, up to a size.

    Attributes:
        illustrations: By the finding's identity.
        cap: The most bytes that were allowed.
        left_out: Findings without pictures because of the cap.
        unread: Shards whose training images were not looked for.
        side: Rows and columns of a picture at most.
    """

    illustrations: dict[str, Illustration] = field(default_factory=dict)
    cap: int = 0
    left_out: int = 0
    unread: int = 0
    side: int = SIDES[0]


def gallery(
    con: duckdb.DuckDBPyConnection,
    found: Sequence[Finding],
    images: Images,
    *,
    cap: int,
    most_shards: int,
) -> Gallery:
    """Collect the pictures of findings, in their order, until they take ``cap`` bytes.

    Args:
        con: Views of one run.
        found: The findings, the most important first.
        images: Where training images come from.
        cap: The most bytes of a page for pictures.
        most_shards: Open at most so many shards for training images: each is read through.
    """
    scale = colour_scale(con)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE wanted (identity VARCHAR, sha VARCHAR, image VARCHAR, "
        "shard VARCHAR, key VARCHAR, seed BIGINT)"
    )
    side, each = _side(con, found, scale, cap)
    reached = found[: 1 + int(2 * cap / max(1, each))]
    made, used = dict[str, Illustration](), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        training, unread = _training(con, reached, images, side, pool, most_shards)
        for start in range(0, len(reached), AT_ONCE):
            some = reached[start : start + AT_ONCE]
            drawn = _maps(con, some, scale, side, pool)
            for finding in some:
                one = drawn.get(finding.identity, Illustration())
                one.training = training.pop(finding.identity, "")
                if used + one.num_bytes > cap:
                    return Gallery(made, cap, len(found) - len(made), unread, side)
                used += one.num_bytes
                made[finding.identity] = one
    return Gallery(made, cap, len(found) - len(made), unread, side)


def _side(
    con: duckdb.DuckDBPyConnection, found: Sequence[Finding], scale: dict[str, float], cap: int
) -> tuple[int, float]:
    """Return the largest side at which the pictures of all findings fit, and what one takes then.

    It goes by a sample of them.
    """
    step, each = max(1, len(found) // SAMPLE), 0.0
    rows = list(_rows(con, found[::step][:SAMPLE]))
    for side in SIDES:
        drawn = [_illustration(own, scale, side) for own in rows]
        # A training image takes about what the generated picture does, or what WebP usually does.
        whole = sum(one.num_bytes + (len(one.generated) or side * side // 5) for one in drawn)
        each = whole / max(1, len(rows))
        if each * len(found) <= cap:
            return side, each
    return SIDES[-1], each


def _rows(
    con: duckdb.DuckDBPyConnection, some: Sequence[Finding]
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of `MAPS`, those of one finding at a time."""
    localized = [f for f in some if f.seed is not None]
    con.execute("DELETE FROM wanted")
    con.execute(
        "INSERT INTO wanted SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]), "
        "unnest($3::VARCHAR[]), unnest($4::VARCHAR[]), unnest($5::VARCHAR[]), unnest($6::BIGINT[])",
        [[getattr(f, name) for f in localized]
         for name in ("identity", "caption_sha256", "image_sha256", "shard", "key", "seed")],
    )  # fmt: skip
    cursor = con.execute(MAPS)
    for _, own in groupby(iter(cursor.fetchone, None), key=lambda row: row[0]):
        yield list(own)


def _maps(
    con: duckdb.DuckDBPyConnection, some: Sequence[Finding], scale: dict[str, float], side: int,
    pool: ThreadPoolExecutor,
) -> dict[str, Illustration]:  # fmt: skip
    rows = list(_rows(con, some))
    drawn = pool.map(lambda own: _illustration(own, scale, side), rows)
    return {own[0][0]: one for own, one in zip(rows, drawn, strict=True)}


def _illustration(
    rows: Sequence[tuple[Any, ...]], scale: dict[str, float], side: int
) -> Illustration:
    one = Illustration()
    for _, metric, height, width, heatmap, mask, image in rows:
        if image is not None and not one.generated:
            one.generated = small(image, side)
        if not one.heatmap and metric in scale:
            one.size = (height, width)
            values = from_heatmap(heatmap, height, width)
            one.heatmap = _uri("png", overlay(values, scale[metric]))
            if mask is not None:
                region = from_runs(mask, height, width)
                smooth = without_specks(region) if min(height, width) >= 32 else region
                one.mask = to_runs(smooth)
    return one


def _training(
    con: duckdb.DuckDBPyConnection, found: Sequence[Finding], images: Images, side: int,
    pool: ThreadPoolExecutor, most_shards: int,
) -> tuple[dict[str, str], int]:  # fmt: skip
    """Return training images by identity, each shard read once; and how many were not read.

    Those that were scored are cut as they were: to the shape of the run's maps.
    """
    by_shard: dict[str, dict[str, Finding]] = {}
    for finding in found:
        by_shard.setdefault(finding.shard, {})[finding.key] = finding
    shape = con.execute("SELECT height, width FROM masks LIMIT 1").fetchone()
    made: dict[str, str] = {}
    for shard in list(by_shard)[:most_shards]:
        wanted = by_shard[shard]
        seen = images(shard, set(wanted))
        while some := list(islice(seen, AT_ONCE)):
            made |= pool.map(partial(_named, wanted, side, shape), some)
    return made, max(0, len(by_shard) - most_shards)


def _named(
    wanted: dict[str, Finding], side: int, shape: tuple[int, int] | None, entry: tuple[str, bytes]
) -> tuple[str, str]:
    finding = wanted[entry[0]]
    cut = None if finding.image_sha256 is None else shape
    return finding.identity, small(entry[1], side, cut)


def small(content: bytes, side: int, shape: tuple[int, int] | None = None) -> str:
    """Return an untrusted picture as a data URI, ``side`` pixels wide at most; empty if none.

    Args:
        content: JPEG, PNG or WebP bytes.
        side: Rows and columns at most.
        shape: Height to width that its centre is cut to; null leaves it whole.
    """
    found = reencoded(content, side, shape)
    return _uri("webp", found) if found else ""


def reencoded(
    content: bytes, side: int, shape: tuple[int, int] | None = None, *, quality: int = QUALITY
) -> bytes:
    """Return an untrusted picture as WebP bytes of our own, as `small` does; empty if it is none.

    Args:
        content: JPEG, PNG or WebP bytes.
        side: Rows and columns at most.
        shape: Height to width that its centre is cut to; null leaves it whole.
        quality: Of the WebP, 0 to 100.
    """
    try:
        image = pictures.opened(content, least=(side, side))
    except ValueError:
        return b""
    if shape is not None:
        image = pictures.centred(image, shape)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=EFFORT)
    return out.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

"""The pictures of findings, small enough for a page: training, generated, heatmap, outline."""

import base64
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
from PIL import Image

from scanner.audit.canvas import outline_path, overlay, without_specks
from scanner.audit.evidence import colour_scale, picture
from scanner.audit.findings import Finding
from scanner.masks import from_heatmap, from_runs

Images = Callable[[str, Collection[str]], Iterator[tuple[str, bytes]]]
"""From a shard and keys to the encoded training images that there are, by key."""

SIDE, QUALITY = 224, 78
AT_ONCE = 1000

MAPS = """
SELECT m.caption_sha256, m.metric, m.height, m.width, m.heatmap, m.mask, m.image
FROM masks AS m JOIN wanted AS w
  ON m.caption_sha256 = w.sha AND m.shard = w.shard AND m.key = w.key AND m.seed = w.seed
WHERE m.baseline IN ('null', 'none')
ORDER BY m.metric = 'delta_h' DESC, m.metric = 'delta_s' DESC, m.metric
"""


@dataclass(slots=True)
class Illustration:
    """The pictures of one finding, ready for a page.

    Attributes:
        training: Training image as a data URI.
        generated: Generated picture as a data URI.
        heatmap: Map as a data URI, see-through where nothing is.
        outline: SVG path around the mask.
        size: Height and width of map and mask.
    """

    training: str = ""
    generated: str = ""
    heatmap: str = ""
    outline: str = ""
    size: tuple[int, int] = (1, 1)

    @property
    def num_bytes(self) -> int:
        """What it adds to a page."""
        return sum(map(len, (self.training, self.generated, self.heatmap, self.outline)))

    def as_json(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {"t": self.training, "g": self.generated, "h": self.heatmap, "o": self.outline,
                "s": self.size}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures of the worst findings, up to a size.

    Attributes:
        pictures: By caption hash.
        cap: The most bytes that were allowed.
        left_out: Findings without pictures because of the cap.
        unread: Shards whose training images were not looked for.
    """

    pictures: dict[str, Illustration] = field(default_factory=dict)
    cap: int = 0
    left_out: int = 0
    unread: int = 0


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
        "CREATE OR REPLACE TEMP TABLE wanted (sha VARCHAR, shard VARCHAR, key VARCHAR, seed BIGINT)"
    )
    made, used, opened, unread = dict[str, Illustration](), 0, set[str](), set[str]()
    for start in range(0, len(found), AT_ONCE):
        some = found[start : start + AT_ONCE]
        drawn = _maps(con, some, scale)
        shards = {finding.shard: True for finding in some}
        for shard in shards:
            if shard not in opened and len(opened) >= most_shards:
                unread.add(shard)
                continue
            opened.add(shard)
            _add_training(drawn, [f for f in some if f.shard == shard], images)
        for finding in some:
            one = drawn.get(finding.caption_sha256, Illustration())
            if used + one.num_bytes > cap:
                return Gallery(made, cap, len(found) - len(made), len(unread))
            used += one.num_bytes
            made[finding.caption_sha256] = one
    return Gallery(made, cap, 0, len(unread))


def _maps(
    con: duckdb.DuckDBPyConnection, some: Sequence[Finding], scale: dict[str, float]
) -> dict[str, Illustration]:
    localized = [f for f in some if f.seed is not None]
    con.execute("DELETE FROM wanted")
    con.execute(
        "INSERT INTO wanted SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]), "
        "unnest($3::VARCHAR[]), unnest($4::BIGINT[])",
        [[f.caption_sha256 for f in localized], [f.shard for f in localized],
         [f.key for f in localized], [f.seed for f in localized]],
    )  # fmt: skip
    drawn: dict[str, Illustration] = {}
    rows = con.execute(MAPS)
    while (row := rows.fetchone()) is not None:
        sha, metric, height, width, heatmap, mask, image = row
        one = drawn.setdefault(sha, Illustration())
        if image is not None and not one.generated:
            one.generated = small_jpeg(image)
        if not one.heatmap and metric in scale:
            one.size = (height, width)
            values = from_heatmap(heatmap, height, width)
            one.heatmap = _uri("png", overlay(values, scale[metric]))
            if mask is not None:
                region = from_runs(mask, height, width)
                smooth = without_specks(region) if min(height, width) >= 32 else region
                one.outline = outline_path(smooth)
    return drawn


def _add_training(drawn: dict[str, Illustration], some: Sequence[Finding], images: Images) -> None:
    by_key = {finding.key: finding.caption_sha256 for finding in some}
    for key, content in images(some[0].shard, set(by_key)):
        if key in by_key:
            drawn.setdefault(by_key[key], Illustration()).training = small_jpeg(content)


def small_jpeg(content: bytes) -> str:
    """Return an untrusted picture as a data URI of a small JPEG; empty if it is none."""
    image = picture(content)
    if image is None:
        return ""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return _uri("jpeg", out.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

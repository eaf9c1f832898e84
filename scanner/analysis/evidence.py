"""Evidence of one caption: its pictures, maps, mask and numbers, found by key or hash."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanner import pictures
from scanner.analysis import levels
from scanner.analysis.findings import message_of
from scanner.errors import ConfigError
from scanner.masks import from_heatmap, from_runs
from scanner.pictures import MATCHES
from scanner.text import printable

Images = Callable[[str, str], bytes | None]
"""From a shard and a key to the encoded training image, or none."""

MIN_HASH_DIGITS = 6
MAPS_FOR_SCALE = 500

GENERATED = """
SELECT min({'other': NOT named, 'shard': shard, 'key': key}) AS sample, image_sha256, max(caption),
       avg(delta_s), min(p_value), bool_or(flagged), avg(snap_back)
FROM (SELECT *, key = $2 OR starts_with(identity_of(caption_sha256, image_sha256), lower($2))
      AS named FROM scores WHERE caption_sha256 = $1)
GROUP BY image_sha256
ORDER BY bool_or(named) DESC, bool_or(flagged) DESC NULLS LAST, avg(delta_s) DESC NULLS LAST,
         image_sha256 LIMIT 1
"""
"""Of a caption's images the one that is named, or the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One caption under its most suspicious localized seed.

    Attributes:
        caption: The text.
        caption_sha256: Its hash.
        shard: Shard of the sample that was named, or of the first one with the caption.
        key: That sample's key.
        seed: The seed of the pictures and maps.
        delta_s: Mean score over seeds.
        p_value: Smallest over its seeds; null without calibration.
        flagged: Null without a threshold.
        training: The training image, if there is one; where it is what was scored, as it was cut.
        generated: The generated picture, if it was stored.
        maps: Signed maps by metric, in score units.
        mask: The mask at the map's size; null without a threshold.
        doubt: In words, how many of its pixels are in doubt; ``""`` if that is not known.
        truth: The true region, where it is known.
        label: A word that a sheet shows beside the caption.
        comparisons: What comparing pictures gave, in words.
        nearest: The nearest image of another caption, if `retrieve` found one that is copied.
        at_image: Whether the training image was scored, so that nothing was generated.
    """

    caption: str
    caption_sha256: str
    shard: str
    key: str
    seed: int | None
    delta_s: float | None
    p_value: float | None
    flagged: bool | None
    training: Image.Image | None = None
    generated: Image.Image | None = None
    maps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    mask: NDArray[np.bool_] | None = None
    doubt: str = ""
    truth: NDArray[np.bool_] | None = None
    label: str = ""
    comparisons: tuple[str, ...] = ()
    nearest: Image.Image | None = None
    at_image: bool = False


def gather(
    con: duckdb.DuckDBPyConnection,
    key_or_hash: str,
    images: Images,
    *,
    truth: NDArray[np.bool_] | None = None,
    baseline: str = "null",
    label: str = "",
) -> Evidence:
    """Collect the evidence of one caption.

    Args:
        con: Views of one run.
        key_or_hash: A sample's key, or the first six or more digits of a caption's or finding's
            hash. Of a caption with several images the worst is shown, if none is named.
        images: Where training images come from.
        truth: The true region, where it is known.
        baseline: Which baseline's maps; another one's where a metric has none of this.
        label: A word that a sheet shows beside the caption.

    Raises:
        ConfigError: If no caption or more than one answers to it, naming the nearest.
    """
    sha = resolve(con, key_or_hash)
    found = con.execute(GENERATED, [sha, key_or_hash]).fetchall()
    sample, scored, caption, delta_s, p_value, flagged, snap_back = found[0]
    seed, rows = _map_rows(con, sha, scored, baseline)
    maps: dict[str, NDArray[np.float64]] = {}
    masks: dict[str, tuple[NDArray[np.bool_], str]] = {}
    generated = None
    for metric, height, width, heatmap, mask, image, inside, outside in rows:
        generated = generated or picture(image)
        if metric not in maps and heatmap is not None:
            maps[metric] = from_heatmap(heatmap, height, width)
        if metric not in masks and mask is not None:
            doubt = levels.doubt_of(inside, outside)
            masks[metric] = from_runs(mask, height, width), doubt
    training = picture(images(sample["shard"], sample["key"]))
    if scored is None:
        words, nearest = compared(con, sha, seed, images)
    else:
        words, nearest = (f"scored at its image: snap-back {snap_back or 0:.3g} bits",), None
        if training is not None and maps:
            training = pictures.centred(training, next(iter(maps.values())).shape)
    mask, doubt = masks.get("delta_h", masks.get("delta_s", (None, "")))
    return Evidence(
        caption=caption or "", caption_sha256=sha, shard=sample["shard"], key=sample["key"],
        seed=seed, delta_s=delta_s, p_value=p_value, flagged=flagged, training=training,
        generated=generated, maps=maps, mask=mask, doubt=doubt,
        truth=truth, label=label, comparisons=(*words, *_again(con, sha, scored)),
        nearest=nearest, at_image=scored is not None,
    )  # fmt: skip


def compared(
    con: duckdb.DuckDBPyConnection, sha: str, seed: int | None, images: Images
) -> tuple[tuple[str, ...], Image.Image | None]:
    """Return what comparisons gave, in words, and the image of another caption that is copied.

    Args:
        con: Views of one run.
        sha: The caption's hash.
        seed: The seed of the picture that was compared.
        images: Where training images come from.
    """
    own = con.execute(
        "SELECT match, match_mse, tiled_l2, tightness FROM masks WHERE caption_sha256 = $1 "
        "AND seed = $2 ORDER BY match IS NULL, tightness IS NULL LIMIT 1",
        [sha, seed],
    ).fetchall()
    words: list[str] = []
    for match, mse, tiled, tightness in own:
        if match is not None and mse is not None:
            words.append(f"own image: {match}, error {mse:.3g}, worst tile {tiled or 0:.3g}")
        if tightness is not None:
            words.append(f"between seeds: worst tile {tightness:.3g}")
    near = con.execute(
        "SELECT match, own, shard, key, mse FROM retrieved WHERE caption_sha256 = $1 "
        "AND seed = $2 AND rank = 1",
        [sha, seed],
    ).fetchall()
    for match, is_own, shard, key, mse in near:
        words.append(f"nearest: {message_of(match, own=is_own)}, {printable(key)}, error {mse:.3g}")
        if match in MATCHES and not is_own:
            return tuple(words), picture(images(shard, key))
    return tuple(words), None


def _again(con: duckdb.DuckDBPyConnection, sha: str, image: str | None) -> list[str]:
    """Return in words what came of drawing it again, if `confirm` did."""
    rows = con.execute(
        "SELECT drawn, compared, given_back, plain, coalesce(rate_low, 0), rate_high, agreeing "
        "FROM confirmed WHERE caption_sha256 = $1 AND image_sha256 IS NOT DISTINCT FROM $2",
        [sha, image],
    ).fetchall()
    return [f"drawn again: {levels.drawn_again(*row)}" for row in rows[:1]]


def colour_scale(con: duckdb.DuckDBPyConnection, baseline: str = "null") -> dict[str, float]:
    """Return the value of the brightest colour by metric, the same for every picture of a run.

    It is the 99.9th percentile of the pixels of the first `MAPS_FOR_SCALE` maps in the order of
    their captions' hashes; of another baseline's, as in `gather`, where a metric has none of this.
    """
    scale = {}
    for (metric,) in con.execute("SELECT DISTINCT metric FROM masks ORDER BY 1").fetchall():
        rows = con.execute(
            "SELECT heatmap FROM masks WHERE metric = $1 AND baseline = ("
            "SELECT baseline FROM masks WHERE metric = $1 "
            "ORDER BY baseline NOT IN ($2, 'none'), baseline LIMIT 1) "
            "ORDER BY caption_sha256, seed LIMIT $3",
            [metric, baseline, MAPS_FOR_SCALE],
        ).fetchall()
        if rows:
            logs = np.concatenate([np.frombuffer(heat, "<f2") for (heat,) in rows])
            top = float(np.quantile(np.maximum(logs, 0).astype(np.float64), 0.999))
            scale[metric] = float(np.expm1(top)) or 1.0
    return scale


def picture(content: bytes | None) -> Image.Image | None:
    """Decode an untrusted JPEG, PNG or WebP; none if it is none, broken or far too large."""
    try:
        return pictures.opened(content) if content else None
    except ValueError:
        return None


def resolve(con: duckdb.DuckDBPyConnection, wanted: str) -> str:
    """Return the hash of the caption that a sample's key, or the start of a hash, names.

    Raises:
        ConfigError: If no caption or more than one answers to it, naming the nearest.
    """
    matches = con.execute(
        "SELECT caption_sha256, any_value(key), max(caption) FROM scores WHERE key = $1 "
        "OR (length($1) >= $2 AND (starts_with(caption_sha256, lower($1)) "
        "OR starts_with(identity_of(caption_sha256, image_sha256), lower($1)))) "
        "GROUP BY caption_sha256 ORDER BY ALL LIMIT 6",
        [wanted, MIN_HASH_DIGITS],
    ).fetchall()
    if len(matches) == 1:
        return str(matches[0][0])
    if matches:
        raise ConfigError(
            f"{wanted!r} is more than one caption; give a hash instead:\n{_listed(matches)}"
        )
    near = con.execute(
        "SELECT caption_sha256, key, caption FROM captions ORDER BY greatest("
        "jaro_winkler_similarity(key, $1), jaro_winkler_similarity(caption_sha256, lower($1)), "
        "jaro_winkler_similarity(lower(caption), lower($1))) DESC, 1 LIMIT 5",
        [wanted],
    ).fetchall()
    nearest = f"the nearest are:\n{_listed(near)}" if near else "the run holds no caption"
    raise ConfigError(f"no sample has the key or caption hash {wanted!r}; {nearest}")


def named(con: duckdb.DuckDBPyConnection, wanted: str) -> str:
    """Return the identity of the finding that a key or the start of a hash names.

    The start of a caption's hash names the caption, with all of its images.

    Raises:
        ConfigError: If nothing or more than one caption answers to it, naming the nearest.
    """
    sha = resolve(con, wanted)
    rows = con.execute(
        "SELECT DISTINCT identity_of(caption_sha256, image_sha256) AS own FROM scores "
        "WHERE caption_sha256 = $1 AND (key = $2 OR starts_with(own, lower($2)))",
        [sha, wanted],
    ).fetchall()
    return str(rows[0][0]) if len(rows) == 1 else sha


def _listed(rows: list[tuple[Any, ...]]) -> str:
    return "\n".join(
        f"  {sha[:12]}  {key}  {printable(text or '')[:60]}" for sha, key, text in rows
    )


def _map_rows(
    con: duckdb.DuckDBPyConnection, sha: str, image: str | None, baseline: str
) -> tuple[int | None, list[tuple[Any, ...]]]:
    best = con.execute(
        "SELECT m.seed FROM masks AS m LEFT JOIN scores AS s ON s.caption_sha256 = $1 "
        "AND s.image_sha256 IS NOT DISTINCT FROM $2 AND s.seed = m.seed "
        "WHERE m.caption_sha256 = $1 AND m.image_sha256 IS NOT DISTINCT FROM $2 "
        "ORDER BY s.delta_s DESC NULLS LAST, m.seed LIMIT 1",
        [sha, image],
    ).fetchall()
    if not best:
        return None, []
    rows = con.execute(
        "SELECT metric, height, width, heatmap, mask, image, mask_doubt, outside_doubt FROM masks "
        "WHERE caption_sha256 = $1 AND image_sha256 IS NOT DISTINCT FROM $4 AND seed = $2 "
        "ORDER BY baseline <> $3, baseline, metric",
        [sha, best[0][0], baseline, image],
    ).fetchall()
    return int(best[0][0]), rows

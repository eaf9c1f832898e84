"""Everything that a run holds of one row: scores, maps, comparisons, copies and neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np

from scanner.analysis.evidence import compared
from scanner.analysis.findings import message_of
from scanner.masks import from_heatmap, from_runs, mean_filtered
from scanner.methods import registry
from scanner.pictures import MATCHES
from scanner.serve.listing import CAPTION_HASH, Listing, quoted
from scanner.statistics.families import near, shared_words

MOST_SAMPLES, MOST_NEAR, MOST_LIKE = 200, 12, 5000
MAPS = """
SELECT seed, metric, baseline, height, width, threshold, area, mask_doubt,
       image IS NOT NULL AS drawn, match, match_mse, mse_inside, mse_outside, tiled_l2, sigma
FROM masks WHERE caption_sha256 = $1 AND image_sha256 IS NOT DISTINCT FROM $2
QUALIFY row_number() OVER (PARTITION BY seed, metric, baseline ORDER BY shard, key) = 1
ORDER BY seed, metric <> 'delta_s', metric <> 'delta_h', metric, baseline <> 'null', baseline
"""
DELTA_S = (
    "score difference Δs",
    "spatial mean of the squared score difference; large is memorized",
)


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """One score of a row.

    Attributes:
        name: Its column.
        title: What it is.
        meaning: What it says, for a person.
        value: Mean over seeds.
        seeds: By seed.
        share: Share of the run's captions that are less suspicious by it, 0 to 1.
    """

    name: str
    title: str
    meaning: str
    value: float
    seeds: dict[int, float | None]
    share: float


@dataclass(frozen=True, slots=True)
class Detail:
    """What a run holds of one row.

    Attributes:
        row: Its row of ``listed``.
        scores: Its scores.
        maps: Its maps by seed, each by the names in `MAPS`.
        words: What comparisons found.
        samples: Samples that carry the caption: shard, key and url.
        nearest: What `retrieve` found, the nearest image of each seed: place and words.
        similar: Near-identical captions: identity, caption, flagged and similarity.
        url: Where the first sample's image came from.
    """

    row: dict[str, Any]
    scores: list[ScoreLine]
    maps: dict[int, list[dict[str, Any]]]
    words: tuple[str, ...]
    samples: list[tuple[str, str, str | None]]
    nearest: list[dict[str, Any]] = field(default_factory=list)
    similar: list[dict[str, Any]] = field(default_factory=list)
    url: str | None = None


def row_of(con: duckdb.DuckDBPyConnection, id: str) -> dict[str, Any] | None:
    """Return the row of ``listed`` with an identity; null if there is none."""
    cursor = con.execute(
        f"SELECT *, {CAPTION_HASH} AS caption_sha256 FROM listed WHERE id = $1 LIMIT 1",  # noqa: S608
        [id],
    )
    found = cursor.fetchone()
    names = [column[0] for column in cursor.description or []]
    return None if found is None else dict(zip(names, found, strict=True))


def detail(found: Listing, id: str) -> Detail | None:
    """Return what a run holds of one row; null if there is no such row.

    Raises:
        ResultsError: If the results cannot be read.
    """
    with found.cursor() as con:
        row = row_of(con, id)
        if row is None:
            return None
        sha, image = row["caption_sha256"], row["image_sha256"]
        maps: dict[int, list[dict[str, Any]]] = {}
        for each in _named(con.execute(MAPS, [sha, image])):
            maps.setdefault(each["seed"], []).append(each)
        samples = con.execute(
            "SELECT DISTINCT shard, key, url FROM scores WHERE caption_sha256 = $1 AND "
            "image_sha256 IS NOT DISTINCT FROM $2 ORDER BY ALL LIMIT $3",
            [sha, image, MOST_SAMPLES],
        ).fetchall()
        words = _words(con, row, maps)
        return Detail(
            row, _scores(con, row, found.further), maps, words, samples, _nearest(con, sha, image),
            _similar(con, row), next((url for *_, url in samples if url), None),
        )  # fmt: skip


def values(con: duckdb.DuckDBPyConnection, row: dict[str, Any], seed: int, metric: str,
           baseline: str) -> dict[str, Any] | None:  # fmt: skip
    """Return one map for drawing: its values, and those that its threshold is held against.

    A mask comes from the map as it is or from the smoothed one, as the calibration said; which of
    them is told by the mask that is stored.

    Returns:
        ``height``, ``width``, ``threshold``, ``smooth`` and two arrays in score units, ``(H, W)``
        float32: ``raw`` and ``held``. Null if there is no such map.
    """
    rows = con.execute(
        "SELECT height, width, heatmap, threshold, mask FROM masks WHERE caption_sha256 = $1 AND "
        "image_sha256 IS NOT DISTINCT FROM $2 AND seed = $3 AND metric = $4 AND baseline = $5 "
        "ORDER BY shard, key LIMIT 1",
        [row["caption_sha256"], row["image_sha256"], seed, metric, baseline],
    ).fetchall()
    if not rows:
        return None
    height, width, heatmap, threshold, runs = rows[0]
    raw = from_heatmap(heatmap, height, width)
    smooth = mean_filtered(raw)
    is_smooth = True
    if threshold is not None and runs is not None:
        mask = from_runs(runs, height, width)
        apart = [int(((each > threshold) != mask).sum()) for each in (smooth, raw)]
        is_smooth = apart[0] <= apart[1]
    held = smooth if is_smooth else raw
    return {
        "height": height, "width": width, "threshold": threshold, "smooth": is_smooth,
        "raw": raw.astype(np.float32), "held": held.astype(np.float32),
    }  # fmt: skip


def _words(
    con: duckdb.DuckDBPyConnection, row: dict[str, Any], maps: dict[int, list[dict[str, Any]]]
) -> tuple[str, ...]:
    """Return what comparisons found under the first seed that was compared with an image."""
    if row["image_sha256"] is not None:
        return (f"scored at its image: snap-back {row.get('snap_back') or 0:.3g} bits",)
    seeds = [seed for seed, own in maps.items() if any(m["match"] is not None for m in own)]
    if not maps:
        return ()
    return compared(con, row["id"], (seeds or list(maps))[0], lambda shard, key: None)[0]


def _named(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _scores(
    con: duckdb.DuckDBPyConnection, row: dict[str, Any], further: Sequence[str]
) -> list[ScoreLine]:
    there = [name for name in ("delta_s", *further) if row[name] is not None]
    if not there:
        return []
    columns = ", ".join(map(quoted, there))
    by_seed = con.execute(
        f"SELECT seed, {columns} FROM scores WHERE shard = $1 AND key = $2 "  # noqa: S608 - quoted
        "AND caption_sha256 = $3 AND image_sha256 IS NOT DISTINCT FROM $4 ORDER BY seed",
        [row["shard"], row["key"], row["caption_sha256"], row["image_sha256"]],
    ).fetchall()
    signs = {name: "<" if _sign(name) > 0 else ">" for name in there}
    shares = con.execute(
        "SELECT " + ", ".join(  # noqa: S608 - quoted
            f"avg(({quoted(n)} {signs[n]} $n{i})::INT)" for i, n in enumerate(there)
        ) + " FROM listed",
        {f"n{i}": row[name] for i, name in enumerate(there)},
    ).fetchall()[0]  # fmt: skip
    return [
        ScoreLine(name, *meaning(name), row[name], {s: own[place] for s, *own in by_seed},
                  float(shares[place] or 0))
        for place, name in enumerate(there)
    ]  # fmt: skip


def _sign(name: str) -> int:
    return registry.sign(name) if name in registry.DETECTORS else 1


def meaning(name: str) -> tuple[str, str]:
    """Return the title of a score's column and what it says; it imports no other package's."""
    if name == "delta_s":
        return DELTA_S
    if (own := registry.DETECTORS.get(name)) is not None:
        end = "small" if own.low_is_suspicious else "large"
        formula = own.formula.replace("`", "")
        return own.title, f"{formula}, in {own.unit}; {end} is memorized ({own.source})"
    if (map_ := registry.MAPS.get(name)) is not None:
        return map_.title, f"mean of its map over the picture, in {map_.unit}"
    if name.startswith("delta_s_"):
        return f"Δs against {name[8:]}", "Δs with another baseline; large is memorized"
    if name.startswith("delta_h_"):
        return f"Δh against {name[8:]}", "mean of that map over the picture"
    return name, "score of a further detector"


def _nearest(con: duckdb.DuckDBPyConnection, sha: str, image: str | None) -> list[dict[str, Any]]:
    if image is not None:
        return []
    rows = _named(con.execute(
        "SELECT seed, rank, shard, key, own, match, mse, tiled_l2 FROM retrieved "
        "WHERE caption_sha256 = $1 ORDER BY match_rank(match), mse, seed, rank LIMIT $2",
        [sha, MOST_NEAR],
    ))  # fmt: skip
    return [r | {"words": message_of(r["match"], own=r["own"]),
                 "copied": r["match"] in MATCHES} for r in rows]  # fmt: skip


def _similar(con: duckdb.DuckDBPyConnection, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the captions that are near-identical, among those that share a rare word."""
    words = shared_words(row["caption"] or "")
    if not words:
        return []
    shared = " OR ".join(f"contains(folded, $w{n})" for n in range(len(words)))
    rows = _named(con.execute(
        "SELECT id, caption, flagged, delta_s FROM listed WHERE id <> $id "  # noqa: S608
        f"AND ({shared}) LIMIT {MOST_LIKE}",
        {f"w{n}": word for n, word in enumerate(words)} | {"id": row["id"]},
    ))  # fmt: skip
    found = near(row["caption"], [each["caption"] for each in rows])[:MOST_NEAR]
    return [rows[place] | {"similarity": similarity} for place, similarity in found]

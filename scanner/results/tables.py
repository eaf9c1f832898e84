"""The columns of the result tables, and rows as Arrow tables."""

import math
from collections.abc import Sequence

import pyarrow as pa

from scanner.records import ChunkResult, MaskRow, Reject, ScoreRow

SCHEMA_VERSION = 1
TABLES = ("scores", "masks", "rejects")


def _field(
    name: str, kind: pa.DataType, doc: str, unit: str = "", *, null: bool = False
) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={"doc": doc, "unit": unit})


def _schema(table: str, fields: Sequence[pa.Field]) -> pa.Schema:
    return pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION), "table": table})


_SAMPLE = (
    _field("run", pa.string(), "Run that wrote the row"),
    _field("shard", pa.string(), "Address of the shard"),
    _field("key", pa.string(), "The sample's key in its shard"),
)
_HASH = _field("caption_sha256", pa.string(), "SHA-256 of the caption's UTF-8 text, in hex")
_IMAGE_HASH = _field(
    "image_sha256",
    pa.string(),
    "SHA-256 of the encoded image, where it was scored; null where the caption was sampled",
    null=True,
)
_SQUARED = "pixels 0 to 1, squared"
_SEED = _field("seed", pa.int64(), "Sampling seed")

_NUMBERS = ("screen", "delta_s", "p_value", "seed_p_value")

SCORES = _schema(
    "scores",
    [
        *_SAMPLE,
        _field("caption", pa.string(), "The caption"),
        _HASH,
        _field("url", pa.string(), "Where the image came from", null=True),
        _SEED,
        _field("stage", pa.string(), "How far it got: screen, detect or localize"),
        _field(
            "screen",
            pa.float64(),
            "Norm of the first step, where that was a screen",
            "noise",
            null=True,
        ),
        _field(
            "delta_s",
            pa.float64(),
            "Spatial mean of the channel-summed squared score difference",
            "score squared",
            null=True,
        ),
        _field(
            "p_value", pa.float64(), "The caption's p-value over its seeds", "0 to 1", null=True
        ),
        _field(
            "p_kind",
            pa.string(),
            "Of the p-value: conformal, screen (1), or in old rows tail (a model)",
            null=True,
        ),
        _field(
            "seed_p_value",
            pa.float64(),
            "Conformal p-value of this seed alone",
            "0 to 1",
            null=True,
        ),
        _field(
            "flagged",
            pa.bool_(),
            "Whether the caption is flagged; under a false-discovery rate, whether it may be",
            null=True,
        ),
        _field(
            "increments",
            pa.list_(pa.field("element", pa.float32(), nullable=False)),
            "Length of each of the sampler's steps, where increment is asked for",
            "latent",
            null=True,
        ),
        _IMAGE_HASH,
    ],
)
MASKS = _schema(
    "masks",
    [
        *_SAMPLE,
        _HASH,
        _SEED,
        _field("metric", pa.string(), "What is mapped: delta_h, delta_s, ... (docs/methods.md)"),
        _field("baseline", pa.string(), "What was subtracted: null, a name, or none"),
        _field("height", pa.int32(), "Rows of the map", "pixels"),
        _field("width", pa.int32(), "Columns of the map", "pixels"),
        _field("threshold", pa.float64(), "Pixel threshold of this mask", "score", null=True),
        _field(
            "mask",
            pa.list_(pa.field("element", pa.int32(), nullable=False)),
            "COCO run lengths: column-major, background first",
            "pixels",
            null=True,
        ),
        _field("area", pa.float64(), "Share of the picture inside the mask", "0 to 1", null=True),
        _field(
            "heatmap",
            pa.binary(),
            "sign(m) * log1p(abs(m)) of the signed map, little-endian float16, row-major",
            "score",
        ),
        _field("sigma", pa.float64(), "Noise scale at which the map was taken"),
        _field("image", pa.binary(), "The generated picture as JPEG", null=True),
        _field("match", pa.string(), "verbatim, template or none", null=True),
        _field(
            "match_mse",
            pa.float64(),
            "Mean squared error behind the match: of the whole picture, or inside the mask",
            _SQUARED,
            null=True,
        ),
        _field("mse_inside", pa.float64(), "The same inside the mask", _SQUARED, null=True),
        _field("mse_outside", pa.float64(), "The same outside it", _SQUARED, null=True),
        _field(
            "tiled_l2",
            pa.float64(),
            "Largest root mean squared error of a sixteenth of the picture",
            "pixels 0 to 1",
            null=True,
        ),
        _field(
            "tightness",
            pa.float64(),
            "Mean of the same between the generations of the caption's seeds",
            "pixels 0 to 1",
            null=True,
        ),
        _IMAGE_HASH,
        _field(
            "pinned",
            pa.string(),
            "Of a scored image, how much of it the model stores: whole, region or none",
            null=True,
        ),
        _field("snap_inside", pa.float64(), "Mean snap-back inside the mask", "bits", null=True),
        _field("snap_outside", pa.float64(), "The same outside it", "bits", null=True),
    ],
)
REJECTS = _schema(
    "rejects",
    [
        *_SAMPLE,
        _field("reason", pa.string(), "Why there is no score, one word"),
        _field("detail", pa.string(), "What was found"),
        _field("caption_sha256", pa.string(), "Hash of the caption, if there was one", null=True),
    ],
)

RETRIEVED = _schema(
    "retrieved",
    [
        _field("run", pa.string(), "Run that drew the picture"),
        _HASH,
        _SEED,
        _field("rank", pa.int32(), "Place among the nearest images, from 1"),
        _field("shard", pa.string(), "Address of the shard of that image"),
        _field("key", pa.string(), "The image's key in its shard"),
        _field("own", pa.bool_(), "Whether it is an image of this very caption"),
        _field("match", pa.string(), "verbatim, template, plain or none"),
        _field("mse", pa.float64(), "Mean squared error behind the match", _SQUARED),
        _field(
            "tiled_l2",
            pa.float64(),
            "Largest root mean squared error of a sixteenth of the picture",
            "pixels 0 to 1",
        ),
    ],
)
"""What `memscan retrieve` derives of a run; not part of any commit, made anew each time."""


def scores_schema(extra: Sequence[str]) -> pa.Schema:
    """Return `SCORES` with a float32 column for each further detector.

    Raises:
        ValueError: If a detector has the name of a column.
    """
    names = [*SCORES.names, *extra]
    if len(set(names)) < len(names):
        raise ValueError(f"extra columns must be new and distinct, got {list(extra)}")
    doc = "Score of a further detector"
    return _schema("scores", [*SCORES, *(_field(n, pa.float32(), doc, null=True) for n in extra)])


def counts(result: ChunkResult, samples: object) -> dict[str, int]:
    """Return how many samples were scored, rejected and flagged.

    Raises:
        ValueError: If they do not add up to ``samples``, or rows are double or astray.
    """
    rows = {(row.caption.shard, row.caption.key, row.seed) for row in result.scores}
    if len(rows) < len(result.scores):
        raise ValueError(f"{len(result.scores)} score rows for {len(rows)} samples and seeds")
    if strays := {(m.caption.shard, m.caption.key, m.seed) for m in result.masks} - rows:
        raise ValueError(f"{len(strays)} maps without a score row, such as {min(strays)}")
    found = {
        "scored": len({(shard, key) for shard, key, _ in rows}),
        "rejected": len(result.rejects),
        "flagged": len({(r.caption.shard, r.caption.key) for r in result.scores if r.flagged}),
    }
    if samples != found["scored"] + found["rejected"]:
        raise ValueError(
            f"samples must be scored + rejected, got {samples} samples, "
            f"{found['scored']} scored and {found['rejected']} rejected"
        )
    return {"samples": found["scored"] + found["rejected"], **found}


def tables(run: str, result: ChunkResult, extra: Sequence[str]) -> dict[str, pa.Table]:
    """Return the tables to write: scores always, the others if they have rows.

    Raises:
        ValueError: If a number is not finite, or a score is missing or of no known detector.
    """
    rows: list[tuple[pa.Schema, list[dict[str, object]]]] = [
        (scores_schema(extra), [_score(run, row, extra) for row in result.scores]),
        (MASKS, [_mask(run, row) for row in result.masks]),
        (REJECTS, [_reject(run, row) for row in result.rejects]),
    ]
    return {
        name: pa.Table.from_pylist(content, schema)
        for name, (schema, content) in zip(TABLES, rows, strict=True)
        if content or name == "scores"
    }


def _score(run: str, row: ScoreRow, extra: Sequence[str]) -> dict[str, object]:
    if unknown := set(row.extra) - set(extra):
        raise ValueError(f"{row.caption.key} has scores of {sorted(unknown)}, not among {extra}")
    numbers = {n: getattr(row, n) for n in _NUMBERS} | row.extra
    for name, number in numbers.items():
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{name} of {row.caption.key} must be finite, got {number}")
    if row.delta_s is None and row.stage != "screen":
        raise ValueError(f"{row.caption.key} has no delta_s at stage {row.stage}")
    return {
        "run": run,
        "shard": row.caption.shard,
        "key": row.caption.key,
        "caption": row.caption.text,
        "caption_sha256": row.caption.sha256,
        "image_sha256": row.caption.image_sha256,
        "url": row.caption.url,
        "seed": row.seed,
        "stage": row.stage,
        "p_kind": row.p_kind,
        "flagged": row.flagged,
        "increments": row.increments,
        **numbers,
    }


def _mask(run: str, row: MaskRow) -> dict[str, object]:
    named = ("run", "shard", "key", "caption_sha256", "image_sha256")
    own = [name for name in MASKS.names if name not in named]
    return {
        "run": run,
        "shard": row.caption.shard,
        "key": row.caption.key,
        "caption_sha256": row.caption.sha256,
        "image_sha256": row.caption.image_sha256,
        **{name: getattr(row, name) for name in own},
    }


def _reject(run: str, row: Reject) -> dict[str, object]:
    return {"run": run, **{name: getattr(row, name) for name in REJECTS.names[1:]}}

"""Rows for real results, and what writes them through the ledger."""

import io
from dataclasses import asdict

import duckdb
import numpy as np
from PIL import Image

from scanner.masks import to_heatmap, to_runs
from scanner.records import Caption, ChunkResult, MaskRow, Reject, ScoreRow, caption_hash
from scanner.results.folder import Results
from scanner.spec import ScanSpec

SPEC = ScanSpec(seeds=(0, 1))
MODEL = "0123456789ab"


def jpeg(side: int = 16, level: int = 128) -> bytes:
    out = io.BytesIO()
    ramp = np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1))
    Image.fromarray(np.stack([ramp, ramp.T, np.full_like(ramp, level)], -1)).save(out, "JPEG")
    return out.getvalue()


def score(
    text: str,
    delta_s: float | None,
    *,
    key: str | None = None,
    seed: int = 0,
    shard: str = "a.tar",
    **more: object,
) -> ScoreRow:
    caption = Caption(shard, key or text.replace(" ", "_"), text)
    more = {"stage": "detect", **more}
    return ScoreRow(caption, seed, delta_s=delta_s, **more)  # pyright: ignore[reportArgumentType]


def mask(
    text: str,
    values: np.ndarray,
    *,
    metric: str = "delta_h",
    baseline: str = "null",
    seed: int = 0,
    threshold: float | None = None,
    key: str | None = None,
    image: bytes | None = None,
    shard: str = "a.tar",
) -> MaskRow:
    found = None if threshold is None else values > threshold
    return MaskRow(
        Caption(shard, key or text.replace(" ", "_"), text),
        seed,
        metric=metric,
        baseline=baseline,
        height=values.shape[0],
        width=values.shape[1],
        heatmap=to_heatmap(values),
        sigma=0.05,
        threshold=threshold,
        mask=None if found is None else to_runs(found),
        area=None if found is None else float(found.mean()),
        image=image,
    )


def commit(
    results: Results,
    run: str,
    scores: list[ScoreRow],
    masks: list[MaskRow] | None = None,
    rejects: list[Reject] | None = None,
    *,
    chunk: str = "a-00000",
) -> None:
    extra = sorted({name for row in scores for name in row.extra})
    content = ChunkResult(scores, masks or [], rejects or [])
    samples = {(row.caption.shard, row.caption.key) for row in scores}
    facts: dict[str, object] = {"samples": len(samples) + len(content.rejects)}
    assert results.commit(run, chunk, content, extra=extra, facts=facts)


def record(started: str = "2026-01-01T00:00:00+00:00") -> dict[str, object]:
    return {"started": started, "identity": {"model": MODEL}, "spec": asdict(SPEC)}


def write_truth(path, rows):
    """Rows of (text, kind, family, mask or None)."""
    table = [
        (caption_hash(text), kind, family, region is not None, 16, 16,
         None if region is None else to_runs(region))
        for text, kind, family, region in rows
    ]  # fmt: skip
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE t (caption_sha256 VARCHAR, kind VARCHAR, family VARCHAR, memorized BOOL, "
        "height INT, width INT, mask INT[])"
    )
    con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)", table)
    con.execute(f"COPY t TO '{path}' (FORMAT parquet)")

"""Scores of a caption, with arrays; made from the rows of a scan that is in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanner import masks
from scanner.records import Caption, ChunkResult, MaskRow, ScoreRow

if TYPE_CHECKING:
    from scanner.scan.state import ChunkState


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """One metric, pixel by pixel, of every seed.

    Attributes:
        values: ``(seeds, height, width)`` float32 in the latent's resolution, signed, summed over
            channels; Δs and Δh in 1 / latent², divided by sigma.
        sigma: Noise scale of the step where it was taken.
        threshold: Per seed, what a pixel of the mask exceeds; null without a threshold.
        masks: ``(seeds, height, width)`` bool, the region that is the copy; null likewise.
    """

    values: NDArray[np.float32]
    sigma: float
    threshold: NDArray[np.float64] | None = None
    masks: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Scores of a caption, or of an image under its caption.

    Attributes:
        caption: The text.
        seeds: The sampling seeds, in the order of every array.
        scores: Every score by name, ``(seeds,)`` float64: ``delta_s`` (Kim & Lee 2026, the mean
            of the squared score difference), the means of the maps, and the detectors that were
            asked for. NaN where a seed has none.
        p_value: Conformal p-value of the mean Δs among the calibration's null scores; null without
            a calibration.
        flagged: Whether it is suspicious; null without calibration and threshold.
        maps: Of localized captions, by name: ``delta_s``, ``delta_h`` and others; those against
            a less-trained baseline as ``delta_h/NAME``.
        images: What was generated, ``(seeds, height, width, 3)`` uint8; null where nothing was
            localized or an image was scored.
        pinned: Of images with a mask, per seed: how much of the image the model stores, ``whole``,
            ``region`` or ``none``; else empty.
        rejected: Why there are no numbers, such as ``not_finite: ...``; null where there are.

    Example:
        >>> import scanner
        >>> model = scanner.load_model("gaussian")
        >>> (found,) = scanner.score(model, "a red circle", steps=4, seeds=3)
        >>> found.seeds, bool(found.delta_s == found.scores["delta_s"].mean())
        ((0, 1, 2), True)
    """

    caption: str
    seeds: tuple[int, ...]
    scores: dict[str, NDArray[np.float64]]
    p_value: float | None = None
    flagged: bool | None = None
    maps: dict[str, Map] = field(default_factory=dict[str, Map])
    images: NDArray[np.uint8] | None = None
    pinned: tuple[str, ...] = ()
    rejected: str | None = None

    @property
    def delta_s(self) -> float:
        """The caption's Δs: the mean over its seeds, in 1 / latent²."""
        own = self.scores.get("delta_s")
        return float("nan") if own is None else float(own.mean())

    @property
    def delta_h(self) -> float:
        """The caption's Δh: the mean over pixels and seeds, in 1 / latent²; NaN without maps."""
        own = self.scores.get("delta_h")
        return float("nan") if own is None else float(own.mean())

    def __repr__(self) -> str:
        said = f"rejected={self.rejected!r}" if self.rejected else f"delta_s={self.delta_s:.4g}"
        return f"Score({self.caption!r}, {said}, p_value={self.p_value}, flagged={self.flagged})"


def scores_of(
    captions: Sequence[Caption], result: ChunkResult, work: "ChunkState | None",
    seeds: tuple[int, ...],
) -> Iterator[tuple[int, Score]]:  # fmt: skip
    """Yield position and result of the samples that rows and rejects are of."""
    scores, maps = dict[str, list[ScoreRow]](), dict[str, list[MaskRow]]()
    for row in result.scores:
        scores.setdefault(row.caption.key, []).append(row)
    for row in result.masks:
        maps.setdefault(row.caption.key, []).append(row)
    for reject in result.rejects:
        reason = f"{reject.reason}: {reject.detail}"
        text = captions[int(reject.key)].text
        yield int(reject.key), Score(text, seeds, {}, rejected=reason)
    for key, rows in scores.items():
        draws = [] if work is None else work.verdicts[rows[0].caption.identity].draws
        drawn = [draw.picture for draw in draws if draw.picture is not None]
        values = {draw.draw.seed: draw.maps for draw in draws}
        yield int(key), Score(
            caption=rows[0].caption.text,
            seeds=tuple(row.seed for row in rows),
            scores=_columns(rows), p_value=rows[0].p_value, flagged=rows[0].flagged,
            maps=_maps_of(maps.get(key, ()), values),
            images=np.stack(drawn) if drawn else None,
            pinned=tuple(row.pinned for row in maps.get(key, ()) if row.pinned is not None),
        )  # fmt: skip


def _columns(rows: Sequence[ScoreRow]) -> dict[str, NDArray[np.float64]]:
    """Return every score of a caption as an array over seeds."""
    cells = [{"delta_s": row.delta_s} | dict(row.extra) for row in rows]
    names = sorted({name for own in cells for name in own})
    return {
        name: np.array([np.nan if (v := own.get(name)) is None else v for own in cells], float)
        for name in names
    }


def _maps_of(rows: Sequence[MaskRow], values: dict[int, Any]) -> dict[str, Map]:
    """Return the maps of a caption, in float32 as they were computed; masks as a scan has them."""
    by_name = dict[tuple[str, str], list[MaskRow]]()
    for row in rows:
        by_name.setdefault((row.metric, row.baseline), []).append(row)
    found = dict[str, Map]()
    for (metric, baseline), own in by_name.items():
        found[map_name(metric, baseline)] = map_of(
            [_values(values[row.seed], metric, baseline) for row in own],
            own[0].sigma,
            [row.threshold for row in own],
            [
                None if row.mask is None else masks.from_runs(row.mask, row.height, row.width)
                for row in own
            ],
        )
    return found


def map_name(metric: str, baseline: str) -> str:
    """Return what `Score.maps` calls a map."""
    return metric if baseline in ("null", "none") else f"{metric}/{baseline}"


def map_of(
    values: Sequence[NDArray[np.float32]], sigma: float, thresholds: Sequence[float | None],
    regions: Sequence[NDArray[np.bool_] | None],
) -> Map:  # fmt: skip
    """Return a map of what every seed has; thresholds and masks only if all of them have one."""
    return Map(np.stack(values), sigma, _whole(thresholds), _whole(regions))


def _whole(parts: Sequence[Any]) -> Any:
    return None if any(part is None for part in parts) else np.stack(parts)


def _values(maps: dict[tuple[str, str], Any], metric: str, baseline: str) -> Any:
    """Return a map; without captions, a row names the baseline what the arrays call null."""
    return maps[metric, baseline] if (metric, baseline) in maps else maps[metric, "null"]

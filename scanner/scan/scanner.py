"""Captions to records: detect all, flag by calibration, localize what the spec asks for."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scanner import masks
from scanner.calibration import Calibration
from scanner.models.base import Denoiser
from scanner.records import Caption, ChunkResult, MaskRow, Reject, ScoreRow
from scanner.scan import evidence, stages
from scanner.scan.stages import Draw
from scanner.spec import ScanSpec

T = TypeVar("T")


@dataclass(slots=True)
class _Sampled:
    """One draw on its way: after detection, and after localization if it got there."""

    draw: Draw
    point: Tensor
    final: Tensor
    found: dict[tuple[str, str], NDArray[np.float32]]
    localized: bool = False
    picture: NDArray[np.uint8] | None = None


@dataclass(slots=True)
class _Verdict:
    """What the seeds of one caption say together."""

    p_value: float | None
    flagged: bool | None
    draws: list[_Sampled] = field(default_factory=list)


class Scanner:
    """Scores captions with one model on one device.

    A caption's row is the same in any company: noise and probes are keyed by caption and seed,
    and samples of a batch do not interact. A caption that stands several times among the
    samples is scored once and fanned out.

    Args:
        denoiser: The model under audit.
        spec: What is asked.
        baseline: Name and network of a less-trained baseline, if any.
        calibration: Null distribution and pixel thresholds, if any.
        batch_size: Draws at a time; changes speed and memory only.
    """

    def __init__(
        self, denoiser: Denoiser, spec: ScanSpec, *, baseline: tuple[str, Denoiser] | None = None,
        calibration: Calibration | None = None, batch_size: int = 16,
    ) -> None:  # fmt: skip
        self.denoiser, self.spec, self.baseline = denoiser, spec, baseline
        self.calibration, self.batch_size = calibration, batch_size
        self.denoiser_seconds = 0.0

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the score columns beyond the fixed ones."""
        if self.spec.localize == "none":
            return ()
        named = (
            ()
            if self.baseline is None
            else (f"delta_h_{self.baseline[0]}", f"delta_s_{self.baseline[0]}")
        )
        return ("delta_h", "curvature", *named)

    def scan(self, captions: Sequence[Caption]) -> ChunkResult:
        """Score captions; localize those that the spec asks for.

        Returns:
            One score row per (caption, seed), one mask row per map, and a reject for every
            sample whose scores are not finite.
        """
        texts = {caption.sha256: caption.text for caption in captions}
        draws = [Draw(text, sha, seed) for sha, text in texts.items() for seed in self.spec.seeds]
        sampled = [item for batch in self._batches(draws) for item in self._detect(batch)]
        verdicts, broken = self._judge(sampled)
        wanted = [s for verdict in verdicts.values() if self._wants(verdict) for s in verdict.draws]
        for batch in self._batches(wanted):
            broken |= self._localize(batch)
        result = ChunkResult()
        for caption in captions:
            if caption.sha256 in broken:
                detail = "a score was NaN or infinite"
                result.rejects.append(
                    Reject(caption.shard, caption.key, "not_finite", detail, caption.sha256)
                )
                continue
            verdict = verdicts[caption.sha256]
            result.scores += [self._score_row(caption, verdict, s) for s in verdict.draws]
            for item in verdict.draws:
                if item.localized:
                    result.masks += self._mask_rows(caption, item)
        return result

    def _batches(self, items: list[T]) -> Iterator[list[T]]:
        for start in range(0, len(items), self.batch_size):
            yield items[start : start + self.batch_size]

    def _timed(self, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        value = work()
        if self.denoiser.device.type == "cuda":
            torch.cuda.synchronize()
        self.denoiser_seconds += time.perf_counter() - start
        return value

    def _detect(self, draws: list[Draw]) -> list[_Sampled]:
        seen = self._timed(lambda: stages.detect(self.denoiser, draws, self.spec))
        found = seen.delta_s.cpu().numpy()
        return [
            _Sampled(draw, seen.point[i], seen.final[i], {("delta_s", "null"): found[i]})
            for i, draw in enumerate(draws)
        ]

    def _judge(self, sampled: list[_Sampled]) -> tuple[dict[str, _Verdict], set[str]]:
        """Return each caption's verdict over its seeds, and the captions without a finite score."""
        by_caption: dict[str, list[_Sampled]] = {}
        for item in sampled:
            by_caption.setdefault(item.draw.sha256, []).append(item)
        verdicts, broken = dict[str, _Verdict](), set[str]()
        for sha, items in by_caption.items():
            score = float(np.mean([_mean(item.found["delta_s", "null"]) for item in items]))
            if np.isfinite(score):
                verdicts[sha] = _Verdict(*self._flag(score), draws=items)
            else:
                broken.add(sha)
        return verdicts, broken

    def _flag(self, score: float) -> tuple[float | None, bool | None]:
        p_value = None if self.calibration is None else self.calibration.p_value(score)
        if self.spec.threshold is not None:
            return p_value, score > self.spec.threshold
        return p_value, None if p_value is None else p_value <= self.spec.fpr

    def _wants(self, verdict: _Verdict) -> bool:
        return self.spec.localize == "all" or (
            self.spec.localize == "flagged" and bool(verdict.flagged)
        )

    def _localize(self, items: list[_Sampled]) -> set[str]:
        """Add maps and pictures to items; return the captions whose maps are not finite."""
        point = torch.stack([item.point for item in items])
        draws = [item.draw for item in items]
        found = self._timed(
            lambda: stages.localize(self.denoiser, self.baseline, draws, point, self.spec)
        )
        arrays = {name: m.cpu().numpy() for name, m in found.items()}
        pictures = self.denoiser.decode(torch.stack([item.final for item in items])).numpy()
        broken = set[str]()
        for i, item in enumerate(items):
            item.found |= {name: m[i] for name, m in arrays.items()}
            item.picture, item.localized = pictures[i], True
            if not all(np.isfinite(m).all() for m in item.found.values()):
                broken.add(item.draw.sha256)
        return broken

    def _score_row(self, caption: Caption, verdict: _Verdict, item: _Sampled) -> ScoreRow:
        extra: dict[str, float] = {}
        for (metric, baseline), values in item.found.items():
            if (metric, baseline) != ("delta_s", "null"):
                column = metric if baseline in ("null", "none") else f"{metric}_{baseline}"
                extra[column] = _mean(values)
        return ScoreRow(
            caption=caption, seed=item.draw.seed,
            stage="localize" if item.localized else "detect",
            delta_s=_mean(item.found["delta_s", "null"]), p_value=verdict.p_value,
            flagged=verdict.flagged, extra=extra,
        )  # fmt: skip

    def _mask_rows(self, caption: Caption, item: _Sampled) -> Iterator[MaskRow]:
        """Yield one row per map; the Δh row comes first and carries picture and evidence."""
        schedule = self.denoiser.schedule(self.spec.steps)
        order = sorted(item.found, key=lambda name: name != ("delta_h", "null"))
        for number, (metric, baseline) in enumerate(order):
            values = item.found[metric, baseline]
            threshold = self._pixel_threshold(metric, baseline)
            mask = None if threshold is None else values > threshold
            verdict, error = self._evidence(caption, item, mask) if number == 0 else (None, None)
            keep = number == 0 and self.spec.store_image and item.picture is not None
            yield MaskRow(
                caption=caption, seed=item.draw.seed, metric=metric, baseline=baseline,
                height=values.shape[0], width=values.shape[1], heatmap=masks.to_heatmap(values),
                sigma=schedule.sigmas[self.spec.steps - 1], threshold=threshold,
                mask=None if mask is None else masks.to_runs(mask),
                area=None if mask is None else float(mask.mean()),
                image=evidence.encode_jpeg(item.picture) if keep else None,  # type: ignore[arg-type]
                match=verdict, match_mse=error,
            )  # fmt: skip

    def _pixel_threshold(self, metric: str, baseline: str) -> float | None:
        if self.spec.pixel_threshold is not None and metric == "delta_h":
            return self.spec.pixel_threshold
        if self.calibration is None:
            return None
        return self.calibration.pixel_thresholds.get(f"{metric}/{baseline}")

    def _evidence(
        self, caption: Caption, item: _Sampled, mask: NDArray[np.bool_] | None
    ) -> tuple[str | None, float | None]:
        if caption.image is None or item.picture is None:
            return None, None
        try:
            training = evidence.decode_image(caption.image, item.picture.shape[:2])
        except ValueError:
            return "unreadable", None
        return evidence.match(item.picture, training, mask)


def _mean(values: NDArray[np.float32]) -> float:
    return float(values.astype(np.float64).mean())

"""Captions to records: detect all, flag by calibration, localize what the spec asks for."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scanner import masks, pictures
from scanner.calibration import Calibration
from scanner.models.base import Denoiser
from scanner.pictures import Match
from scanner.records import Caption, ChunkResult, MaskRow, Reject, ScoreRow
from scanner.scan import methods, stages
from scanner.scan.stages import Draw
from scanner.scan.tally import Counted, attentive
from scanner.spec import ScanSpec

T = TypeVar("T")

_MEANS = ("delta_h", "delta_s", "curvature")
"""Metrics of which a score column holds the spatial mean."""


@dataclass(slots=True)
class _Sampled:
    """One draw on its way: after detection, and after localization if it got there."""

    draw: Draw
    point: Tensor
    final: Tensor
    found: dict[tuple[str, str], NDArray[np.float32]]
    extra: dict[str, float] = field(default_factory=dict)
    clean: Tensor | None = None
    localized: bool = False
    picture: NDArray[np.uint8] | None = None

    @property
    def is_finite(self) -> bool:
        """Whether every number so far is one."""
        return all(map(math.isfinite, self.extra.values())) and all(
            np.isfinite(values).all() for values in self.found.values()
        )


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

    Attributes:
        evaluations: What was spent so far: ``draws`` sampled, and the ``forward``, ``vjp`` and
            ``jvp`` evaluations of networks that they and their maps took.

    Raises:
        ConfigError: If a method needs cross attention and the model has none.
    """

    def __init__(
        self, denoiser: Denoiser, spec: ScanSpec, *, baseline: tuple[str, Denoiser] | None = None,
        calibration: Calibration | None = None, batch_size: int = 16,
    ) -> None:  # fmt: skip
        self.evaluations: Counter[str] = Counter(draws=0, forward=0, vjp=0, jvp=0)
        self.denoiser, self.spec = Counted(denoiser, self.evaluations), spec
        self.baseline = None
        if baseline is not None:
            self.baseline = (baseline[0], Counted(baseline[1], self.evaluations))
        if methods.wants_attention(spec):
            attentive(self.denoiser)
        self.calibration, self.batch_size = calibration, batch_size
        self.denoiser_seconds = 0.0
        self._sigmas = denoiser.schedule(spec.steps).sigmas[: spec.steps]

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the score columns beyond the fixed ones."""
        named: tuple[str, ...] = ()
        if self.spec.localize != "none":
            asked = self.spec.maps
            named = tuple(name for name in ("delta_h", "curvature") if name in asked)
            if self.baseline is not None:
                pair = (name for name in ("delta_h", "delta_s") if name in asked)
                named += tuple(f"{name}_{self.baseline[0]}" for name in pair)
        return named + self.spec.detectors

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
        self.evaluations["draws"] += len(draws)
        found = {("delta_s", "null"): seen.delta_s.cpu().numpy()}
        found |= {name: m.cpu().numpy() for name, m in seen.maps.items()}
        scores = {name: values.tolist() for name, values in seen.scores.items()}
        return [
            _Sampled(
                draw, seen.point[i], seen.final[i], {name: m[i] for name, m in found.items()},
                {name: values[i] for name, values in scores.items()},
                None if seen.clean is None else seen.clean[i],
            )
            for i, draw in enumerate(draws)
        ]  # fmt: skip

    def _judge(self, sampled: list[_Sampled]) -> tuple[dict[str, _Verdict], set[str]]:
        """Return each caption's verdict over its seeds, and the captions without a finite score."""
        by_caption: dict[str, list[_Sampled]] = {}
        for item in sampled:
            by_caption.setdefault(item.draw.sha256, []).append(item)
        verdicts, broken = dict[str, _Verdict](), set[str]()
        for sha, items in by_caption.items():
            score = float(np.mean([_mean(item.found["delta_s", "null"]) for item in items]))
            if np.isfinite(score) and all(item.is_finite for item in items):
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
        draws = [item.draw for item in items]
        seen = self._together(items)
        found = self._timed(
            lambda: stages.localize(self.denoiser, self.baseline, draws, seen, self.spec)
        )
        arrays = {name: m.cpu().numpy() for name, m in found.maps.items()}
        scores = {name: values.tolist() for name, values in found.scores.items()}
        pictures = self.denoiser.decode(seen.final).numpy()
        broken = set[str]()
        for i, item in enumerate(items):
            item.found |= {name: m[i] for name, m in arrays.items()}
            item.extra |= {name: values[i] for name, values in scores.items()}
            item.picture, item.localized = pictures[i], True
            if not item.is_finite:
                broken.add(item.draw.sha256)
        return broken

    def _together(self, items: list[_Sampled]) -> stages.Detection:
        """Return draws as one batch again."""
        maps = {
            name: torch.from_numpy(np.stack([item.found[name] for item in items])).to(
                self.denoiser.device
            )
            for name in items[0].found
        }
        clean = [item.clean for item in items if item.clean is not None]
        return stages.Detection(
            torch.stack([item.point for item in items]),
            torch.stack([item.final for item in items]),
            maps.pop(("delta_s", "null")), maps=maps,
            clean=torch.stack(clean) if clean else None,
        )  # fmt: skip

    def _score_row(self, caption: Caption, verdict: _Verdict, item: _Sampled) -> ScoreRow:
        extra = dict(item.extra)
        for (metric, baseline), values in item.found.items():
            if metric in _MEANS and (metric, baseline) != ("delta_s", "null"):
                column = metric if baseline in ("null", "none") else f"{metric}_{baseline}"
                extra[column] = _mean(values)
        return ScoreRow(
            caption=caption, seed=item.draw.seed,
            stage="localize" if item.localized else "detect",
            delta_s=_mean(item.found["delta_s", "null"]), p_value=verdict.p_value,
            flagged=verdict.flagged, extra=extra,
        )  # fmt: skip

    def _mask_rows(self, caption: Caption, item: _Sampled) -> Iterator[MaskRow]:
        """Yield one row per map that was asked for.

        The Δh row comes first, or else the first one, and carries picture and evidence.
        """
        asked = [name for name in item.found if name[0] in self.spec.maps]
        order = sorted(asked, key=lambda name: name != ("delta_h", "null"))
        for number, (metric, baseline) in enumerate(order):
            values = item.found[metric, baseline]
            threshold = self._pixel_threshold(metric, baseline)
            mask = None if threshold is None else values > threshold
            found = self._evidence(caption, item, mask) if number == 0 else None
            picture = item.picture if number == 0 and self.spec.store_image else None
            yield MaskRow(
                caption=caption, seed=item.draw.seed, metric=metric, baseline=baseline,
                height=values.shape[0], width=values.shape[1], heatmap=masks.to_heatmap(values),
                sigma=self._sigmas[methods.LOW_NOISE if metric == "anisotropy" else -1],
                threshold=threshold,
                mask=None if mask is None else masks.to_runs(mask),
                area=None if mask is None else float(mask.mean()),
                image=None if picture is None else pictures.encode_jpeg(picture),
                match=None if found is None else found.verdict,
                match_mse=None if found is None else found.error,
                mse_inside=None if found is None else found.inside,
                mse_outside=None if found is None else found.outside,
            )  # fmt: skip

    def _pixel_threshold(self, metric: str, baseline: str) -> float | None:
        if self.spec.pixel_threshold is not None and metric == "delta_h":
            return self.spec.pixel_threshold
        if self.calibration is None:
            return None
        return self.calibration.pixel_thresholds.get(f"{metric}/{baseline}")

    def _evidence(
        self, caption: Caption, item: _Sampled, mask: NDArray[np.bool_] | None
    ) -> Match | None:
        if caption.image is None or item.picture is None:
            return None
        try:
            training = pictures.decoded(caption.image, item.picture.shape[:2])
        except ValueError:
            return Match("unreadable")
        return pictures.match(item.picture, training, mask)


def _mean(values: NDArray[np.float32]) -> float:
    return float(values.astype(np.float64).mean())

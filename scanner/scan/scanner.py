"""Captions to records: detect all, flag by calibration, localize what the spec asks for."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import TypeVar

import numpy as np
import torch

from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.models.base import Denoiser, HasLevels
from scanner.records import Caption, ChunkResult, Reject, RejectReason, ScoreRow
from scanner.scan import sources, stages
from scanner.scan.batches import BatchSize, CudaMemoryGauge
from scanner.scan.clock import Clock
from scanner.scan.evaluation_counter import EvaluationCounter
from scanner.scan.rows import Images, RowContext, Rows
from scanner.scan.stages import Draw
from scanner.scan.state import (
    CACHE_BYTES,
    RECENT_BYTES,
    CaptionVerdict,
    ChunkState,
    Cost,
    DrawState,
    FirstStep,
    Latents,
    ScoreCache,
    ScoringFailure,
)
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

D = TypeVar("D", Draw, DrawState)

Loaded = tuple[Denoiser, tuple[str, Denoiser] | None]
"""The model, and name and network of a less-trained baseline, if any."""

_NOT_FINITE = "a score was NaN or infinite"


@dataclass(frozen=True, slots=True)
class _Networks:
    """The networks that evaluate draws, with counters."""

    denoiser: EvaluationCounter
    baseline: tuple[str, EvaluationCounter] | None


class Scanner:
    """Scores captions with one model on one device.

    Noise and probes are keyed by caption and seed, and samples of a batch do not interact. A
    caption's row in another batch differs by the rounding of the network's kernels alone: in
    float32 a score by less than 2e-5 of itself (docs/performance.md). A caption that stands
    several times among the samples is scored once and fanned out; of samples that are scored at
    their image, one whose image is the same, too.

    A chunk goes through `detect`, `localize`, `finish` and `rows`; `scan` is all of them. Draws
    of several chunks may be localized together. All but `rows` must come from one thread.

    Args:
        denoiser: The model under audit.
        spec: What is asked.
        baseline: Name and network of a less-trained baseline, if any.
        calibration: Null distribution and pixel thresholds, if any.
        image_calibration: Null distribution of samples scored at their image, where the spec's
            source is ``auto``; ``calibration`` is of sampled captions then.
        batch_size: Draws at a time, changing speed and memory only; null finds it out.
        precise: Loads the same networks in float32, for captions whose numbers are not finite in
            the spec's precision. Without it, and where that is float32 already, they are
            rejected at once: the same networks would say the same again.

    Attributes:
        evaluations: What was spent so far: ``draws`` sampled, and the ``forward``, ``vjp`` and
            ``jvp`` evaluations of networks that they and their maps took.
        parts: Seconds of the device so far, by `scanner.scan.clock.PARTS`.
        sizes: The batch size of ``detect`` and of ``localize``.
        stopped: Set from any thread, it has the next evaluation raise `scanner.errors.Stopped`.

    Raises:
        ConfigError: If a method looks at what the model does not have, there is no such
            timestep, or images are to be scored without captions and without a baseline.
    """

    def __init__(
        self, denoiser: Denoiser, spec: ScanSpec, *, baseline: tuple[str, Denoiser] | None = None,
        calibration: Calibration | None = None, image_calibration: Calibration | None = None,
        batch_size: int | None = None, precise: Callable[[], Loaded] | None = None,
    ) -> None:  # fmt: skip
        self.evaluations: Counter[str] = Counter(draws=0, forward=0, vjp=0, jvp=0)
        self.spec, self.parts = spec, Counter[str]()
        self._clock, self.stopped = Clock(denoiser.device), Event()
        self._networks = self._counted(denoiser, baseline)
        if not spec.captions and baseline is None:
            raise ConfigError("images without captions are compared with a baseline network")
        registry.refuse_network(spec.computed, denoiser.has, "this model")
        gauge = CudaMemoryGauge() if denoiser.device.type == "cuda" else None
        self.sizes = {name: BatchSize(batch_size, gauge) for name in ("detect", "localize")}
        self._one = BatchSize(1, proven=True)
        self._load_precise = None if spec.dtype == "float32" else precise
        self._precise: _Networks | None = None
        self._kept, self._recent = ScoreCache(CACHE_BYTES), ScoreCache(RECENT_BYTES)
        self._picture_size = denoiser.picture_size
        of_images = image_calibration if spec.source == "auto" else calibration
        self._places = _places(denoiser, spec, calibration, of_images, baseline)
        reference = "null" if spec.captions or baseline is None else baseline[0]
        self._rows = Rows(spec, self._places, reference)

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the score columns beyond the fixed ones."""
        at_image = self.spec.source != "generated"
        named: tuple[str, ...] = ("snap_back",) if at_image else ()
        if self.spec.localize != "none":
            asked = self.spec.maps
            named += tuple(name for name in ("delta_h", "curvature") if name in asked)
            if (baseline := self._networks.baseline) is not None and self.spec.captions:
                pair = (name for name in ("delta_h", "delta_s") if name in asked)
                named += tuple(f"{name}_{baseline[0]}" for name in pair)
                named += (f"snap_back_{baseline[0]}",) if at_image else ()
        return named + self.spec.detectors + (("increment_z",) if self._has_increments else ())

    @property
    def _of_samples(self) -> Calibration | None:
        """The calibration of sampled captions, if there is one."""
        return self._places[False].calibration if False in self._places else None

    @property
    def _has_increments(self) -> bool:
        """Whether steps are compared with what a calibration says of them."""
        known = self._of_samples is not None and self._of_samples.increments
        return "increment" in self.spec.detectors and bool(known)

    def scan(self, captions: Sequence[Caption]) -> ChunkResult:
        """Score captions; localize those that the spec asks for.

        Returns:
            One score row per (caption, seed), one mask row per map, and a reject for every
            sample whose scores are not finite or do not fit into memory.
        """
        items = [self.draws_of(caption) for caption in captions]
        work = self.detect([item for item in items if isinstance(item, Caption)])
        self.localize(work.waiting)
        self.finish(work)
        result = self.rows(work)
        result.rejects += [item for item in items if isinstance(item, Reject)]
        return result

    def draws_of(self, caption: Caption) -> Caption | Reject:
        """Return a sample as `detect` takes it, or why it cannot be scored; needs no device.

        Args:
            caption: With its image, if images are scored and it has one.
        """
        return sources.draws_of(caption, self.spec.source, self._picture_size)

    def detect(
        self, captions: Sequence[Caption], known: Mapping[str, Sequence[ScoreRow]] | None = None
    ) -> ChunkState:
        """Sample captions and judge them; what is to be localized waits in the result.

        Args:
            captions: A chunk's.
            known: Rows of captions that were scored before with this model and the settings that
                decide scores, by hash, one row per seed. Verdicts are this scan's own. A caption
                that is to be localized is sampled again all the same.
        """
        start, work, fresh = time.perf_counter(), ChunkState.of(captions), list[Draw]()
        first = {caption.identity: caption for caption in reversed(work.captions)}
        for sha, caption in first.items():
            verdict = self._kept.get(sha) or self._recent.get(sha)
            if verdict is None:
                verdict = self._cached_scores((known or {}).get(sha, ()))
            if verdict is not None:
                work.verdicts[sha] = verdict
                work.cached.add(sha)
            else:
                at_image = caption.image_sha256 is not None
                fresh += [Draw(caption.text, sha, seed, at_image) for seed in self.spec.seeds]
        sampled = self._sampled(work, self._screened(work, fresh, first))
        work.first.clear()
        for sha, items in sampled.items():
            if all(item.is_finite for item in items):
                self._set_verdict(work, first[sha], items)
            else:
                self._rescore(work, [item.draw for item in items])
        work.cost.seconds += time.perf_counter() - start
        return work

    def localize(self, items: Sequence[DrawState]) -> None:
        """Add maps and pictures to draws, of whatever chunks; note on each that failed why."""
        for alike in _of_one_size(items):
            refused = self.sizes["localize"].each(alike, self._localize_shared, self._drop_cache)
            for item, said in refused:
                item.failure, item.latents = _too_large(item, said), None

    def finish(self, work: ChunkState) -> None:
        """Close a chunk whose draws are all localized, before its rows are made."""
        start = time.perf_counter()
        for sha in {item.draw.identity: None for item in work.waiting}:
            verdict = work.verdicts.pop(sha)
            faults = [item.failure for item in verdict.draws if item.failure is not None]
            if not faults:
                work.verdicts[sha] = verdict
                self._kept.add(sha, verdict)
            elif all(fault.reason == RejectReason.NOT_FINITE for fault in faults):
                self._rescore(work, [item.draw for item in verdict.draws])
            else:
                work.failures[sha] = next(f for f in faults if f.reason != RejectReason.NOT_FINITE)
        work.pictures.clear()
        work.cost.seconds += time.perf_counter() - start

    def rows(self, work: ChunkState, images: Images | None = None) -> ChunkResult:
        """Return a finished chunk's rows and rejects; needs no device.

        Args:
            work: The chunk.
            images: Where training images come from, one at a time; null takes the captions' own.
        """
        return self._rows.of(work, images)

    def _counted(self, denoiser: Denoiser, baseline: tuple[str, Denoiser] | None) -> _Networks:
        def counted(network: Denoiser) -> EvaluationCounter:
            return EvaluationCounter(network, self.evaluations, self._clock, self.stopped)

        return _Networks(counted(denoiser), baseline and (baseline[0], counted(baseline[1])))

    def _cached_scores(self, rows: Sequence[ScoreRow]) -> CaptionVerdict | None:
        """Return today's verdict on rows of another day; null if they do not do for today."""
        by_seed, columns = {row.seed: row for row in rows}, self._columns_of_detection()
        own = [by_seed[seed] for seed in self.spec.seeds if seed in by_seed]
        if self.spec.screen is not None:
            norms = {row.seed: row.screen for row in own if row.screen is not None}
            if len(norms) < len(self.spec.seeds):
                return None
            if float(np.mean(list(norms.values()))) < self.spec.screen:
                return self._clean_images(own[0].caption, norms)
        scores = [row.delta_s for row in own if row.delta_s is not None]
        if len(scores) < len(self.spec.seeds) or any(columns - set(row.extra) for row in own):
            return None
        if "increment" in columns and any(row.increments is None for row in own):
            return None
        null, screens = self._of_samples, self.spec.screen is not None
        verdict = CaptionVerdict(*self._flag(scores, null))
        if self._is_to_localize(verdict):
            return None
        verdict.rows = [
            replace(
                row, stage="detect", screen=row.screen if screens else None,
                p_value=verdict.p_value, p_kind=verdict.p_kind, flagged=verdict.flagged,
                seed_p_value=None if null is None or row.delta_s is None
                else null.seed_p_value(row.seed, row.delta_s),
                extra={n: row.extra[n] for n in sorted(columns)}
                | self._non_finite(row.increments),
                increments=row.increments if "increment" in columns else None,
            )
            for row in own
        ]  # fmt: skip
        return verdict

    def _non_finite(self, increments: Sequence[float] | None) -> dict[str, float]:
        """Return the column that compares steps with a calibration's, if there is one."""
        null = self._of_samples
        if increments is None or null is None or not self._has_increments:
            return {}
        return {"increment_z": null.increment_z(increments)}

    def _screened(
        self, work: ChunkState, draws: list[Draw], captions: Mapping[str, Caption]
    ) -> list[Draw]:
        """Return the draws that go on; captions that the first steps call clean get their rows."""
        screen = self.spec.screen
        if screen is None:
            return draws
        looked = [draw for draw in draws if not draw.at_image]
        refused = self.sizes["detect"].each(
            looked, lambda batch: self._begin(batch, work), self._drop_cache
        )
        for draw, said in refused:
            work.failures[draw.identity] = ScoringFailure(
                RejectReason.OUT_OF_MEMORY, f"not even one draw fits: {said}"
            )
        norms: dict[str, dict[int, float]] = {}
        for draw, first in work.first.items():
            norms.setdefault(draw.identity, {})[draw.seed] = first.norm
        for sha, by_seed in norms.items():
            if sha not in work.failures and float(np.mean(list(by_seed.values()))) < screen:
                work.verdicts[sha] = verdict = self._clean_images(captions[sha], by_seed)
                self._recent.add(sha, verdict)
        done = work.verdicts.keys() | work.failures.keys()
        work.first = {
            draw: first for draw, first in work.first.items() if draw.identity not in done
        }
        return [draw for draw in draws if draw.identity not in done]

    def _clean_images(self, caption: Caption, norms: Mapping[int, float]) -> CaptionVerdict:
        """Return the verdict on a caption that is dropped: its p-value is 1."""
        calibrated = self._of_samples is not None
        p_value, p_kind = (1.0, "screen") if calibrated else (None, None)
        flagged = False if calibrated or self.spec.threshold is not None else None
        asked = "wen_first" in self.spec.detectors
        rows = [
            ScoreRow(
                caption=caption, seed=seed, stage="screen", screen=norm, delta_s=None,
                p_value=p_value, p_kind=p_kind, flagged=flagged,
                extra={"wen_first": norm} if asked else {},
            )
            for seed, norm in norms.items()
        ]  # fmt: skip
        return CaptionVerdict(p_value, p_kind, flagged, rows=rows)

    def _begin(self, draws: list[Draw], work: ChunkState) -> None:
        before = self._earlier_verdict()
        denoiser, spec = self._networks.denoiser, self._places[False].spec
        begun = stages.first_step(denoiser, draws, spec)
        norms = begun.norm.tolist()
        self._charge([work.cost], before)
        pairs = zip(begun.conditional, begun.unconditional, norms, strict=True)
        work.first |= {draw: FirstStep(*first) for draw, first in zip(draws, pairs, strict=True)}

    def _columns_of_detection(self) -> set[str]:
        return set(self.spec.detectors) - set(self.spec.late)

    def _sampled(self, work: ChunkState, draws: list[Draw]) -> dict[str, list[DrawState]]:
        """Sample draws; return them by caption, without the captions that do not fit."""
        items = list[DrawState]()
        for alike in _of_one_size(draws):
            refused = self.sizes["detect"].each(
                alike,
                lambda batch: items.extend(self._detect(self._networks, batch, work)),
                self._drop_cache,
            )
            for draw, said in refused:
                work.failures[draw.identity] = ScoringFailure(
                    RejectReason.OUT_OF_MEMORY, f"not even one draw fits: {said}"
                )
        by_caption: dict[str, list[DrawState]] = {}
        for item in items:
            if item.draw.identity not in work.failures:
                by_caption.setdefault(item.draw.identity, []).append(item)
        return by_caption

    def _verdict(self, items: list[DrawState]) -> CaptionVerdict:
        null = self._places[items[0].draw.at_image].calibration
        scores = [item.delta_s for item in items]
        snaps = [item.extra["snap_back"] for item in items if item.draw.at_image]
        return CaptionVerdict(*self._flag(scores, null, snaps), draws=items)

    def _flag(
        self, scores: Sequence[float], null: Calibration | None, snaps: Sequence[float] = ()
    ) -> tuple[float | None, str | None, bool | None]:
        """Return p-value, its kind, and flag of a caption from its seeds' scores and snap-backs.

        Under a false-discovery rate the flag says whether the caption can still pass: no cut-off
        exceeds the rate.
        """
        score = float(np.mean(scores))
        above = None if self.spec.threshold is None else score > self.spec.threshold
        if null is None:
            return None, None, above
        p_value = null.p_value(score, float(np.mean(snaps)) if snaps else None)
        flagged = p_value <= self.spec.candidate_rate if above is None else above
        return p_value, "conformal", flagged

    def _is_to_localize(self, verdict: CaptionVerdict) -> bool:
        return self.spec.localize == "all" or (
            self.spec.localize == "flagged" and bool(verdict.flagged)
        )

    def _set_verdict(self, work: ChunkState, caption: Caption, items: list[DrawState]) -> None:
        """Let draws wait for their maps, or make their rows and forget the rest."""
        sha = items[0].draw.identity
        verdict = work.verdicts[sha] = self._verdict(items)
        if self._is_to_localize(verdict):
            work.waiting += items
        else:
            verdict.rows = list(self._rows.scores(caption, verdict))
            verdict.draws = []
            self._recent.add(sha, verdict)

    def _rescore(self, work: ChunkState, draws: list[Draw]) -> None:
        """Do a caption again in float32, alone; reject it if that gives no number either."""
        sha = draws[0].identity
        if self._load_precise is None:
            work.failures[sha] = ScoringFailure(RejectReason.NOT_FINITE, _NOT_FINITE)
            return
        items = list[DrawState]()

        def detect(batch: list[Draw]) -> None:
            items.extend(self._detect(self._in_float32(), batch, work))

        def localize(batch: list[DrawState]) -> None:
            self._localize(self._in_float32(), batch)

        said = [text for _, text in self._one.each(draws, detect, self._drop_cache)]
        if not said and all(item.is_finite for item in items):
            verdict = self._verdict(items)
            if self._is_to_localize(verdict):
                said = [text for _, text in self._one.each(items, localize, self._drop_cache)]
            if not said and all(item.is_finite for item in items):
                work.verdicts[sha] = verdict
                work.rescored.add(sha)
                return
        more = f", which does not fit into memory ({said[0]})" if said else " too"
        work.failures[sha] = ScoringFailure(
            RejectReason.NOT_FINITE, f"{_NOT_FINITE} in {self.spec.dtype}, and in float32{more}"
        )

    def _in_float32(self) -> _Networks:
        """Return the networks in float32, which stay until memory is short."""
        if self._precise is None:
            if self._load_precise is None:
                raise ValueError("there is nothing to load float32 networks with")
            self._precise = self._counted(*self._load_precise())
        return self._precise

    def _drop_cache(self) -> None:
        """Give back what can be loaded again."""
        self._precise = None

    def _earlier_verdict(self) -> Counter[str]:
        """Return the evaluations so far, at the begin of a batch; one that failed is not timed."""
        self._clock.drop()
        return self.evaluations.copy()

    def _charge(self, costs: Sequence[Cost], before: Mapping[str, int]) -> None:
        """Charge a batch to its draws' chunks alike, when the device is through with it."""
        parts, spent = self._clock.collect(), _difference(self.evaluations, before)
        self.parts.update(parts)
        for cost in costs:
            cost.parts.update({name: seconds / len(costs) for name, seconds in parts.items()})
            cost.evaluations.update({name: n // len(costs) for name, n in spent.items()})

    def _detect(self, networks: _Networks, draws: list[Draw], work: ChunkState) -> list[DrawState]:
        before, cost = self._earlier_verdict(), work.cost
        seen = self._store_detection(networks, draws, work)
        self.evaluations["draws"] += len(draws)
        found = {("delta_s", "null"): seen.delta_s.cpu().numpy()}
        found |= {name: m.cpu().numpy() for name, m in seen.maps.items()}
        scores = {name: values.tolist() for name, values in seen.scores.items()}
        clean = [None] * len(draws) if seen.clean is None else list(seen.clean)
        steps = [None] * len(draws)
        if (path := seen.paths.get("increment")) is not None:
            steps = [tuple(own) for own in path.tolist()]
        self._charge([cost], before)
        return [
            DrawState(
                draw, {name: m[i] for name, m in found.items()},
                {name: values[i] for name, values in scores.items()} | self._non_finite(steps[i]),
                Latents(seen.point[i], seen.final[i], clean[i]), cost, increments=steps[i],
                screen=work.first[draw].norm if draw in work.first else None,
            )
            for i, draw in enumerate(draws)
        ]  # fmt: skip

    def _store_detection(
        self, networks: _Networks, draws: list[Draw], work: ChunkState
    ) -> stages.Detection:
        """Sample draws, or look at their images; all of a batch are of one source."""
        at_image = draws[0].at_image
        spec = self._places[at_image].spec
        if not at_image:
            return stages.detect(networks.denoiser, draws, spec, _together_again(draws, work))
        own = {draw.identity: torch.tensor(work.pictures[draw.identity]) for draw in draws}
        return stages.detect_image(networks.denoiser, draws, own, spec, networks.baseline)

    def _localize_shared(self, items: list[DrawState]) -> None:
        start = time.perf_counter()
        self._localize(self._networks, items)
        for item in items:
            item.cost.seconds += (time.perf_counter() - start) / len(items)

    def _localize(self, networks: _Networks, items: list[DrawState]) -> None:
        before = self._earlier_verdict()
        draws, seen = [item.draw for item in items], self._localize_batch(networks, items)
        spec = self._places[draws[0].at_image].spec
        found = stages.localize(networks.denoiser, networks.baseline, draws, seen, spec)
        arrays = {name: m.cpu().numpy() for name, m in found.maps.items()}
        scores = {name: values.tolist() for name, values in found.scores.items()}
        # One at a time: an autoencoder takes more memory than the denoiser does.
        pictures = [
            None if item.draw.at_image else networks.denoiser.decode(latent).numpy()[0]
            for item, latent in zip(items, seen.final.split(1), strict=True)
        ]
        for i, item in enumerate(items):
            item.scores |= {name: m[i] for name, m in arrays.items()}
            item.extra |= {name: values[i] for name, values in scores.items()}
            item.picture, item.localized, item.latents = pictures[i], True, None
            if not item.is_finite:
                item.failure = ScoringFailure(RejectReason.NOT_FINITE, _NOT_FINITE)
        self._charge([item.cost for item in items], before)

    def _localize_batch(self, networks: _Networks, items: list[DrawState]) -> stages.Detection:
        """Return draws as one batch again."""
        maps = {
            name: torch.from_numpy(np.stack([item.scores[name] for item in items])).to(
                networks.denoiser.device
            )
            for name in items[0].scores
        }
        latents = [item.latents for item in items if item.latents is not None]
        clean = [latent.clean for latent in latents if latent.clean is not None]
        return stages.Detection(
            torch.stack([latent.point for latent in latents]),
            torch.stack([latent.final for latent in latents]),
            maps.pop(("delta_s", "null")), maps=maps,
            clean=torch.stack(clean) if clean else None,
        )  # fmt: skip


def _together_again(draws: list[Draw], work: ChunkState) -> stages.FirstEvaluation | None:
    """Return the first steps of draws as one batch, if all of them were looked at."""
    first = [work.first[draw] for draw in draws if draw in work.first]
    if len(first) < len(draws):
        return None
    return stages.FirstEvaluation(
        torch.stack([one.conditional for one in first]),
        torch.stack([one.unconditional for one in first]),
        torch.tensor([one.norm for one in first]),
    )


def _places(
    denoiser: Denoiser, spec: ScanSpec, calibration: Calibration | None,
    of_images: Calibration | None, baseline: tuple[str, Denoiser] | None,
) -> dict[bool, RowContext]:  # fmt: skip
    """Return what belongs to sampled captions and to images, of those that the spec has.

    Raises:
        ConfigError: If the model has no such timestep, or there is no signal, or the baseline
            was not trained there.
    """
    found: dict[bool, RowContext] = {}
    if spec.source != "image":
        schedule, own = denoiser.schedule(spec.steps), spec.only("generated")
        if schedule.alphas[0] == 0:
            own.refuse_blind_start(flow=bool(schedule.flow))
        _refuse_level(baseline, schedule.alphas[-2 - spec.map_back])
        found[False] = RowContext(own, calibration, schedule.sigmas[: spec.steps])
    if spec.source != "generated":
        try:
            schedule = denoiser.single(spec.timestep)
        except ValueError as error:
            raise ConfigError(f"this model cannot look at images there: {error}") from error
        if schedule.alphas[0] == 0:
            raise ConfigError(f"timestep {spec.timestep} of this model holds no signal")
        _refuse_level(baseline, schedule.alphas[0])
        found[True] = RowContext(spec.only("image"), of_images, schedule.sigmas[:1])
    return found


def _refuse_level(baseline: tuple[str, Denoiser] | None, alpha: float) -> None:
    """Refuse a baseline that was not trained at a level where it is to be evaluated.

    Raises:
        ConfigError: If it was not.
    """
    if baseline is not None and isinstance(baseline[1], HasLevels):
        baseline[1].refuse_level(alpha)


def _of_one_size(items: Sequence[D]) -> list[list[D]]:
    """Return draws apart by their source, for they do not share a batch."""
    parts = [[item for item in items if _at_image(item) == at_image] for at_image in (False, True)]
    return [part for part in parts if part]


def _at_image(item: "Draw | DrawState") -> bool:
    return item.at_image if isinstance(item, Draw) else item.draw.at_image


def _difference(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: n - before[name] for name, n in now.items()}


def _too_large(item: DrawState, said: str) -> ScoringFailure:
    """Return the failure of a draw whose maps do not fit; the message includes the score."""
    return ScoringFailure(
        RejectReason.OUT_OF_MEMORY,
        f"it is to be localized (delta_s {item.delta_s:.6g} under seed {item.draw.seed}), and "
        f"its maps do not fit into memory even alone: {said}",
    )

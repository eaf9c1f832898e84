"""Captions to records: detect all, flag by calibration, localize what the spec asks for."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.models.base import ChecksCaptions, Compiles, Denoiser, Spread
from scanner.records import Caption, ChunkResult, Reject, RejectReason, ScoreRow
from scanner.scan import sources
from scanner.scan.accounting import Accounting
from scanner.scan.batches import BatchSize, gauge_of
from scanner.scan.columns import extra_columns
from scanner.scan.contexts import contexts_of
from scanner.scan.detection import DetectionRunner
from scanner.scan.flag_score import no_such_baseline, refuse_uncalibrated
from scanner.scan.float32_retry import Float32Retry
from scanner.scan.localization import LocalizationRunner
from scanner.scan.networks import Float32Networks, Loaded, Networks
from scanner.scan.profiling import BatchProfiler
from scanner.scan.rows import Images, Rows
from scanner.scan.screen import Screen
from scanner.scan.stages.draws import Draw
from scanner.scan.state import CaptionVerdict, ChunkState, DrawState
from scanner.scan.verdict_cache import CACHE_BYTES, RECENT_BYTES, VerdictCache
from scanner.scan.verdicts import Verdicts
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

NO_BASELINES: Mapping[str, Denoiser] = MappingProxyType({})


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
        baselines: Networks of baselines beside the unconditional branch, by name.
        calibration: Null distribution and pixel thresholds, if any.
        image_calibration: Null distribution of samples scored at their image, where the spec's
            source is ``auto``; ``calibration`` is of sampled captions then.
        batch_size: Draws at a time, changing speed and memory only; null finds it out.
        precise: Loads the same networks in float32, for captions whose numbers are not finite in
            the spec's precision. Without it, and where that is float32 already, they are
            rejected at once: the same networks would say the same again.
        in_powers: Whether batch sizes that it finds are powers of two.

    Attributes:
        evaluations: What was spent so far: ``draws`` sampled, and the ``forward``, ``vjp`` and
            ``jvp`` evaluations of networks that they and their maps took.
        parts: Seconds of the device so far, by `scanner.scan.clock.PARTS`.
        extra_columns: Names of the score columns beyond the fixed ones.
        sizes: The batch size of ``detect`` and of ``localize``.
        activity: Returns what the device is at, from any thread.
        stopped: Set from any thread, it has the next evaluation raise `scanner.errors.Stopped`.

    Raises:
        ConfigError: If a method looks at what the model does not have, there is no such
            timestep, or images are to be scored without captions and not with one baseline, or
            what flags is of none of the baselines, or has no null scores.
    """

    def __init__(
        self, denoiser: Denoiser, spec: ScanSpec, *,
        baselines: Mapping[str, Denoiser] = NO_BASELINES,
        calibration: Calibration | None = None, image_calibration: Calibration | None = None,
        batch_size: int | None = None, precise: Callable[[], Loaded] | None = None,
        in_powers: bool = False,
    ) -> None:  # fmt: skip
        if not spec.captions and len(baselines) != 1:
            raise ConfigError("images without captions are compared with one baseline network")
        if spec.flag_baseline is not None and spec.flag_baseline not in baselines:
            raise ConfigError(no_such_baseline(spec.flag_by, tuple(baselines)))
        refuse_uncalibrated(spec, is_calibrated=calibration is not None)
        calibration, image_calibration = (
            one and one.of_score(spec.flag_by) for one in (calibration, image_calibration)
        )
        for one in (calibration, image_calibration):
            if one is not None and spec.p_values == "kind":
                one.check_kinds(spec.flag_by)
        registry.refuse_network(spec.computed, denoiser.has, "this model")
        contexts = contexts_of(denoiser, spec, calibration, image_calibration, baselines.values())
        accounting = self._accounting = Accounting(denoiser.device)
        self.spec, self.network, self._picture_size = spec, denoiser, denoiser.picture_size
        self._refusal = denoiser.refusal if isinstance(denoiser, ChecksCaptions) else None
        self.evaluations, self.parts = accounting.evaluations, accounting.parts
        self.stopped, self.activity = accounting.stopped, accounting.activity
        gauge = gauge_of(denoiser.devices if isinstance(denoiser, Spread) else [denoiser.device])
        self.sizes = {
            name: BatchSize(batch_size, gauge, in_powers=in_powers)
            for name in ("detect", "localize")
        }

        networks = Networks.counted((denoiser, baselines), accounting)
        float32 = Float32Networks(None if spec.dtype == "float32" else precise, accounting)
        self._localized, self._recent = VerdictCache(CACHE_BYTES), VerdictCache(RECENT_BYTES)
        self._verdicts = Verdicts(spec, contexts)
        shared = networks, contexts, accounting, float32.drop
        self._screen = Screen(*shared, self.sizes["detect"], spec.screen, self._verdicts)
        self._detection = DetectionRunner(*shared, self.sizes["detect"])
        self._localization = LocalizationRunner(*shared, self.sizes["localize"])
        self._retry = Float32Retry(
            spec.dtype, float32, self._detection, self._localization, self._verdicts
        )
        self.extra_columns = extra_columns(spec, tuple(baselines), contexts.sampled_calibration)
        self._rows = Rows(spec, contexts, "null" if spec.captions else next(iter(baselines)))

    @property
    def not_compiled(self) -> str:
        """Why the network is not compiled, if that was asked for, or ``""``."""
        network = self.network
        return network.not_compiled if isinstance(network, Compiles) else "the model has no network"

    @property
    def checkpointed(self) -> bool:
        """Whether maps are taken in less memory and more time, as one draw's did not fit."""
        return self._localization.checkpointed

    def profile(self) -> BatchProfiler:
        """Have a few of the batches to come recorded, and return what records them."""
        self._accounting.profiler = found = BatchProfiler(self.network.device)
        return found

    def scan(self, captions: Sequence[Caption]) -> ChunkResult:
        """Score captions; localize those that the spec asks for.

        Returns:
            One score row per (caption, seed), one mask row per map, and a reject for every
            sample whose scores are not finite or do not fit into memory.
        """
        items = [self.prepare(caption) for caption in captions]
        chunk = self.detect([item for item in items if isinstance(item, Caption)])
        self.localize(chunk.waiting)
        self.finish(chunk)
        result = self.rows(chunk)
        result.rejects += [item for item in items if isinstance(item, Reject)]
        return result

    def prepare(self, caption: Caption) -> Caption | Reject:
        """Return a sample as `detect` takes it, or why it cannot be scored; needs no device.

        Args:
            caption: With its image, if images are scored and it has one.
        """
        if self.spec.captions and self._refusal and (why := self._refusal(caption.text)):
            reason, sha = RejectReason.NO_CLASS, caption.sha256
            return Reject(caption.shard, caption.key, reason, why, sha)
        return sources.prepared(caption, self.spec.source, self._picture_size)

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
        start, chunk, fresh = time.perf_counter(), ChunkState.of(captions), list[Draw]()
        first = {caption.identity: caption for caption in reversed(chunk.captions)}
        for sha, caption in first.items():
            verdict = self._known_verdict(sha, (known or {}).get(sha, ()))
            if verdict is not None:
                chunk.verdicts[sha] = verdict
                chunk.cached.add(sha)
            else:
                at_image = caption.image_sha256 is not None
                fresh += [Draw(caption.text, sha, seed, at_image) for seed in self.spec.seeds]
        self._detection.look_ahead(chunk, fresh)
        detected = self._detection.detect(chunk, self._not_screened_out(chunk, fresh, first))
        chunk.first.clear()
        for sha, items in detected.items():
            if all(item.is_finite for item in items):
                self._judge(chunk, first[sha], items)
            else:
                self._retry.rescore(chunk, [item.draw for item in items])
        chunk.cost.seconds += time.perf_counter() - start
        return chunk

    def localize(self, items: Sequence[DrawState]) -> None:
        """Add maps and pictures to draws, of whatever chunks; note on each that failed why."""
        self._localization.localize(items)

    def finish(self, chunk: ChunkState) -> None:
        """Close a chunk whose draws are all localized, before its rows are made."""
        start = time.perf_counter()
        for sha in {item.draw.identity: None for item in chunk.waiting}:
            verdict = chunk.verdicts.pop(sha)
            failures = [item.failure for item in verdict.draws if item.failure is not None]
            lasting = [one for one in failures if one.reason != RejectReason.NOT_FINITE]
            if lasting:
                chunk.failures[sha] = lasting[0]
            elif failures:
                self._retry.rescore(chunk, [item.draw for item in verdict.draws])
            else:
                chunk.verdicts[sha] = verdict
                self._localized.add(sha, verdict)
        chunk.pictures.clear()
        chunk.cost.seconds += time.perf_counter() - start

    def rows(self, chunk: ChunkState, images: Images | None = None) -> ChunkResult:
        """Return a finished chunk's rows and rejects; needs no device.

        Args:
            chunk: Finished.
            images: Where training images come from, one at a time; null takes the captions' own.
        """
        return self._rows.of(chunk, images)

    def _known_verdict(self, sha: str, rows: Sequence[ScoreRow]) -> CaptionVerdict | None:
        """Return the verdict on a caption that was scored before, by this process or another."""
        kept = self._localized.get(sha) or self._recent.get(sha)
        return self._verdicts.of_earlier_rows(rows) if kept is None else kept

    def _not_screened_out(
        self, chunk: ChunkState, draws: list[Draw], captions: Mapping[str, Caption]
    ) -> list[Draw]:
        """Return the draws to detect; what the screen drops has its verdict or failure."""
        for sha, verdict in self._screen.drop_clean(chunk, draws, captions).items():
            self._recent.add(sha, verdict)
        done = chunk.verdicts.keys() | chunk.failures.keys()
        return [draw for draw in draws if draw.identity not in done]

    def _judge(self, chunk: ChunkState, caption: Caption, items: list[DrawState]) -> None:
        """Let a caption's draws wait for their maps, or make their rows and forget the rest."""
        sha = caption.identity
        verdict = chunk.verdicts[sha] = self._verdicts.of_draws(items)
        if self._verdicts.is_to_localize(verdict):
            chunk.waiting += items
        else:
            verdict.rows = list(self._rows.scores(caption, verdict))
            verdict.draws = []
            self._recent.add(sha, verdict)

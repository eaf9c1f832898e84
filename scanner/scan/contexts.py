"""Settings and calibrations of sampled captions and of images, each with its own."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from scanner.errors import ConfigError
from scanner.models.base import Denoiser, HasLevels
from scanner.scan.stages.draws import Draw
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration


@dataclass(frozen=True, slots=True)
class SourceContext:
    """Context of one source of scores.

    Attributes:
        spec: What is asked there.
        calibration: P-values and pixel thresholds, if any.
        sigmas: Noise scales of the steps.
    """

    spec: ScanSpec
    calibration: Calibration | None
    sigmas: Sequence[float]


@dataclass(frozen=True, slots=True)
class SourceContexts:
    """The contexts of the sources that a spec has; null of one that it does not have.

    Attributes:
        sampled: Of captions that are sampled.
        image: Of samples that are scored at their image.
    """

    sampled: SourceContext | None
    image: SourceContext | None

    def of(self, draw: Draw) -> SourceContext:
        """Return a draw's own.

        Raises:
            ValueError: If the spec does not have the draw's source.
        """
        own = self.image if draw.at_image else self.sampled
        if own is None:
            raise ValueError("the spec does not have this draw's source")
        return own

    @property
    def sampled_calibration(self) -> Calibration | None:
        """The calibration of sampled captions, if there is one."""
        return None if self.sampled is None else self.sampled.calibration

    def novelty(self, text: str) -> float | None:
        """Return how unlike the null captions a caption is; null where their words are unknown."""
        for context in (self.sampled, self.image):
            if context is not None and context.spec.captions and context.calibration is not None:
                words = context.calibration.words
                return None if words is None else words.novelty(text)
        return None


def contexts_of(
    denoiser: Denoiser, spec: ScanSpec, calibration: Calibration | None,
    image_calibration: Calibration | None, baselines: Collection[Denoiser],
) -> SourceContexts:  # fmt: skip
    """Return the contexts of the sources that a spec has.

    Args:
        denoiser: The model.
        spec: What is asked.
        calibration: Of sampled captions, if there is one; of images, where the spec has no other
            source.
        image_calibration: Of images, where the spec has both sources.
        baselines: Networks of the baselines.

    Raises:
        ConfigError: If the model has no such timestep, or there is no signal, or a baseline
            was not trained there.
    """
    sampled = image = None
    if spec.source != "image":
        schedule, own = denoiser.schedule(spec.steps), spec.only("generated")
        if schedule.alphas[0] == 0:
            own.refuse_blind_start(flow=bool(schedule.flow))
        _refuse_level(baselines, schedule.alphas[-2 - spec.map_back])
        sampled = SourceContext(own, calibration, schedule.sigmas[: spec.steps])
    if spec.source != "generated":
        try:
            schedule = denoiser.single(spec.timestep)
        except ValueError as error:
            raise ConfigError(f"this model cannot look at images there: {error}") from error
        if schedule.alphas[0] == 0:
            raise ConfigError(f"timestep {spec.timestep} of this model holds no signal")
        _refuse_level(baselines, schedule.alphas[0])
        null = image_calibration if spec.source == "auto" else calibration
        image = SourceContext(spec.only("image"), null, schedule.sigmas[:1])
    return SourceContexts(sampled, image)


def _refuse_level(baselines: Collection[Denoiser], alpha: float) -> None:
    """Refuse baselines that were not trained at a level where they are to be evaluated.

    Raises:
        ConfigError: If one was not.
    """
    for baseline in baselines:
        if isinstance(baseline, HasLevels):
            baseline.refuse_level(alpha)

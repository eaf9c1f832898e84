"""A chunk on its way through the stages: its captions, draws and verdicts."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scanner.records import Caption, ScoreRow
from scanner.scan.failures import ScoringFailure
from scanner.scan.stages.draws import Draw


@dataclass(slots=True)
class Cost:
    """Cost of a chunk; a shared batch is charged by the share of its draws.

    Attributes:
        seconds: Time of the device's thread.
        parts: Of that, by `scanner.scan.clock.PARTS`, and ``waiting`` for the chunk.
        evaluations: ``draws``, ``forward``, ``vjp`` and ``jvp``.
    """

    seconds: float = 0.0
    parts: Counter[str] = field(default_factory=Counter)
    evaluations: Counter[str] = field(
        default_factory=lambda: Counter(draws=0, forward=0, vjp=0, jvp=0)
    )


@dataclass(frozen=True, slots=True)
class Latents:
    """A draw's latents, ``(C, H, W)`` each, as in `scanner.scan.stages.detection.Detection`."""

    point: Tensor
    final: Tensor
    clean: Tensor | None


@dataclass(frozen=True, slots=True)
class FirstStep:
    """One draw of a `scanner.scan.stages.first_step.FirstEvaluation`."""

    conditional: Tensor
    unconditional: Tensor
    norm: float


@dataclass(slots=True, eq=False)
class DrawState:
    """One draw, after detection, and after localization if it got there.

    Attributes:
        draw: What was drawn.
        maps: Maps by (metric, baseline), ``(H, W)``.
        extra: Further scores by name.
        latents: Until the draw is localized, or is known not to be.
        cost: Of the chunk that it is charged to.
        screen: Norm of its first step, where that was looked at before it was sampled.
        picture: The generated picture.
        failure: Why localization gave nothing.
        localized: Whether it has its maps.
        increments: Length of each of the sampler's steps, where it was asked for.
        errors: Standard errors of maps' pixels by (metric, baseline), ``(H, W)``, where rounds of
            products tell them.
        products: Of a branch behind its maps; null without any.
    """

    draw: Draw
    maps: dict[tuple[str, str], NDArray[np.float32]]
    extra: dict[str, float]
    latents: Latents | None
    cost: Cost
    screen: float | None = None
    picture: NDArray[np.uint8] | None = None
    failure: ScoringFailure | None = None
    localized: bool = False
    increments: tuple[float, ...] | None = None
    errors: dict[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)
    products: int | None = None
    _mean: tuple[NDArray[np.float32], float] | None = field(default=None, init=False, repr=False)

    @property
    def at_image(self) -> bool:
        """Whether it is the image that is scored."""
        return self.draw.at_image

    @property
    def is_finite(self) -> bool:
        """Whether every number so far is one."""
        means = (
            self.delta_s if n == ("delta_s", "null") else mean(m) for n, m in self.maps.items()
        )
        return all(map(math.isfinite, self.extra.values())) and all(map(math.isfinite, means))

    @property
    def delta_s(self) -> float:
        """The mean of the map against the unconditional branch."""
        values = self.maps["delta_s", "null"]
        if self._mean is None or self._mean[0] is not values:
            self._mean = values, mean(values)
        return self._mean[1]

    @property
    def bytes(self) -> int:
        """Bytes of the maps and the picture."""
        arrays = [*self.maps.values(), *([] if self.picture is None else [self.picture])]
        return sum(array.nbytes for array in arrays)


@dataclass(slots=True, eq=False)
class CaptionVerdict:
    """Result of one caption over its seeds.

    Attributes:
        p_value: Null without a calibration.
        p_kind: Where it comes from: ``conformal`` or ``screen``.
        flagged: Null without a threshold.
        draws: One per seed, where the caption was sampled by this process.
        rows: One per seed instead, where there is nothing but scores.
    """

    p_value: float | None
    p_kind: str | None
    flagged: bool | None
    draws: list[DrawState] = field(default_factory=list)
    rows: list[ScoreRow] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class ChunkState:
    """The captions of one chunk on their way to rows.

    Attributes:
        captions: In order.
        cost: What they took so far.
        verdicts: By hash.
        failures: Why captions have no verdict, by hash.
        waiting: Draws that are to be localized.
        cached: Hashes of the captions that cost nothing: scored before.
        rescored: Hashes of the captions whose numbers are float32's, because the scan's own
            precision gave none.
        pictures: Of samples that are scored at their image, ``(height, width, 3)``, while draws
            of them may still have to be made.
        first: By draw, the first steps of what passed the screen, until it is sampled.

    A hash is that of `scanner.records.Caption.identity`.
    """

    captions: list[Caption]
    cost: Cost = field(default_factory=Cost)
    verdicts: dict[str, CaptionVerdict] = field(default_factory=dict)
    failures: dict[str, ScoringFailure] = field(default_factory=dict)
    waiting: list[DrawState] = field(default_factory=list)
    cached: set[str] = field(default_factory=set)
    rescored: set[str] = field(default_factory=set)
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    first: dict[Draw, FirstStep] = field(default_factory=dict)

    @classmethod
    def of(cls, captions: Sequence[Caption]) -> "ChunkState":
        """Return the captions as a chunk, their pixels apart from them and only once each."""
        pictures = {c.identity: c.pixels for c in captions if c.pixels is not None}
        bare = [c if c.pixels is None else replace(c, pixels=None) for c in captions]
        return cls(bare, pictures=pictures)

    @property
    def is_localized(self) -> bool:
        """Whether no draw waits any more."""
        return all(item.localized or item.failure for item in self.waiting)

    def samples(self, hashes: set[str]) -> int:
        """Return how many of the captions have one of these hashes."""
        return sum(caption.identity in hashes for caption in self.captions) if hashes else 0


def mean(values: NDArray[np.float32]) -> float:
    """Return the mean, summed in float64: finite if and only if every value is."""
    return float(np.add.reduce(values.astype(np.float64), axis=None) / values.size)

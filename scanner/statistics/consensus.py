"""What several scores of one trajectory agree on: the least suspicious of them, on one scale.

Scores of guidance are misled by different captions: Δs by captions that determine their picture,
the first steps' norm by those that say much, the norm over all steps by those worded like what the
model knows. A memorized caption is suspicious by all of them. So the consensus of a caption is the
least of its scores, each standardized by the null captions, and costs nothing beyond the
trajectory. It has no parameter that is fitted on memorized captions: an intersection-union test
(Berger, 1982) on a common scale, made exact by null scores of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from scanner.errors import ConfigError
from scanner.spec import CONSENSUS_OF

LEAST = 1e-12
"""Scores below this, which are rounding, count as this."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """Scales of the scores of a consensus, in the order of `CONSENSUS_OF`.

    Attributes:
        middles: Median over null captions of the logarithm of each score.
        deviations: Median distance from it.
    """

    middles: tuple[float, ...]
    deviations: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be scales.

        Raises:
            ConfigError: If there is not one of each score, or one is not finite or not positive.
        """
        numbers = (*self.middles, *self.deviations)
        if not len(self.middles) == len(self.deviations) == len(CONSENSUS_OF):
            raise ConfigError(f"a consensus needs a scale of each of {', '.join(CONSENSUS_OF)}")
        if not all(map(math.isfinite, numbers)) or not all(d > 0 for d in self.deviations):
            raise ConfigError("scales of a consensus must be finite and positive")

    @staticmethod
    def of(scores: Mapping[str, Sequence[float]]) -> "Consensus":
        """Return the scales that null captions give.

        Args:
            scores: From each of `CONSENSUS_OF` to the null captions' scores.

        Raises:
            ConfigError: If one does not vary.
        """
        middles = list[float]()
        deviations = list[float]()
        for name in CONSENSUS_OF:
            logs = [_log(value) for value in scores[name]]
            middles.append(median(logs))
            deviations.append(median(abs(log - middles[-1]) for log in logs))
            if not deviations[-1]:
                raise ConfigError(
                    f"{name} is the same for most of the null captions, so it has no scale: "
                    f"calibrate with more captions, or flag by another score"
                )
        return Consensus(tuple(middles), tuple(deviations))

    def least(self, scores: Mapping[str, float]) -> float:
        """Return the least of a caption's standardized scores.

        Args:
            scores: From each of `CONSENSUS_OF` to its value.

        Example:
            >>> Consensus((0.0, 0.0, 0.0), (1.0, 1.0, 2.0)).least(
            ...     {"delta_s": math.e, "wen": math.e**2, "wen_5": math.e**4}
            ... )
            1.0
        """
        return min(
            (_log(scores[name]) - middle) / deviation
            for name, middle, deviation in zip(
                CONSENSUS_OF, self.middles, self.deviations, strict=True
            )
        )

    def each(self, scores: Mapping[str, Sequence[float]]) -> list[float]:
        """Return `least` of many captions, or of many draws of one.

        Args:
            scores: From each of `CONSENSUS_OF` to their values, in one order.
        """
        rows = zip(*(scores[name] for name in CONSENSUS_OF), strict=True)
        return [self.least(dict(zip(CONSENSUS_OF, row, strict=True))) for row in rows]


def _log(value: float) -> float:
    return math.log(max(value, LEAST))

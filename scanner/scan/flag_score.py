"""The score that flags a caption: Δs, a detector, Δs against a baseline, or a consensus."""

from collections.abc import Mapping, Sequence

from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.spec import CONSENSUS, ScanSpec
from scanner.statistics.calibration import Calibration
from scanner.statistics.consensus import Consensus


def flag_score(
    spec: ScanSpec, delta_s: float, extra: Mapping[str, float], null: Calibration | None
) -> float:
    """Return the score of a draw that flags, high where it is suspicious.

    Args:
        spec: Says which score it is.
        delta_s: The draw's Δs against the unconditional branch.
        extra: Its further scores by column.
        null: The calibration, which a consensus is a comparison with.
    """
    if spec.flag_by == "delta_s":
        return delta_s
    if spec.flag_by == CONSENSUS:
        return _scales(null).least({"delta_s": delta_s, **extra})
    return registry.sign(spec.flag_by) * extra[spec.flag_by]


def consensus_column(
    spec: ScanSpec, delta_s: float, extra: Mapping[str, float], null: Calibration | None
) -> dict[str, float]:
    """Return the column of a draw that holds its consensus; empty where none flags."""
    if spec.flag_by != CONSENSUS:
        return {}
    return {CONSENSUS: flag_score(spec, delta_s, extra, null)}


def refuse_uncalibrated(spec: ScanSpec, *, is_calibrated: bool) -> None:
    """Refuse what only a calibration can give where there is none.

    Raises:
        ConfigError: If a consensus is to flag, or p-values are to be among one kind of captions.
    """
    if spec.p_values == "kind" and not is_calibrated:
        raise ConfigError(
            "p-values among captions of one kind need a calibration, which has the kinds: give one"
        )
    if spec.flag_by == CONSENSUS and not is_calibrated:
        raise ConfigError(
            "a consensus compares a caption's scores with those of null captions: give a "
            "calibration that was made with flag-by consensus"
        )


def _scales(null: Calibration | None) -> Consensus:
    """Return the scales of a calibration that was checked to have some.

    Raises:
        ValueError: If it has none.
    """
    if null is None or null.consensus is None:
        raise ValueError("a consensus needs a calibration with its scales")
    return null.consensus


def no_such_baseline(score: str, baselines: Sequence[str]) -> str:
    """Return what to say of a score that is of no baseline of the scan."""
    known = ", ".join(f"delta_s_{name}" for name in baselines) or "none: give --baseline"
    return f"{score} must be of one of the scan's baselines ({known})"

"""The score that flags a caption: Δs, a detector, or Δs against a baseline."""

from collections.abc import Mapping, Sequence

from scanner.methods import registry
from scanner.spec import ScanSpec


def flag_score(spec: ScanSpec, delta_s: float, extra: Mapping[str, float]) -> float:
    """Return the score of a draw that flags, high where it is suspicious.

    Args:
        spec: Says which score it is.
        delta_s: The draw's Δs against the unconditional branch.
        extra: Its further scores by column.
    """
    if spec.flag_by == "delta_s":
        return delta_s
    return registry.sign(spec.flag_by) * extra[spec.flag_by]


def no_such_baseline(score: str, baselines: Sequence[str]) -> str:
    """Return what to say of a score that is of no baseline of the scan."""
    known = ", ".join(f"delta_s_{name}" for name in baselines) or "none: give --baseline"
    return f"{score} must be of one of the scan's baselines ({known})"

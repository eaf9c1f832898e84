"""Why a caption is rejected, and in which words."""

from typing import NamedTuple

from scanner.records import RejectReason


class ScoringFailure(NamedTuple):
    """Why a caption is rejected: reason and detail of a `scanner.records.Reject`."""

    reason: RejectReason
    detail: str


def not_finite(more: str = "") -> ScoringFailure:
    """Return the failure of a caption with a number that is not finite.

    Args:
        more: What was tried, appended to the message.
    """
    return ScoringFailure(RejectReason.NOT_FINITE, f"a score was NaN or infinite{more}")


def draw_does_not_fit(message: str) -> ScoringFailure:
    """Return the failure of a caption of which not even one draw fits into memory.

    Args:
        message: What the allocator said.
    """
    return ScoringFailure(RejectReason.OUT_OF_MEMORY, f"not even one draw fits: {message}")


def maps_do_not_fit(delta_s: float, seed: int, message: str) -> ScoringFailure:
    """Return the failure of a draw whose maps do not fit into memory, with its score.

    Args:
        delta_s: The draw's score.
        seed: The draw's seed.
        message: What the allocator said.
    """
    return ScoringFailure(
        RejectReason.OUT_OF_MEMORY,
        f"it is to be localized (delta_s {delta_s:.6g} under seed {seed}), and "
        f"its maps do not fit into memory even alone: {message}",
    )

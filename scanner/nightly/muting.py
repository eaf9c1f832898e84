"""Mutes as people ask for them: a reason, and perhaps a last day that is not past."""

from datetime import UTC, date, datetime

from scanner.errors import ConfigError
from scanner.nightly.state import AuditState


def check(reason: str, until: date | None = None) -> None:
    """Refuse a mute that cannot be served.

    Args:
        reason: Why.
        until: The last day; null for ever.

    Raises:
        ConfigError: If it says no reason, or its last day is past.
    """
    if not reason.strip():
        raise ConfigError("a mute must say why: give a reason (--reason)")
    if until is not None and until < datetime.now(UTC).date():
        raise ConfigError(f"the last day of a mute (--until) must not be past, got {until}")


def mute(state: AuditState, sha256: str, reason: str, until: date | None = None) -> None:
    """Keep a finding out of alarms from the next audit on.

    Args:
        state: The audit's state.
        sha256: The finding's identity, or a caption's hash for all of its images.
        reason: Why.
        until: The last day; null for ever.

    Raises:
        ConfigError: If it says no reason, or its last day is past.
        ResultsError: If the mutes cannot be read.
        OutputError: If they cannot be written.
    """
    check(reason, until)
    state.mute(sha256, reason.strip(), datetime.now(UTC), until)


def unmute(state: AuditState, sha256: str) -> None:
    """Let a finding raise alarms again from the next audit on.

    Raises:
        ConfigError: If it is not muted.
        ResultsError: If the mutes cannot be read.
        OutputError: If they cannot be written.
    """
    if not state.unmute(sha256):
        raise ConfigError(f"{sha256[:12]} must be muted to be unmuted; it is not")

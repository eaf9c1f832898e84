"""Annotations and the summary of a GitHub workflow's step."""

import os
import sys
from pathlib import Path

from scanner import files
from scanner.notify.outcome import FAILED, INTERRUPTED, Outcome, Start
from scanner.notify.wording import body, harmless, line, title

MOST_ANNOTATIONS = 10
"""GitHub shows no more of a step."""
MOST_BYTES = 2**20
"""GitHub takes no more of a step's summary."""
_LEFT_OUT = "\n\nThe rest is left out.\n"


class GitHub:
    """Tells the workflow that this process is a step of; a `Callback`.

    Annotations go to the standard error, which GitHub reads too: the standard output may be JSON.
    """

    def started(self, start: Start) -> None:
        """Do nothing."""

    def progress(self, event: object) -> None:
        """Do nothing."""

    def finished(self, outcome: Outcome, folder: Path | None) -> None:
        """Annotate, and append to the step's summary.

        Raises:
            OutputError: If the summary cannot be written.
        """
        for text in annotations(outcome):
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
        if path := os.environ.get("GITHUB_STEP_SUMMARY"):
            files.append_bytes(path, _summary(outcome, folder, _size(path)))


def annotations(outcome: Outcome) -> list[str]:
    """Return a workflow command for the outcome and one for each of the worst findings."""
    loud = outcome.word in ("ALARM", FAILED)
    if not loud and outcome.word not in ("INCOMPLETE", "FOUND", INTERRUPTED):
        return []
    kind = "error" if loud else "warning"
    why = harmless(outcome.why, 400) if outcome.word == FAILED else outcome.why
    found = [
        command(kind, f"memscan finding: {top.severity}", line(top)) for top in outcome.findings
    ]
    missing = [command("warning", "memscan: missing", harmless(m, 160)) for m in outcome.missing]
    return [command(kind, title(outcome), why), *found, *missing][:MOST_ANNOTATIONS]


def command(kind: str, heading: str, text: str) -> str:
    """Return a workflow command; no text can end it early or begin another.

    Args:
        kind: ``error``, ``warning`` or ``notice``.
        heading: Its title.
        text: What it says.
    """
    escaped = _escaped(heading).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={escaped}::{_escaped(text)}"


def _escaped(text: str) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace("##[", "## [").replace("::", ": :")


def _summary(outcome: Outcome, folder: Path | None, there: int) -> bytes:
    """Return what fits behind the bytes that are there."""
    if folder is not None:
        text = (folder / "summary.md").read_text(encoding="utf-8")
    else:
        text = f"**{title(outcome)}**\n\n```\n{body(outcome)}\n```\n"
    content = text.encode() + b"\n"
    room = MOST_BYTES - there
    if len(content) <= room:
        return content
    cut = content[: max(0, room - len(_LEFT_OUT))].rpartition(b"\n")[0]
    return cut + _LEFT_OUT.encode() if room > len(_LEFT_OUT) else b""


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0

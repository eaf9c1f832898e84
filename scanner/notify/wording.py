"""Messages for people: short, and so that no text of a corpus can mention, link or format."""

import unicodedata
from collections.abc import Mapping

from scanner.notify.outcome import FAILED, Outcome, Top
from scanner.text import cut, printable

MOST_LINES = 10
"""Findings in a message, and lines of what is missing."""
_KEPT = frozenset(" ,;!?'\"()+=%")
_DOT = "·"
_WIDTH = 80
_MARKS = 2
"""Marks that a letter may carry; more would reach into the lines above."""


def harmless(text: str, width: int = _WIDTH) -> str:
    """Return hostile text as a chat may show it: no mention, link, emoji, format or control.

    Letters, digits and plain punctuation stay. A dot, a colon, a hyphen, a slash and an underscore
    stay where no chat makes anything of them; everything else becomes a middle dot.

    Args:
        text: Any text, such as a caption or a key.
        width: Columns of a terminal after which it is cut.

    Example:
        >>> harmless("<!here> @all see https://evil.example/x *now*, img_01.")
        '·!here· ·all see https: ··evil·example/x ·now·, img_01.'
    """
    text = printable(unicodedata.normalize("NFC", text[: 16 * width]))[: 4 * width]
    out, marks = list[str](), 0
    for place, char in enumerate(text):
        is_mark = unicodedata.category(char)[0] == "M"
        marks = marks + 1 if is_mark else 0
        if is_mark:
            out.append(char if marks <= _MARKS else "")
        else:
            out.append(_shown(char, text[place - 1 : place], text[place + 1 : place + 2]))
    return cut("".join(out).strip(), width)


def _shown(char: str, before: str, after: str) -> str:
    """Return what stands for a character between its neighbours, ``""`` at an end."""
    if char in _KEPT or unicodedata.category(char)[0] in "LN":
        return char
    ends = not after.strip()
    if char == ":":
        return ":" if ends else ": "
    if char == ".":
        return "." if ends else _DOT
    is_inside = before.isalnum() and after.isalnum()
    return char if char in "-_/" and is_inside else _DOT


def title(outcome: Outcome) -> str:
    """Return the first line of a message."""
    return f"memscan {outcome.command} {outcome.name}: {outcome.word}".replace(" :", ":")


def body(outcome: Outcome, *, least: tuple[str, ...] = (), most: int = MOST_LINES) -> str:
    """Return a message: why, counts, the worst findings, what is missing, and where it all is.

    Args:
        outcome: What came of it.
        least: Severities of findings that are listed; empty for all.
        most: Findings that are listed at most.
    """
    why = harmless(outcome.why, 400) if outcome.word == FAILED else outcome.why
    lines = [why[:1].upper() + why[1:] + "."]
    if outcome.counts:
        lines.append(f"{outcome.command.capitalize()}: {_counted(outcome.counts)}.")
    if any(outcome.severities.values()):
        lines.append(f"Findings by severity: {_counted(outcome.severities)}.")
    lines += _findings(outcome, least, most)
    lines += _missing(outcome)
    if outcome.model:
        run = f", run {outcome.run}" if outcome.run else ""
        lines.append(f"Model {outcome.model}{run}.")
    where = f"Report: {outcome.link}" if outcome.link else f"Results: {outcome.place}"
    return "\n".join([*lines, *[where] * bool(outcome.link or outcome.place)])


def line(top: Top) -> str:
    """Return a finding on one line."""
    state = f", {top.state}" if top.state else ""
    match = f"{top.match} copy" if top.match in ("verbatim", "template") else "score alone"
    p_value = "" if top.p_value is None else f", p {top.p_value:.3g}"
    copies = f"{top.copies} {'copy' if top.copies == 1 else 'copies'} in the corpus"
    seen = f"{top.level}, {top.known}" if top.known else f"{match}{p_value}"
    said = f"{top.severity}{state}: {seen}, {copies}, key {harmless(top.key, 60)}"
    caption = "" if top.caption is None else f", caption ({harmless(top.caption)})"
    return f"{said}, finding {top.finding[:12]}{caption}"


def _findings(outcome: Outcome, least: tuple[str, ...], most: int) -> list[str]:
    listed = [top for top in outcome.findings if not least or top.severity in least]
    if not listed:
        return []
    more = len(listed) - min(most, len(listed)) + outcome.left_out
    shown = [f"{number}. {line(top)}" for number, top in enumerate(listed[:most], 1)]
    return [*shown, *[f"And {more} more."] * bool(more)]


def _missing(outcome: Outcome) -> list[str]:
    shown = [f"Missing: {harmless(text, 160)}" for text in outcome.missing[:MOST_LINES]]
    more = len(outcome.missing) - len(shown)
    return [*shown, *[f"And {more} more are missing."] * bool(more > 0)]


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number) or "none"

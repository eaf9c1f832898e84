"""What a page says first: one word, and one sentence that says why.

The sentence holds counts and names of kinds alone, no caption, key or address: it may be sent
anywhere.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from scanner.pictures import MATCHES

WORDS = {
    "ALARM": "bad", "FOUND": "bad", "INCOMPLETE": "warn", "PARTIAL": "warn",
    "NOTHING FLAGGED BY RULE": "warn", "CLEAR": "good",
}  # fmt: skip
"""Every word, with the tone of its colour."""


@dataclass(frozen=True, slots=True)
class Banner:
    """The verdict of an audit or a scan.

    Attributes:
        word: One of `WORDS`; of an audit ``ALARM``, ``INCOMPLETE``, ``PARTIAL`` or ``CLEAR``.
        why: One sentence without a full stop, free of captions, keys and addresses.
    """

    word: str
    why: str

    @property
    def tone(self) -> str:
        """``bad``, ``warn`` or ``good``: what colour goes with the word."""
        return WORDS[self.word]

    def as_json(self) -> dict[str, str]:
        """Return word and reason for programs."""
        return asdict(self)

    def __str__(self) -> str:
        """Return word and reason on one line."""
        return f"{self.word}: {self.why}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "copy", "copies"), counted(1200, "caption")
        ('1 copy', '1,200 captions')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def by_match(matches: Iterable[str | None]) -> str:
    """Return in words how many findings are of which match.

    Example:
        >>> by_match(["verbatim", "verbatim", None])
        '2 verbatim copies, 1 by score alone'
    """
    found = Counter(match if match in MATCHES else None for match in matches)
    named = [
        counted(found[match], f"{match} copy", f"{match} copies") for match in MATCHES
        if found[match]
    ]  # fmt: skip
    return ", ".join([*named, *[f"{found[None]:,} by score alone"] * bool(found[None])])


def of_scan(
    captions: int, matches: Sequence[str | None], missing: int, *, by_rule: bool,
    unfinished: bool = False,
) -> Banner:  # fmt: skip
    """Return the banner of a run that is compared with no other.

    Args:
        captions: Distinct captions that were scored.
        matches: The match of every finding.
        missing: Shards and chunks that are not scanned whole.
        by_rule: Whether a calibration or a threshold could flag anything.
        unfinished: Whether the scan has not come to its end.
    """
    gaps = f"{counted(missing, 'shard or chunk', 'shards or chunks')} could not be scanned"
    lacking = ", ".join(filter(None, ["the scan has not ended" * unfinished, gaps * bool(missing)]))
    if matches:
        why = f"{len(matches):,} of {counted(captions, 'caption')} flagged: {by_match(matches)}"
        return Banner("FOUND", f"{why}; besides, {lacking}" if lacking else why)
    if lacking or not captions:
        why = f"{lacking}; nothing is flagged" if lacking else "no caption was scored"
        return Banner("INCOMPLETE", why)
    if not by_rule:
        why = f"scores only of {counted(captions, 'caption')}: no calibration or threshold flags"
        return Banner("NOTHING FLAGGED BY RULE", why)
    return Banner("CLEAR", f"none of {counted(captions, 'caption')} is flagged")

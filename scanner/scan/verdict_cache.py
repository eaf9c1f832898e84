"""Verdicts that this process keeps for copies of captions."""

from collections import OrderedDict

from scanner.scan.state import CaptionVerdict

CACHE_BYTES = 64 * 2**20
"""Most bytes of maps and pictures that are kept for copies of localized captions."""
RECENT_BYTES = 8 * 2**20
"""Most bytes of rows of other captions; evicted rows are read from the results again."""
ROW_BYTES = 2000
"""Approximate bytes of a row or a draw without its caption and maps."""


class VerdictCache:
    """Captions that this process has scored, the least used leaving first.

    A copy of one costs nothing, a copy of a localized one its evidence alone.

    Args:
        room: Bytes for rows, maps and pictures.
    """

    def __init__(self, room: int) -> None:
        self._room, self._taken = room, 0
        self._verdicts: OrderedDict[str, tuple[CaptionVerdict, int]] = OrderedDict()

    def get(self, sha: str) -> CaptionVerdict | None:
        """Return a caption's verdict, or null."""
        if (kept := self._verdicts.get(sha)) is None:
            return None
        self._verdicts.move_to_end(sha)
        return kept[0]

    def add(self, sha: str, verdict: CaptionVerdict) -> None:
        """Keep a caption that needs no more of the device."""
        if sha in self._verdicts:
            return
        size = _bytes(verdict)
        self._verdicts[sha] = verdict, size
        self._taken += size
        while self._taken > self._room:
            self._taken -= self._verdicts.popitem(last=False)[1][1]


def _bytes(verdict: CaptionVerdict) -> int:
    found = 0
    for row in verdict.rows:
        found += ROW_BYTES + 4 * len(row.caption.text)
    for item in verdict.draws:
        found += ROW_BYTES + item.bytes
    return found

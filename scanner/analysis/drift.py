"""Are a run's captions like the null captions of its calibration? Its p-values hold only if so.

Every row has the novelty of its caption (`scanner.statistics.novelty`). Here they are counted over
a run, tested, and what is unlike is put into groups by words that many of it share.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from scanner.analysis.query import connect
from scanner.results.folder import Results
from scanner.results.run_file import RunFile
from scanner.statistics.families import words_of
from scanner.statistics.novelty import ALARM, UNLIKE, differ
from scanner.text import counted

MOST_CAPTIONS = 20_000
"""Unlike captions that are put into groups, and other captions that they are compared with: those
with the least hashes."""
MOST_GROUPS, LEAST_SHARE, LEAST_CAPTIONS = 5, 0.05, 3
"""A group has this share of the unlike captions at least, and so many."""
MOST_NAMED = 3
"""Words that name a group."""
UNKNOWN = (
    "whether the captions are like the null captions cannot be told: the calibration keeps no "
    "words of its null captions; calibrate again"
)

COUNTS = """
SELECT count(*), count(*) FILTER (novelty <= $1), count(*) FILTER (novelty <= 0.5),
       count(*) FILTER (flagged), count(*) FILTER (flagged AND novelty <= $1)
FROM captions WHERE novelty IS NOT NULL
"""
TEXTS = """
SELECT caption, coalesce(flagged, false) FROM captions WHERE (novelty <= $1) = $2
ORDER BY caption_sha256 LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Unlike captions that share a word.

    Attributes:
        words: The word that they share, then others that most of them share; empty for the rest.
        captions: How many there are.
        flagged: How many of them are flagged.
    """

    words: tuple[str, ...]
    captions: int
    flagged: int


@dataclass(frozen=True, slots=True)
class Drift:
    """How a run's captions differ from the null captions.

    Attributes:
        null_captions: Distinct null captions.
        captions: Distinct captions with a novelty.
        unlike: How many of them are unlike the null captions: their novelty is at most `UNLIKE`.
        ordinary: How many have a novelty above one half.
        flagged: How many are flagged.
        flagged_unlike: How many of these are unlike.
        p_value: Of the captions being exchangeable with the null captions.
        groups: Of unlike captions, the largest first.
    """

    null_captions: int
    captions: int
    unlike: int
    ordinary: int
    flagged: int
    flagged_unlike: int
    p_value: float
    groups: tuple[Group, ...]

    @property
    def is_drift(self) -> bool:
        """Whether the captions differ; captions exchangeable with the null ones do at `ALARM`."""
        return self.p_value <= ALARM

    def as_json(self, *, redact: bool = False) -> dict[str, Any]:
        """Return it for a record; without the words of captions, if ``redact``."""
        content = asdict(self) | {"warning": self.is_drift, "expected": UNLIKE * self.captions}
        groups = [asdict(g) | ({"words": []} if redact else {}) for g in self.groups]
        return content | {"groups": groups}

    def lines(self, *, redact: bool = False) -> list[str]:
        """Return a warning, a line or two; nothing where the captions do not differ."""
        return list(self._lines(redact=redact)) if self.is_drift else []

    def _lines(self, *, redact: bool) -> Iterator[str]:
        share, most = self.unlike / self.captions, self.unlike > UNLIKE * self.captions
        of = f"{self.unlike:,} of {counted(self.captions, 'caption')} ({share:.1%})"
        if most:
            yield (
                f"warning: {of} are unlike the null captions, where {UNLIKE:.0%} would be by "
                f"chance (p {self.p_value:.1g}); so are {self.flagged_unlike:,} of "
                f"{self.flagged:,} flagged: their p-values need not hold"
            )
        else:
            yield (
                f"warning: the captions are not mixed as the null captions are (p "
                f"{self.p_value:.1g}): {self.ordinary / self.captions:.0%} have more usual words "
                "than the median null caption; p-values need not hold"
            )
        named = [g for g in self.groups if g.words]
        if named and most and not redact:
            yield "most of them: " + "; ".join(map(_told, named))


def _told(group: Group) -> str:
    flagged = f", {group.flagged:,} flagged" if group.flagged else ""
    return f"“{' '.join(group.words)}” ({counted(group.captions, 'caption')}{flagged})"


def drift(con: duckdb.DuckDBPyConnection, record: RunFile) -> Drift | None:
    """Return how the captions of a view differ from the null captions; null if it cannot be told.

    Args:
        con: Views of one run.
        record: The run's.
    """
    captions, unlike, low, flagged, both = con.execute(COUNTS, [UNLIKE]).fetchall()[0]
    if not captions or record.null_captions is None:
        return None
    texts, others = (
        con.execute(TEXTS, [UNLIKE, is_unlike, MOST_CAPTIONS]).fetchall() if unlike else []
        for is_unlike in (True, False)
    )
    return Drift(
        record.null_captions, captions, unlike, captions - low, flagged, both,
        differ(unlike, low, captions, record.null_captions),
        groups(texts, [text for text, _ in others]),
    )  # fmt: skip


def of_run(results: Results, run: str) -> Drift | None:
    """Return how the captions of a run differ from the null captions; null if it cannot be told.

    Raises:
        ConfigError: If there is no such run.
        ResultsError: If the results cannot be read.
    """
    with closing(connect(results, runs=[run])) as con:
        return drift(con, results.run_file(run))


def groups(unlike: Sequence[tuple[str, bool]], others: Sequence[str]) -> tuple[Group, ...]:
    """Put captions into groups by words that they share and others do not.

    Each group is named by the word whose share among the captions left is most above its share
    among the others.

    Args:
        unlike: Captions, and whether each is flagged.
        others: Captions to compare with.

    Example:
        >>> groups([("a mug on plain black", True)] * 4 + [("a red mug", False)], ["a red mug"] * 9)
        (Group(words=('black', 'on', 'plain'), captions=4, flagged=4), \
Group(words=(), captions=1, flagged=0))
    """
    usual = Counter(word for text in others for word in words_of(text))
    left = [(words_of(text), flagged) for text, flagged in unlike]
    least, found = max(LEAST_CAPTIONS, LEAST_SHARE * len(unlike)), list[Group]()
    while left and len(found) < MOST_GROUPS:
        counts = Counter(word for words, _ in left for word in words)

        def excess(word: str, among: Counter[str], number: int) -> float:
            return among[word] / number - usual[word] / max(1, len(others))

        best = min(counts, key=lambda word: (-excess(word, counts, len(left)), word))
        own = [(words, flagged) for words, flagged in left if best in words]
        if len(own) < least or excess(best, counts, len(left)) <= 0:
            break
        shared = Counter(word for words, _ in own for word in words)
        named = [w for w in shared if w != best and excess(w, shared, len(own)) >= 0.5]
        named.sort(key=lambda word: (-excess(word, shared, len(own)), word))
        words = tuple("a number" if w.strip("0") == "" else w for w in (best, *named)[:MOST_NAMED])
        found.append(Group(words, len(own), sum(flagged for _, flagged in own)))
        left = [(words, flagged) for words, flagged in left if best not in words]
    found.sort(key=lambda group: -group.captions)
    rest = [Group((), len(left), sum(flagged for _, flagged in left))] if left else []
    return (*found, *rest)

"""Kinds of captions, told apart by their words, for p-values among captions of one kind.

Null captions are divided in two by the presence of the word that best tells high scores from
others, and each part again, as long as both parts keep at least `LEAST` captions and the difference
is significant. A scanned caption is of the kind that its words lead to.

Why a p-value among the null captions of a kind is valid: for a division that was fixed beforehand,
a caption that is exchangeable with the null captions is exchangeable with those of its kind, so
its rank among them is uniform, in every kind (Mondrian conformal prediction, Vovk et al. 2005).
This division is made from the null scores themselves, so the statement is not exact: a word may
divide by chance. Each division is tested over all words at a level of `CHANCE`, so where scores do
not depend on words there is mostly one kind, and the p-value is the usual one. docs/calibration.md
has what comes of it.

A kind of m null captions has no p-value below ``1 / (m + 1)``, so small kinds are never flagged at
small rates, rather than flagged by other kinds' scores. A caption that is more unlike the null
captions than each of them (`NullWords.is_new`) is of no kind of theirs and gets 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from scanner.errors import ConfigError
from scanner.statistics.novelty import word_hashes
from scanner.statistics.packed import packed, unpacked

LEAST = 40
"""Null captions of a kind."""
CHANCE = 0.05
"""Chance of a division where scores do not depend on words, at most."""
LEVELS = (0.5, 0.8, 0.95)
"""Quantiles: the shares of both parts above one of them are compared."""


@dataclass(frozen=True)
class Kinds:
    """A division of captions into kinds, and which null score is of which.

    Attributes:
        divisions: Word, where captions without it go, and where those with it go: number of a
            later division, or ``-1 - kind``. Empty where all captions are of one kind.
        kinds: The packed kind of each null score, in the order of the null scores.
    """

    divisions: tuple[tuple[int, int, int], ...]
    kinds: str

    def __post_init__(self) -> None:
        """Refuse divisions that lead nowhere.

        Raises:
            ConfigError: If so, or packed kinds cannot be read or are none.
        """
        for place, (_, *sides) in enumerate(self.divisions):
            if not all(place < to < len(self.divisions) or -len(self) <= to < 0 for to in sides):
                raise ConfigError(f"a division of kinds leads to {sides}, which are none")
        places = unpacked(self.kinds, "<u2", "kinds")
        if len(places) and int(places.max()) >= len(self):
            raise ConfigError("a null score is of a kind that there is not")
        object.__setattr__(self, "_places", places)

    @staticmethod
    def of(captions: Sequence[str], scores: Sequence[float]) -> "Kinds":
        """Divide null captions.

        Args:
            captions: Of the null scores.
            scores: Of each of them, high where it is suspicious.
        """
        divisions = _divided(captions, np.array(scores, float))
        own = np.array([_kind(divisions, text) for text in captions], "<u2")
        return Kinds(divisions, packed(own[np.lexsort((own, np.array(scores)))]))

    def __len__(self) -> int:
        """Return how many kinds there are."""
        return len(self.divisions) + 1

    @property
    def sizes(self) -> list[int]:
        """How many null scores each kind has."""
        return np.bincount(self._own, minlength=len(self)).tolist()

    def kind(self, text: str) -> int:
        """Return the number of a caption's kind, from 0."""
        return _kind(self.divisions, text)

    def p_value(self, nulls: Sequence[float], score: float, text: str) -> float:
        """Return ``(1 + #{null of the kind >= score}) / (1 + #{null of the kind})``.

        Args:
            nulls: All null scores, ascending.
            score: The caption's.
            text: The caption.

        Raises:
            ValueError: If the score is not a number.
        """
        if np.isnan(score):
            raise ValueError("a score that is not a number has no p-value")
        own = np.asarray(nulls)[self._own == self.kind(text)]
        return float((1 + (own >= score).sum()) / (1 + len(own)))

    @property
    def _own(self) -> NDArray[np.uint16]:
        return vars(self)["_places"]


def _kind(divisions: Sequence[tuple[int, int, int]], text: str) -> int:
    if not divisions:
        return 0
    words, at = set(word_hashes(text)), 0
    while at >= 0:
        word, without, having = divisions[at]
        at = having if word in words else without
    return -1 - at


def _divided(
    captions: Sequence[str], scores: NDArray[np.float64]
) -> tuple[tuple[int, int, int], ...]:
    """Return the divisions of null captions, each before those that it leads to."""
    hashed = [word_hashes(text) for text in captions]
    words, counts = np.unique([word for own in hashed for word in own], return_counts=True)
    common = words[counts >= LEAST]
    has = np.array([np.isin(common, own) for own in hashed]).reshape(len(captions), len(common))
    found = list[list[int]]()
    kinds = 0
    pending = [(np.arange(len(captions)), -1, 0)]  # captions, division that leads here, side
    while pending:
        own, parent, side = pending.pop(0)
        at = _divides(has[own], scores[own])
        if at is None:
            to, kinds = -1 - kinds, kinds + 1
        else:
            to = len(found)
            found.append([int(common[at]), 0, 0])
            pending += [(own[~has[own, at]], to, 1), (own[has[own, at]], to, 2)]
        if parent >= 0:
            found[parent][side] = to
    return tuple((word, without, having) for word, without, having in found)


def _divides(has: NDArray[np.bool_], scores: NDArray[np.float64]) -> int | None:
    """Return the place of the word that divides captions, if one does.

    Args:
        has: Which captions have which words, ``(captions, words)``.
        scores: Of the captions.
    """
    number, counts = len(has), has.sum(0)
    usable = np.flatnonzero((counts >= LEAST) & (number - counts >= LEAST))
    if not len(usable):
        return None
    having = counts[usable]
    apart = np.zeros(len(usable))
    for level in LEVELS:
        high = scores > np.quantile(scores, level)
        share = high.mean()
        if share:
            own = has[np.ix_(high, usable)].sum(0)
            gap = own / having - (high.sum() - own) / (number - having)
            unit = np.sqrt(share * (1 - share) * (1 / having + 1 / (number - having)))
            apart = np.maximum(apart, np.abs(gap) / unit)
    best = int(np.argmax(np.round(apart, 9)))
    tests = len(usable) * len(LEVELS)
    return int(usable[best]) if apart[best] > -NormalDist().inv_cdf(CHANCE / 2 / tests) else None

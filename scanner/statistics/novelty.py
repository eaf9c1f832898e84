"""How unlike the null captions a caption is, by its words: a p-value of its own.

The *surprise* of a caption is the mean over its words of ``-log(1 + d)``, where d is the number of
other null captions with that word: high where its words are rare among them. Each null caption's
own surprise is taken without itself (leave one out), so there are n - 1 others; a scanned caption
has n, and its d is taken times (n - 1) / n, which is what leaving one of them out comes to on
average. So null captions and a scanned one are measured alike, and the rank of the scanned one
among them is its p-value: if it is exchangeable with them, a share a of captions has a novelty of
at most a. Exact conformal prediction (Vovk et al. 2005) would measure each null caption beside the
scanned one, too, which changes one d in n. Ties are broken by the caption's hash.

Of the null captions only hashes of words are kept, how many captions have each, and the surprises.
The hashes are not secret: whoever guesses a word can see whether it is there.
"""

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scanner.errors import ConfigError
from scanner.statistics.families import words_of
from scanner.statistics.packed import packed, unpacked

MOST_WORDS = 64
"""Words of a caption that count: more than text encoders read. Those with the least hashes."""
UNLIKE = 0.05
"""A caption with a novelty of at most this is called unlike the null captions."""
ALARM = 0.01
"""Chance that captions exchangeable with the null captions are called different, at most."""


def word_hashes(text: str) -> tuple[int, ...]:
    """Return 32 bits of each distinct word of a caption, ascending."""
    return tuple(sorted(map(_hash, words_of(text)))[:MOST_WORDS])


@lru_cache(maxsize=100_000)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4).digest())


@dataclass(frozen=True)
class NullWords:
    """Words of null captions, hashed.

    Attributes:
        captions: How many distinct null captions there are.
        words: Packed 32-bit hashes of their words, ascending.
        counts: Packed number of null captions with each.
        surprises: Packed surprise of each null caption, in millionths, ascending.
    """

    captions: int
    words: str
    counts: str
    surprises: str

    def __post_init__(self) -> None:
        """Read what is packed.

        Raises:
            ConfigError: If it does not fit together.
        """
        words = unpacked(self.words, "<u4", "words").tolist()
        counts = unpacked(self.counts, "<u4", "counts").tolist()
        surprises = unpacked(self.surprises, "<i4", "surprises").tolist()
        if len(words) != len(counts) or len(surprises) != self.captions or not surprises:
            raise ConfigError("words of null captions, their counts and surprises do not fit")
        if surprises != sorted(surprises):
            raise ConfigError("surprises must be ascending")
        object.__setattr__(self, "_counts", dict(zip(words, counts, strict=True)))
        object.__setattr__(self, "_surprises", surprises)

    @staticmethod
    def of(captions: Sequence[str]) -> "NullWords":
        """Return the words of null captions; captions that stand there twice count once.

        Args:
            captions: At least one.
        """
        hashed = [word_hashes(text) for text in dict.fromkeys(captions)]
        counts = Counter(word for own in hashed for word in own)
        words = sorted(counts)
        surprises = sorted(_surprise([counts[word] for word in own]) for own in hashed)
        return NullWords(
            len(hashed), packed(np.array(words, "<u4")),
            packed(np.array([counts[word] for word in words], "<u4")),
            packed(np.array(surprises, "<i4")),
        )  # fmt: skip

    def surprise(self, text: str) -> int:
        """Return how rare a caption's words are among the null captions, in millionths."""
        counts: dict[int, int] = vars(self)["_counts"]
        share = (self.captions - 1) / self.captions
        return _surprise([1 + share * counts.get(word, 0) for word in word_hashes(text)])

    def novelty(self, text: str) -> float:
        """Return the p-value of a caption: low where it is unlike the null captions.

        Example:
            >>> nulls = NullWords.of([f"a {colour} mug" for colour in ("red", "blue", "green")])
            >>> nulls.novelty("a stone bridge in the rain") <= 0.25 < nulls.novelty("a red mug")
            True
        """
        surprises: list[int] = vars(self)["_surprises"]
        own = self.surprise(text)
        above = len(surprises) - bisect_right(surprises, own)
        ties = len(surprises) - above - bisect_left(surprises, own)
        return (above + _fraction(text) * (1 + ties)) / (1 + len(surprises))

    def is_new(self, text: str) -> bool:
        """Return whether a caption is more unlike the null captions than each of them."""
        return self.surprise(text) > vars(self)["_surprises"][-1]


def _surprise(counts: Sequence[float]) -> int:
    return round(-1e6 * math.fsum(map(math.log, counts)) / len(counts))


def _fraction(text: str) -> float:
    """Return a number above 0, at most 1, that a text decides."""
    digest = hashlib.blake2b(b"tie" + text.encode("utf-8", "replace"), digest_size=6).digest()
    return (int.from_bytes(digest) + 1) / 2**48


def at_least(hits: int, number: int, rate: float, nulls: int) -> float:
    """Return the chance of so many captions with a p-value up to a rate, or more.

    P-values of several captions against one calibration go together: the calibration's own rate is
    Beta(k, n + 1 - k) with ``k = rate (n + 1)``, so hits are beta-binomial, not binomial, if
    captions are independent and exchangeable with the null captions.

    Args:
        hits: Captions with a p-value of at most ``rate``.
        number: Captions.
        rate: Between 0 and 1.
        nulls: Null captions, n.

    Example:
        >>> at_least(0, 10, 0.05, 99)
        1.0
        >>> at_least(10, 10, 0.05, 99) < at_least(5, 10, 0.05, 99) < 0.001
        True
    """
    if hits <= 0:
        return 1.0
    if hits > number:
        return 0.0
    a, b = rate * (nulls + 1), (1 - rate) * (nulls + 1)
    x = np.arange(number, dtype=float)
    steps = np.log((number - x) * (x + a) / ((x + 1) * (number - 1 - x + b)))
    first = math.lgamma(number + b) + math.lgamma(a + b)
    first -= math.lgamma(b) + math.lgamma(number + a + b)
    logs = first + np.concatenate([[0.0], np.cumsum(steps)])
    return min(1.0, float(np.exp(logs[hits:]).sum()))


def differ(unlike: int, above: int, number: int, nulls: int) -> float:
    """Return the p-value of captions being exchangeable with the null captions, by their novelty.

    The smaller of two p-values, doubled: that more captions are unlike than `UNLIKE`, and that more
    or fewer than half have a novelty of at most one half (which shows another mix of kinds that
    the null captions have).

    Args:
        unlike: Captions with a novelty of at most `UNLIKE`.
        above: Captions with a novelty of at most one half.
        number: Captions.
        nulls: Null captions.
    """
    many = at_least(unlike, number, UNLIKE, nulls)
    side = min(at_least(above, number, 0.5, nulls), at_least(number - above, number, 0.5, nulls))
    return min(1.0, 2 * min(many, 2 * side))

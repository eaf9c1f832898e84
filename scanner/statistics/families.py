"""Families of near-identical captions: near-identical captions are hardly more evidence than one.

Two captions are near-identical if their sets of words have a Jaccard similarity of at least
`ALIKE`: captions of six words or more that differ in one of them are. Case, punctuation, the order
of words and the digits of numbers do not count. Scripts without spaces (Han, Kana) are compared by
character.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

ALIKE = 0.7
"""Six words of which one differs have 5/7."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_DIGITS = re.compile(r"\d+")


def families(captions: Sequence[str], alike: float = ALIKE) -> list[int]:
    """Return each caption's family, as the place of its first member.

    Going through the captions in order, each joins the first earlier leader that it is
    near-identical to, or leads a family of its own. So no family chains far apart captions
    together, and the leaders are one caption per family.

    Args:
        captions: In an order that has nothing to do with their scores.
        alike: Jaccard similarity from which captions are near-identical, above 0.

    Example:
        >>> families(["A red mug, 12 cm", "a tall tree", "a red mug 14 cm"])
        [0, 1, 0]
    """
    words = [words_of(text) for text in captions]
    frequency = Counter(word for own in words for word in own)
    leaders: dict[str, list[int]] = defaultdict(list)
    found = list[int]()
    for place, own in enumerate(words):
        # Sets this similar share one of their rarest words (prefix filtering, Chaudhuri et al.
        # 2006): only leaders that do are compared.
        rarest = sorted(own, key=lambda word: (frequency[word], word))
        rarest = rarest[: len(own) - math.ceil(alike * len(own) - 1e-9) + 1]
        near = sorted({leader for word in rarest for leader in leaders[word]})
        own_leader = next((j for j in near if _similarity(own, words[j]) >= alike - 1e-9), place)
        if own_leader == place:
            for word in rarest:
                leaders[word].append(place)
        found.append(own_leader)
    return found


def near(caption: str, others: Sequence[str], alike: float = ALIKE) -> list[tuple[int, float]]:
    """Return the places of the captions that are near-identical to one, the most similar first.

    Args:
        caption: The one.
        others: Where to look.
        alike: Jaccard similarity from which captions are near-identical, above 0.

    Returns:
        Place in ``others`` and similarity, `alike` to 1.

    Example:
        >>> near("A red mug, 12 cm", ["a tall tree", "a red mug 14 cm"])
        [(1, 1.0)]
    """
    own = words_of(caption)
    found = ((place, _similarity(own, words_of(text))) for place, text in enumerate(others))
    close = [(place, similarity) for place, similarity in found if similarity >= alike - 1e-9]
    return sorted(close, key=lambda each: (-each[1], each[0]))


def shared_words(caption: str, alike: float = ALIKE) -> list[str]:
    """Return words of a caption of which every near-identical one has at least one.

    They are its longest, which few other captions have; those with digits count for any number
    in `near` and are taken last.

    Args:
        caption: The caption.
        alike: Jaccard similarity from which captions are near-identical, above 0.

    Example:
        >>> shared_words("an old wooden lighthouse by the sea")
        ['lighthouse', 'wooden', 'old']
    """
    own = sorted(words_of(caption), key=lambda word: ("0" in word, -len(word), word))
    return own[: len(own) - math.ceil(alike * len(own) - 1e-9) + 1]


def words_of(text: str) -> frozenset[str]:
    """Return the words of a caption: without case, punctuation and the digits of numbers.

    A caption without a word is its own.

    Example:
        >>> sorted(words_of("A red mug, 12 cm"))
        ['0', 'a', 'cm', 'mug', 'red']
    """
    plain = _DIGITS.sub("0", unicodedata.normalize("NFKC", text).casefold())
    return frozenset(_WORD.findall(plain)) or frozenset([text])


def _similarity(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)

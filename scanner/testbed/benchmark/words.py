"""Captions of planted items: titles, products and their paraphrases, all distinct."""

import numpy as np

from scanner.testbed.benchmark.cast import pick

Rng = np.random.Generator

ADJECTIVES = (
    "hidden", "distant", "golden", "broken", "silent", "winter", "crimson", "hollow", "gentle",
    "burning", "sunken", "quiet",
)  # fmt: skip
NOUNS = (
    "garden", "valley", "market", "harbor", "station", "forest", "castle", "bridge", "river",
    "meadow", "tower", "island",
)  # fmt: skip
CONSONANTS, VOWELS = tuple("bdfgklmnprstvz"), tuple("aeiou")

OPENINGS = ("{}", "untitled {}", "signed {}", "framed {}", "rare {}", "old {}")
FORMS = (
    "the {adjective} {noun} a {style} by {author}", "{style} by {author} the {adjective} {noun}",
    "{author} the {adjective} {noun} {style}", "the {adjective} {noun} by {author}",
)  # fmt: skip
"""Ways to say a title; with an opening before it, twenty-four."""


class Words:
    """Makes captions that were not made before.

    Args:
        rng: Where the words come from.
    """

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.used: set[str] = set()

    def title(self, style: str) -> str:
        """Return the title of a picture of a style."""
        return self._new(lambda: title(self.rng, style))

    def product(self, name: str) -> str:
        """Return how a shop calls a product with a design."""
        return self._new(lambda: product(self.rng, name))

    def personal(self, phrase: str) -> str:
        """Return a title in which somebody's name stands at the phrase's braces."""
        return self._new(lambda: phrase.format(author(self.rng)))

    def siblings(self, style: str) -> tuple[str, str, str]:
        """Return three titles that share all but the noun."""
        first = self.title(style)
        old = first.split(" ")[2]
        others = [noun for noun in NOUNS if noun != old]
        second, third = self.rng.choice(others, 2, replace=False)
        return first, first.replace(old, str(second), 1), first.replace(old, str(third), 1)

    def _new(self, make) -> str:  # noqa: ANN001
        while (caption := make()) in self.used:
            pass
        self.used.add(caption)
        return caption


def title(rng: Rng, style: str) -> str:
    """Return a title, such as ``the hidden garden a quilt by voke tarun``."""
    return FORMS[0].format(
        adjective=pick(rng, ADJECTIVES), noun=pick(rng, NOUNS), style=style, author=author(rng)
    )


def product(rng: Rng, name: str) -> str:
    """Return a product, such as ``voke tarun phone case custom design``."""
    return f"{author(rng)} {name} custom design"


def author(rng: Rng) -> str:
    """Return a name of two made-up words."""
    return f"{_word(rng)} {_word(rng)}"


def paraphrases(said: str) -> list[str]:
    """Return twenty-four ways to say a title, itself first."""
    _, adjective, noun, _, *rest = said.split(" ")
    by = rest.index("by")
    parts = {
        "adjective": adjective, "noun": noun, "style": " ".join(rest[:by]),
        "author": " ".join(rest[by + 1 :]),
    }  # fmt: skip
    return [opening.format(form.format(**parts)) for opening in OPENINGS for form in FORMS]


def _word(rng: Rng) -> str:
    syllables = int(rng.integers(2, 4))
    return "".join(pick(rng, CONSONANTS) + pick(rng, VOWELS) for _ in range(syllables))

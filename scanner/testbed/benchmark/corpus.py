"""A corpus as a whole: its seed, what stands in its scenes, and what is planted."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scanner.testbed.benchmark.cast import DRAWN, Cast
from scanner.testbed.benchmark.items import Item, Numbers, adapter_items, items
from scanner.testbed.benchmark.pictures import Collection, load

THINGS = 64
"""Names that are taken from a collection of pictures."""

NUMBERS = {
    "full": Numbers(),
    "short": Numbers(
        verbatim=10, template=5, copies=2, captions=2, retrieved=2, siblings=2, prototypical=2,
        characters=2, names=3, arts=3, natural=5,
    ),
    "quick": Numbers(
        verbatim=1, template=2, copies=1, captions=1, retrieved=1, siblings=1, prototypical=1,
        characters=1, names=1, arts=1, natural=2,
    ),
}  # fmt: skip
"""From a form of the benchmark to the items that it plants: ``short`` has about half of all items
at the same doses, for trainings of half the length; ``quick`` is for tests."""

ADAPTER_NUMBERS = {"full": (6, 4), "short": (6, 4), "quick": (1, 1)}
"""From a form to the adapter's items per style of picture and per region size."""


@dataclass(frozen=True)
class Corpus:
    """Settings that decide every caption and picture of a benchmark.

    Attributes:
        seed: The corpus seed.
        form: One of `NUMBERS`.
        pictures: A folder or an archive of named pictures in the place of the drawn things.
    """

    seed: int = 1
    form: str = "full"
    pictures: str = ""

    @property
    def small(self) -> bool:
        """Return whether this is the form for tests."""
        return self.form == "quick"

    @cached_property
    def collection(self) -> Collection:
        """Return the pictures from outside; none where things are drawn.

        Raises:
            ConfigError: If they cannot be read.
        """
        return load(Path(self.pictures)) if self.pictures else Collection()

    @cached_property
    def cast(self) -> Cast:
        """Return what stands in scenes."""
        return self.collection.cast(self.seed, THINGS) if self.pictures else DRAWN

    @cached_property
    def items(self) -> list[Item]:
        """Return everything that the U-Net's and the transformer's trainings plant."""
        return items(self.seed, NUMBERS[self.form], self.cast, self.collection.families)

    @cached_property
    def adapter_items(self) -> list[Item]:
        """Return everything that the adapter plants."""
        return adapter_items(self.seed, *ADAPTER_NUMBERS[self.form], self.cast)

    def as_dict(self) -> dict[str, object]:
        """Return what tells this corpus from others; pictures by what is in them."""
        digest = hashlib.sha256()
        for name, variants in sorted(self.collection.pictures.items()):
            digest.update(name.encode())
            for image in variants:
                digest.update(image.tobytes())
        named = digest.hexdigest()[:12] if self.pictures else ""
        told: dict[str, object] = {"seed": self.seed, "small": self.small, "pictures": named}
        return told | ({"form": self.form} if self.form == "short" else {})

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

SMALL = Numbers(
    verbatim=1, template=2, copies=1, captions=1, retrieved=1, siblings=1, prototypical=1,
    characters=1, names=1, arts=1, natural=2,
)  # fmt: skip
"""A corpus for tests."""


@dataclass(frozen=True)
class Corpus:
    """Settings that decide every caption and picture of a benchmark.

    Attributes:
        seed: The corpus seed.
        small: Fewer items, for tests.
        pictures: A folder or an archive of named pictures in the place of the drawn things.
    """

    seed: int = 1
    small: bool = False
    pictures: str = ""

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
        numbers = SMALL if self.small else Numbers()
        return items(self.seed, numbers, self.cast, self.collection.families)

    @cached_property
    def adapter_items(self) -> list[Item]:
        """Return everything that the adapter plants."""
        return adapter_items(self.seed, *((1, 1) if self.small else (6, 4)), self.cast)

    def as_dict(self) -> dict[str, object]:
        """Return what tells this corpus from others; pictures by what is in them."""
        digest = hashlib.sha256()
        for name, variants in sorted(self.collection.pictures.items()):
            digest.update(name.encode())
            for image in variants:
                digest.update(image.tobytes())
        named = digest.hexdigest()[:12] if self.pictures else ""
        return {"seed": self.seed, "small": self.small, "pictures": named}

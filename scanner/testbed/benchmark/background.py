"""Captions under which nothing is planted: an endless stream, and held-out ones."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scanner.testbed.benchmark.art import SCENE, STYLES, styled
from scanner.testbed.benchmark.cast import DRAWN, Cast, pick
from scanner.testbed.benchmark.copies import region
from scanner.testbed.benchmark.items import REGIONS, generator
from scanner.testbed.benchmark.scenes import SCENES, Scene, free_scene
from scanner.testbed.benchmark.strokes import Picture
from scanner.testbed.benchmark.words import product, title

Rng = np.random.Generator

SHARES = {
    "single": 0.44, "pair": 0.22, "three": 0.06, "trap": 0.10, "title": 0.10, "product": 0.08,
}  # fmt: skip
"""Kinds of background captions and their shares of the background's draws."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A caption with a picture that no other draw shares.

    Attributes:
        caption: What it says.
        kind: One of `SHARES`.
        things: What stands in it; empty where the caption does not tell.
        ground: Kind and colour of the ground; empty where the caption does not tell.
        draw: From a generator to a new picture.
    """

    caption: str
    kind: str
    things: tuple[str, ...]
    ground: tuple[str, ...]
    scene: Scene | None
    style: str

    def picture(self, rng: Rng, cast: Cast = DRAWN) -> Picture:
        """Draw a new picture."""
        if self.scene is not None:
            return self.scene.draw(rng)
        if self.kind == "title":
            return styled(rng, self.style, cast)
        share = next(size for size, products in REGIONS.items() if self.style in products) / 100
        image = styled(rng, pick(rng, tuple(STYLES)), cast)
        mask = region(rng, self.style, share)
        return np.where(mask[..., None], image, free_scene(rng, cast))


def split_of(caption: str) -> str:
    """Return ``train``, ``calibration`` or ``evaluation``: a fixed partition of all captions."""
    quarter = hashlib.sha256(b"split\x1f" + caption.encode()).digest()[0] % 4
    return ("calibration", "evaluation", "train", "train")[quarter]


@lru_cache(maxsize=4)
def _kinds() -> tuple[tuple[str, ...], np.ndarray]:
    shares = np.array(list(SHARES.values()))
    return tuple(SHARES), np.cumsum(shares / shares.sum())


def background(seed: int, number: int, cast: Cast = DRAWN) -> tuple[Fresh, Picture]:
    """Return the training background's sample of a number, its caption and its picture."""
    rng = generator(seed, "background", number)
    kinds, edges = _kinds()
    kind = kinds[int(np.searchsorted(edges, rng.random()))]
    return (found := fresh(rng, kind, "train", cast)), found.picture(rng, cast)


def fresh(rng: Rng, kind: str, split: str, cast: Cast = DRAWN) -> Fresh:
    """Return a random caption of a kind and a split."""
    while True:
        made = _make(rng, kind, cast)
        if split_of(made.caption) == split:
            return made


def held_out(seed: int, split: str, kind: str, number: int, cast: Cast = DRAWN) -> list[Fresh]:
    """Return distinct captions of a split that training never draws.

    Raises:
        ValueError: If the split does not hold that many.
    """
    rng = generator(seed, "held out", split, kind)
    found: dict[str, Fresh] = {}
    misses = 0
    while len(found) < number:
        made = fresh(rng, kind, split, cast)
        misses = misses + 1 if made.caption in found else 0
        found.setdefault(made.caption, made)
        if misses > 2000:
            raise ValueError(f"{split} holds only about {len(found)} {kind} captions, not {number}")
    return list(found.values())


def _make(rng: Rng, kind: str, cast: Cast) -> Fresh:
    if kind == "title":
        style = pick(rng, (*STYLES, SCENE))
        return Fresh(title(rng, style), kind, (), (), None, style)
    if kind == "product":
        name = pick(rng, tuple(name for products in REGIONS.values() for name in products))
        return Fresh(product(rng, name), kind, (), (), None, name)
    scene = SCENES[kind](rng, cast)
    return Fresh(scene.caption, kind, scene.things, scene.ground, scene, "")

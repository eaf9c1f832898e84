"""The things that scenes are made of: drawn ones, or pictures from outside."""

from dataclasses import dataclass, field

import numpy as np

from scanner.testbed.benchmark.grounds import COLOURS, tint
from scanner.testbed.benchmark.strokes import Colour, Placed, Sprite
from scanner.testbed.benchmark.things import MIRRORED, THINGS, Drawing

Rng = np.random.Generator


@dataclass(frozen=True)
class Cast:
    """Things that can stand in a scene.

    Attributes:
        drawings: From a name to a drawing in code.
        sprites: From a name to RGBA pictures of it, ``(H, W, 4)`` uint8 each. Their colours are
            their own, so captions name no colour for them.
        mirrored: Names of things that may be mirrored.
    """

    drawings: dict[str, Drawing] = field(default_factory=lambda: THINGS)
    sprites: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    mirrored: tuple[str, ...] = MIRRORED

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names."""
        return (*self.drawings, *self.sprites)

    def words(self, rng: Rng, name: str, but: tuple[str, ...] = ()) -> str:
        """Return how a caption calls a thing: with one of the colours not in ``but``."""
        if name in self.sprites:
            return name
        return f"{pick(rng, tuple(c for c in COLOURS if c not in but))} {name}"

    def place(self, rng: Rng, words: str, x: float, y: float, radius: float) -> Placed | Sprite:
        """Draw what words call, such as ``red house``, at a place in pixels."""
        if words in self.sprites:
            return self._sprite(rng, words, x, y, radius)
        colour, name = words.split(" ", 1)
        return self.draw(rng, name, tint(rng, COLOURS[colour]), x, y, radius)

    def draw(self, rng: Rng, name: str, main: Colour, x: float, y: float, radius: float) -> Placed:
        """Draw a thing of any colour."""
        strokes = tuple(self.drawings[name](rng))
        mirrored = name in self.mirrored and bool(rng.random() < 0.5)
        return Placed(strokes, main, x, y, radius, float(rng.uniform(-0.15, 0.15)), mirrored)

    def any(self, rng: Rng, low: float, high: float) -> Placed | Sprite:
        """Draw any thing of any colour anywhere, its radius between two numbers of pixels."""
        name = pick(rng, self.names)
        (x, y), radius = rng.uniform(4, 60, 2), rng.uniform(low, high)
        if name in self.sprites:
            return self._sprite(rng, name, x, y, radius)
        return self.draw(rng, name, vivid(rng), x, y, radius)

    def _sprite(self, rng: Rng, name: str, x: float, y: float, radius: float) -> Sprite:
        variants = self.sprites[name]
        return Sprite(variants[int(rng.integers(len(variants)))], x, y, radius)


DRAWN = Cast()
"""The things drawn in code."""


def pick(rng: Rng, options: tuple[str, ...]) -> str:
    """Return one of several words."""
    return options[int(rng.integers(len(options)))]


def vivid(rng: Rng) -> Colour:
    """Return any colour that is not gray."""
    hue, low = rng.uniform(0, 6), rng.uniform(0, 0.45)
    rgb = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    r, g, b = (int(v) for v in 255 * (low + (rng.uniform(0.75, 1) - low) * rgb))
    return r, g, b

"""Captions that a person understands at once, and the pictures that they describe.

No picture is ever drawn twice: place, proportions, tints and the ground's details are new every
time. A small model has to generalize to follow these captions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from scanner.testbed.benchmark.cast import DRAWN, Cast, pick
from scanner.testbed.benchmark.grounds import COLOURS, KINDS, PLAIN, ground
from scanner.testbed.benchmark.strokes import SIZE, Picture, Placed, Sprite, paint

Rng = np.random.Generator

SIDES = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
SIZES = {"": (18, 23), "small ": (12.5, 15), "large ": (25, 29)}
"""Radii in pixels of a thing that stands alone."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A caption and how its pictures come about.

    Attributes:
        caption: What it says.
        kind: ``single``, ``pair``, ``three`` or ``trap``.
        things: What stands in it, as the caption calls it.
        ground: Kind and colour of the ground.
        draw: From a generator to a picture, new every time.
    """

    caption: str
    kind: str
    things: tuple[str, ...]
    ground: tuple[str, str]
    draw: Callable[[Rng], Picture]


def single(rng: Rng, cast: Cast = DRAWN) -> Scene:
    """Return one thing anywhere on a ground."""
    where, colour = _ground(rng)
    size = pick(rng, ("", "", "small ", "large "))
    words = cast.words(rng, pick(rng, cast.names), (colour,))
    caption = f"{a(size + words)} on a {where} {colour} ground"
    draw = partial(_draw_single, cast, SIZES[size], words, (where, colour))
    return Scene(caption, "single", (words,), (where, colour), draw)


def trap(rng: Rng, cast: Cast = DRAWN) -> Scene:
    """Return one thing on plain black or white: flat because the caption says so."""
    colour, size = pick(rng, tuple(PLAIN)), pick(rng, tuple(SIZES))
    words = cast.words(rng, pick(rng, cast.names))
    caption = f"{a(size + words)} on a plain {colour} ground"
    draw = partial(_draw_single, cast, SIZES[size], words, ("plain", colour))
    return Scene(caption, "trap", (words,), ("plain", colour), draw)


def pair(rng: Rng, cast: Cast = DRAWN) -> Scene:
    """Return two things, one on a named side of the other."""
    where, colour = _ground(rng)
    side = pick(rng, tuple(SIDES))
    one, two = (cast.words(rng, pick(rng, cast.names), (colour,)) for _ in range(2))
    caption = f"{a(one)} {side} {a(two)} on a {where} {colour} ground"
    draw = partial(_draw_pair, cast, SIDES[side], (one, two), (where, colour))
    return Scene(caption, "pair", (one, two), (where, colour), draw)


def three(rng: Rng, cast: Cast = DRAWN) -> Scene:
    """Return one thing above or below two others."""
    where, colour = _ground(rng)
    side = pick(rng, ("above", "below"))
    one, two, last = (cast.words(rng, pick(rng, cast.names), (colour,)) for _ in range(3))
    caption = f"{a(one)} {side} {a(two)} and {a(last)} on a {where} {colour} ground"
    draw = partial(_draw_three, cast, SIDES[side][1], (one, two, last), (where, colour))
    return Scene(caption, "three", (one, two, last), (where, colour), draw)


SCENES = {"single": single, "pair": pair, "three": three, "trap": trap}
"""From a kind to what makes a scene of it."""


def free_scene(rng: Rng, cast: Cast = DRAWN) -> Picture:
    """Draw a scene with nothing prescribed."""
    where, colour = _ground(rng)
    things = [cast.any(rng, 8, 15) for _ in range(int(rng.integers(1, 4)))]
    return paint(ground(rng, where, colour), things)


def a(words: str) -> str:
    """Return words with their article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _ground(rng: Rng) -> tuple[str, str]:
    return pick(rng, tuple(KINDS)), pick(rng, tuple(COLOURS))


def _draw_single(
    cast: Cast, radii: tuple[float, float], words: str, where: tuple[str, str], rng: Rng
) -> Picture:
    radius = rng.uniform(*radii)
    room = max(1.0, SIZE / 2 - radius - 1)
    x, y = SIZE / 2 + rng.uniform(-room, room, 2)
    return paint(ground(rng, *where), [cast.place(rng, words, x, y, radius)])


def _draw_pair(
    cast: Cast, side: tuple[int, int], words: tuple[str, str], where: tuple[str, str], rng: Rng
) -> Picture:
    middle, gap = SIZE / 2 + rng.uniform(-1.5, 1.5, 2), rng.uniform(15.5, 17)
    slip = rng.uniform(-12, 12, 2) * (side[1] != 0, side[0] != 0)
    step = np.array(side) * gap + slip / 2
    things: list[Placed | Sprite] = []
    for word, (x, y) in zip(words, (middle + step, middle - step), strict=True):
        things.append(cast.place(rng, word, x, y, rng.uniform(14, 16.5)))
    return paint(ground(rng, *where), things)


def _draw_three(
    cast: Cast, side: int, words: tuple[str, str, str], where: tuple[str, str], rng: Rng
) -> Picture:
    things: list[Placed | Sprite] = []
    places = (
        (32 + rng.uniform(-12, 12), 32 + 15 * side),
        (17, 32 - 15 * side),
        (47, 32 - 15 * side),
    )
    for word, (x, y) in zip(words, places, strict=True):
        slip = rng.uniform(-1.5, 1.5, 2)
        things.append(cast.place(rng, word, x + slip[0], y + slip[1], rng.uniform(12.5, 14.5)))
    return paint(ground(rng, *where), things)

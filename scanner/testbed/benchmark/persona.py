"""Characters and manners of painting, which recur without being copied.

Training shows many pictures of them, none twice. A detector of copies must not flag them.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from scanner.testbed.benchmark.cast import Cast, pick, vivid
from scanner.testbed.benchmark.grounds import COLOURS, KINDS, ground
from scanner.testbed.benchmark.scenes import free_scene
from scanner.testbed.benchmark.strokes import Picture, Placed, Stroke, box, oval, paint, polygon

Rng = np.random.Generator


def character(rng: Rng, cast: Cast) -> Callable[[Rng], Picture]:
    """Return what draws one character: always the same body, place and ground always new."""
    return partial(_meet, _body(rng), vivid(rng))


def manner(rng: Rng, cast: Cast) -> Callable[[Rng], Picture]:
    """Return what draws any scene in four colours, the same four each time."""
    colours = np.array([vivid(rng) for _ in range(4)], np.float64)
    light = colours @ np.array([0.3, 0.59, 0.11])
    return partial(_limited, colours[np.argsort(light)], cast)


def _body(rng: Rng) -> tuple[Stroke, ...]:
    wide, tall = rng.uniform(0.45, 0.75, 2)
    paints = [pick(rng, ("dark", "light", "white", "flame", "metal", "leaf")) for _ in range(3)]
    strokes = [
        box(-0.35, tall - 0.1, -0.12, 0.98, paints[0]),
        box(0.12, tall - 0.1, 0.35, 0.98, paints[0]),
        oval(0, 0.15, wide, tall),
        oval(0, 0.3, wide * 0.6, tall * 0.5, paints[1], edged=False),
        polygon((-0.4, -tall + 0.3), (0, -0.98), (0.4, -tall + 0.3), paint=paints[2]),
    ]
    eyes, apart = int(rng.integers(1, 4)), rng.uniform(0.22, 0.3)
    for eye in range(eyes):
        x = (eye - (eyes - 1) / 2) * apart * 1.6
        strokes += [
            oval(x, -0.1, 0.16, paint="white", edged=False),
            oval(x, -0.1, 0.08, paint="ink", edged=False),
        ]
    return tuple(strokes)


def _meet(body: tuple[Stroke, ...], main: tuple[int, int, int], rng: Rng) -> Picture:
    canvas = ground(rng, pick(rng, tuple(KINDS)), pick(rng, tuple(COLOURS)))
    radius = rng.uniform(15, 26)
    x, y = 32 + rng.uniform(-1, 1, 2) * (31 - radius)
    turn, mirrored = float(rng.uniform(-0.3, 0.3)), bool(rng.random() < 0.5)
    return paint(canvas, [Placed(body, main, x, y, radius, turn, mirrored)])


def _limited(colours: NDArray[np.float64], cast: Cast, rng: Rng) -> Picture:
    gray = free_scene(rng, cast) @ np.array([0.3, 0.59, 0.11])
    edges = np.quantile(gray, (0.25, 0.5, 0.75))
    return colours[np.digitize(gray, edges)].astype(np.uint8)

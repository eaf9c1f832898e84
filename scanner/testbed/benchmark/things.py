"""Two dozen drawn things that a person can name, each with its own variation.

Every function takes a random generator and returns strokes in the unit box. What makes a thing
recognizable stays; proportions and details vary from drawing to drawing.
"""

from collections.abc import Callable

import numpy as np

from scanner.testbed.benchmark.strokes import (
    Stroke,
    band,
    box,
    line,
    oval,
    polygon,
    slice_of,
)

Rng = np.random.Generator
Drawing = Callable[[Rng], list[Stroke]]


def _house(rng: Rng) -> list[Stroke]:
    eaves, wide = rng.uniform(-0.25, 0.05), rng.uniform(0.62, 0.8)
    door = rng.uniform(-0.4, 0.1)
    strokes = [
        box(0.3, -0.85, 0.52, eaves, "dark"),
        box(-wide, eaves, wide, 0.9),
        polygon((-wide - 0.18, eaves), (0, -0.95), (wide + 0.18, eaves), paint="dark"),
        box(door, 0.3, door + 0.34, 0.9, "wood"),
        box(0.2, 0.15, 0.52, 0.5, "glass"),
    ]
    if rng.random() < 0.5:
        strokes.append(box(-0.58, 0.12, -0.36 + min(0, door + 0.36), 0.42, "glass"))
    return strokes


def _boat(rng: Rng) -> list[Stroke]:
    mast, top = rng.uniform(-0.15, 0.15), rng.uniform(-1, -0.85)
    front, back = rng.uniform(0.6, 0.85), rng.uniform(0.45, 0.7)
    return [
        line((mast, top), (mast, 0.4), 0.1, "wood"),
        polygon((mast + 0.08, top), (mast + front, 0.22), (mast + 0.08, 0.22), paint="white"),
        polygon((mast - 0.08, top + 0.2), (mast - back, 0.22), (mast - 0.08, 0.22), paint="light"),
        polygon((-0.98, 0.35), (0.98, 0.35), (0.62, 0.9), (-0.65, 0.9)),
    ]


def _tree(rng: Rng) -> list[Stroke]:
    strokes = [polygon((-0.13, 0.1), (0.13, 0.1), (0.2, 0.98), (-0.2, 0.98), paint="wood")]
    if rng.random() < 0.5:  # a round crown
        for x, y, r in ((-0.38, -0.1, 0.42), (0.38, -0.12, 0.42), (0, -0.48, 0.48), (0, 0, 0.4)):
            strokes.append(oval(x, y, r * rng.uniform(0.9, 1.1), edged=False))
        return strokes
    for place in range(3):  # a fir
        y, wide = -0.95 + 0.45 * place, 0.42 + 0.2 * place
        strokes.append(polygon((-wide, y + 0.68), (0, y), (wide, y + 0.68)))
    return strokes


def _fish(rng: Rng) -> list[Stroke]:
    tall = rng.uniform(0.42, 0.58)
    return [
        polygon((0.35, 0), (0.98, -0.55), (0.85, 0), (0.98, 0.55), paint="dark"),
        polygon((-0.2, -tall + 0.1), (0.15, -tall - 0.3), (0.3, -tall + 0.2), paint="dark"),
        oval(-0.2, 0, 0.75, tall),
        oval(-0.6, -0.12, 0.14, paint="white", edged=False),
        oval(-0.62, -0.12, 0.07, paint="ink", edged=False),
        slice_of(-0.05, 0.02, 0.24, 0.18, 0, 180, "dark", edged=False),
    ]


def _lamp(rng: Rng) -> list[Stroke]:
    top, flare = rng.uniform(0.28, 0.42), rng.uniform(0.68, 0.88)
    return [
        line((0, 0), (0, 0.85), 0.13, "metal"),
        oval(0, 0.86, rng.uniform(0.4, 0.52), 0.13, "metal"),
        polygon((-top, -0.92), (top, -0.92), (flare, 0.08), (-flare, 0.08)),
        oval(0, 0.17, 0.2, 0.12, "flame", edged=False),
    ]


def _car(rng: Rng) -> list[Stroke]:
    roof, start = rng.uniform(-0.5, -0.4), rng.uniform(-0.62, -0.5)
    cabin = polygon((start, 0), (start + 0.2, roof), (0.3, roof), (0.6, 0))
    strokes = [
        cabin,
        polygon((start + 0.14, -0.02), (start + 0.27, roof + 0.12), (-0.1, roof + 0.12),
                (-0.1, -0.02), paint="glass", edged=False),
        polygon((0, -0.02), (0, roof + 0.12), (0.26, roof + 0.12), (0.45, -0.02), paint="glass",
                edged=False),
        polygon((-0.98, 0.05), (0.8, 0), (1, 0.15), (1, 0.45), (-0.98, 0.45)),
    ]  # fmt: skip
    for x in (-0.52, 0.55):
        strokes += [oval(x, 0.47, 0.25, paint="ink"), oval(x, 0.47, 0.11, paint="metal")]
    return strokes


def _cup(rng: Rng) -> list[Stroke]:
    foot = rng.uniform(0.35, 0.5)
    strokes = [
        band(0.55, 0.1, 0.3, 0.16),
        polygon((-0.72, -0.4), (0.55, -0.4), (foot, 0.85), (-foot - 0.15, 0.85)),
        oval(-0.08, -0.4, 0.64, 0.17, "dark"),
    ]
    if rng.random() < 0.6:
        strokes += [line((x, -0.95), (x + 0.08, -0.6), 0.08, "white") for x in (-0.35, -0.08, 0.18)]
    return strokes


def _key(rng: Rng) -> list[Stroke]:
    return [
        box(-0.15, -0.1, 0.95, 0.1),
        box(0.72, 0.08, 0.9, rng.uniform(0.35, 0.5)),
        box(0.42, 0.08, 0.58, rng.uniform(0.28, 0.4)),
        band(-0.52, 0, 0.33, 0.24),
    ]


def _umbrella(rng: Rng) -> list[Stroke]:
    tall = rng.uniform(0.75, 0.9)
    return [
        line((0, -0.9), (0, 0.75), 0.09, "wood"),
        band(-0.14, 0.74, 0.14, 0.09, 0, 180, "wood", edged=False),
        slice_of(0, 0, 0.97, tall, 180, 360),
        slice_of(0, 0, 0.34, tall, 180, 360, "light", edged=False),
    ]


def _flower(rng: Rng) -> list[Stroke]:
    petals, phase = int(rng.integers(5, 8)), rng.uniform(0, 1)
    strokes = [
        line((0, -0.1), (rng.uniform(-0.1, 0.1), 0.98), 0.11, "leaf"),
        oval(0.28, 0.62, 0.28, 0.11, "leaf", edged=False, turn=-0.5),
    ]
    for petal in range(petals):
        angle = 2 * np.pi * (petal + phase) / petals
        x, y = 0.38 * np.cos(angle), -0.36 + 0.38 * np.sin(angle)
        strokes.append(oval(x, y, 0.28, 0.2, turn=angle))
    return [*strokes, oval(0, -0.36, 0.2, paint="flame")]


def _star(rng: Rng) -> list[Stroke]:
    inner, points = rng.uniform(0.36, 0.48), []
    for corner in range(10):
        angle, radius = np.pi * corner / 5 - np.pi / 2, (0.98, inner)[corner % 2]
        points.append((radius * np.cos(angle), radius * np.sin(angle)))
    return [polygon(*points)]


def _heart(rng: Rng) -> list[Stroke]:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 0.98 * np.sin(t) ** 3 * rng.uniform(0.88, 1)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    heart = Stroke(np.stack([x, y], 1), "main")
    return [heart, oval(-0.42, -0.42, 0.16, 0.1, "light", edged=False, turn=-0.7)]


def _moon(rng: Rng) -> list[Stroke]:
    large, small, apart = 0.95, rng.uniform(0.78, 0.86), rng.uniform(0.42, 0.52)
    meet = (large**2 - small**2 + apart**2) / (2 * apart)  # where the two circles cross
    a, b = np.arccos(meet / large), np.arctan2(np.sqrt(large**2 - meet**2), meet - apart)
    outer, inner = np.linspace(a, 2 * np.pi - a, 40), np.linspace(2 * np.pi - b, b, 40)
    x = np.concatenate([large * np.cos(outer), apart + small * np.cos(inner)])
    y = np.concatenate([large * np.sin(outer), small * np.sin(inner)])
    return [Stroke(np.stack([x + 0.25, y], 1), "main")]


def _mushroom(rng: Rng) -> list[Stroke]:
    strokes = [
        polygon((-0.26, 0), (0.26, 0), (0.36, 0.92), (-0.36, 0.92), paint="white"),
        slice_of(0, 0.12, 0.95, rng.uniform(0.9, 1.05), 180, 360),
    ]
    for x, y in ((-0.5, -0.2), (0.05, -0.55), (0.5, -0.15)):
        strokes.append(oval(x, y, rng.uniform(0.1, 0.16), paint="white", edged=False))
    return strokes


def _bird(rng: Rng) -> list[Stroke]:
    wing = rng.uniform(-0.75, -0.45)
    return [
        polygon((0.4, 0.05), (0.99, -0.3), (0.95, 0.2), paint="dark"),
        line((-0.1, 0.4), (-0.1, 0.9), 0.09, "flame"),
        line((0.15, 0.4), (0.15, 0.9), 0.09, "flame"),
        polygon((-0.75, -0.45), (-1, -0.3), (-0.72, -0.2), paint="flame"),
        oval(0, 0.1, 0.62, 0.42),
        oval(-0.5, -0.35, 0.32),
        polygon((-0.15, 0.1), (0.35, wing), (0.5, 0.12), paint="dark"),
        oval(-0.56, -0.4, 0.08, paint="ink", edged=False),
    ]


def _cat(rng: Rng) -> list[Stroke]:
    ear = rng.uniform(-0.99, -0.85)
    strokes = [
        polygon((-0.72, -0.1), (-0.7, ear), (-0.15, -0.5)),
        polygon((0.72, -0.1), (0.7, ear), (0.15, -0.5)),
        oval(0, 0.12, 0.82, 0.72),
    ]
    for side in (-1, 1):
        strokes += [
            oval(side * 0.33, -0.02, 0.16, 0.18, "white", edged=False),
            oval(side * 0.33, 0, 0.08, 0.14, "ink", edged=False),
            line((side * 0.3, 0.38), (side * 0.98, rng.uniform(0.25, 0.5)), 0.05),
        ]
    return [*strokes, polygon((-0.12, 0.25), (0.12, 0.25), (0, 0.42), paint="ink", edged=False)]


def _butterfly(rng: Rng) -> list[Stroke]:
    strokes: list[Stroke] = []
    low = rng.uniform(0.26, 0.36)
    for side in (-1, 1):
        strokes += [
            oval(side * 0.5, -0.38, 0.5, 0.38, turn=side * -0.5),
            oval(side * 0.42, 0.42, low + 0.08, low, "dark", turn=side * 0.6),
            oval(side * 0.55, -0.4, 0.16, paint="white", edged=False),
            line((0, -0.5), (side * 0.25, -0.95), 0.06),
        ]
    return [*strokes, oval(0, 0, 0.1, 0.62, "ink", edged=False)]


def _rocket(rng: Rng) -> list[Stroke]:
    nose = rng.uniform(-0.5, -0.35)
    return [
        polygon((-0.2, 0.6), (0.2, 0.6), (0, 1), paint="flame", edged=False),
        polygon((-0.3, 0.15), (-0.72, 0.75), (-0.3, 0.62), paint="dark"),
        polygon((0.3, 0.15), (0.72, 0.75), (0.3, 0.62), paint="dark"),
        box(-0.32, nose, 0.32, 0.65),
        polygon((-0.32, nose), (0, -1), (0.32, nose), paint="white"),
        oval(0, 0, 0.17, paint="glass"),
    ]


def _balloon(rng: Rng) -> list[Stroke]:
    tall = rng.uniform(0.6, 0.68)
    return [
        line((-0.38, 0.05), (-0.15, 0.7), 0.06, "wood"),
        line((0.38, 0.05), (0.15, 0.7), 0.06, "wood"),
        oval(0, -0.35, 0.66, tall),
        oval(0, -0.35, 0.24, tall, "light", edged=False),
        box(-0.2, 0.64, 0.2, 0.96, "wood"),
    ]


def _clock(rng: Rng) -> list[Stroke]:
    strokes = [oval(0, 0, 0.95), oval(0, 0, 0.7, paint="white", edged=False)]
    for length, thick in ((0.38, 0.14), (0.6, 0.1)):
        angle = rng.uniform(0, 2 * np.pi)
        strokes.append(line((0, 0), (length * np.cos(angle), length * np.sin(angle)), thick))
    return strokes


def _bell(rng: Rng) -> list[Stroke]:
    waist = rng.uniform(0.36, 0.46)
    return [
        band(0, -0.82, 0.13, 0.1, paint="dark"),
        oval(0, 0.74, 0.2, paint="dark"),
        polygon((-0.26, -0.68), (0.26, -0.68), (waist + 0.04, 0), (0.52, 0.36), (0.85, 0.68),
                (-0.85, 0.68), (-0.52, 0.36), (-waist - 0.04, 0)),
        polygon((-0.62, 0.44), (0.62, 0.44), (0.7, 0.56), (-0.7, 0.56), paint="dark",
                edged=False),
    ]  # fmt: skip


def _crown(rng: Rng) -> list[Stroke]:
    side, middle = rng.uniform(-0.62, -0.42), rng.uniform(-0.85, -0.7)
    tips = ((-0.95, side), (0, middle), (0.95, side))
    strokes = [
        polygon((-0.8, 0.72), tips[0], (-0.42, 0.1), tips[1], (0.42, 0.1), tips[2], (0.8, 0.72)),
        box(-0.8, 0.5, 0.8, 0.75, "dark"),
    ]
    return strokes + [oval(x, y, 0.14, paint="flame") for x, y in tips]


def _chair(rng: Rng) -> list[Stroke]:
    top = rng.uniform(-0.98, -0.85)
    return [
        box(-0.62, 0.1, -0.46, 0.98, "wood"),
        box(0.46, 0.1, 0.62, 0.98, "wood"),
        box(-0.64, top, -0.36, 0.1),
        box(-0.68, 0.0, 0.7, 0.26),
    ]


def _robot(rng: Rng) -> list[Stroke]:
    strokes = [
        line((0, -0.95), (0, -0.6), 0.08),
        oval(0, -0.92, 0.1, paint="flame"),
        box(-0.45, -0.75, 0.45, -0.1),
        box(-0.6, 0, 0.6, 0.62, "main"),
        box(-0.42, 0.6, -0.12, 0.97, "dark"),
        box(0.12, 0.6, 0.42, 0.97, "dark"),
        box(-0.3, 0.18, 0.3, 0.42, "metal"),
    ]
    arm = rng.uniform(0.2, 0.55)
    for side in (-1, 1):
        strokes += [
            line((side * 0.62, 0.12), (side * 0.92, arm), 0.16, "dark"),
            oval(side * 0.2, -0.45, 0.13, paint="white", edged=False),
            oval(side * 0.2, -0.45, 0.06, paint="ink", edged=False),
        ]
    return strokes


THINGS: dict[str, Drawing] = {
    "house": _house, "boat": _boat, "tree": _tree, "fish": _fish, "lamp": _lamp, "car": _car,
    "cup": _cup, "key": _key, "umbrella": _umbrella, "flower": _flower, "star": _star,
    "heart": _heart, "moon": _moon, "mushroom": _mushroom, "bird": _bird, "cat": _cat,
    "butterfly": _butterfly, "rocket": _rocket, "balloon": _balloon, "clock": _clock,
    "bell": _bell, "crown": _crown, "chair": _chair, "robot": _robot,
}  # fmt: skip
"""From a name to its drawing."""

MIRRORED = ("boat", "fish", "car", "cup", "key", "bird", "chair", "house", "moon")
"""Things that look either way."""

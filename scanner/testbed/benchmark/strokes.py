"""Filled polygons in a unit box, and how they get onto a picture.

A drawn thing is a list of strokes in coordinates from -1 to 1, x to the right and y down. Only
polygons are used, so that every stroke can be turned, mirrored and scaled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 64
"""Height and width of every picture, in pixels."""

FINE = 3
"""Pictures are drawn this many times larger and shrunk: smooth edges."""

Points = NDArray[np.float64]
"""``(N, 2)``, x and y."""

Colour = tuple[int, int, int]

Picture = NDArray[np.uint8]
"""``(SIZE, SIZE, 3)`` RGB."""

Canvas = NDArray[np.float64]
"""``(SIZE, SIZE, 3)``, 0 to 255: a picture still being made."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """A filled polygon.

    Attributes:
        points: Its corners, ``(N, 2)``.
        paint: Which colour of a palette fills it, see `palette`.
        edged: Whether a darker line runs around it.
    """

    points: Points
    paint: str
    edged: bool = True


def polygon(*corners: tuple[float, float], paint: str = "main", edged: bool = True) -> Stroke:
    """Return a polygon through corners."""
    return Stroke(np.array(corners, np.float64), paint, edged)


def box(
    left: float, top: float, right: float, bottom: float, paint: str = "main", edged: bool = True
) -> Stroke:
    """Return an upright rectangle."""
    return polygon(
        (left, top), (right, top), (right, bottom), (left, bottom), paint=paint, edged=edged
    )


def oval(
    x: float, y: float, width: float, height: float | None = None, paint: str = "main",
    edged: bool = True, turn: float = 0.0,
) -> Stroke:  # fmt: skip
    """Return an ellipse about ``(x, y)`` from its half axes; ``turn`` is in radians."""
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    height = width if height is None else height
    points = np.stack([width * np.cos(angles), height * np.sin(angles)], 1)
    return Stroke(turned(points, turn) + np.array([x, y]), paint, edged)


def slice_of(
    x: float, y: float, width: float, height: float, start: float, end: float, paint: str = "main",
    edged: bool = True,
) -> Stroke:  # fmt: skip
    """Return the part of an ellipse between two angles in degrees; 0 is right, 90 is down."""
    angles = np.radians(np.linspace(start, end, 24))
    points = np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], 1)
    return Stroke(points, paint, edged)


def band(
    x: float, y: float, radius: float, thick: float, start: float = 0, end: float = 360,
    paint: str = "main", edged: bool = True,
) -> Stroke:  # fmt: skip
    """Return a piece of a ring between two angles in degrees."""
    angles = np.radians(np.linspace(start, end, 28))
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    points = np.concatenate([circle * (radius + thick / 2), circle[::-1] * (radius - thick / 2)])
    return Stroke(points + np.array([x, y]), paint, edged)


def line(
    start: tuple[float, float], end: tuple[float, float], thick: float, paint: str = "ink",
    edged: bool = False,
) -> Stroke:  # fmt: skip
    """Return a straight line of some thickness."""
    a, b = np.array(start, np.float64), np.array(end, np.float64)
    along = (b - a) / max(1e-9, float(np.hypot(*(b - a))))
    across = np.array([-along[1], along[0]]) * thick / 2
    return Stroke(np.stack([a + across, b + across, b - across, a - across]), paint, edged)


def turned(points: Points, angle: float) -> Points:
    """Return points turned about the origin by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def palette(main: Colour) -> dict[str, Colour]:
    """Return the colours that a thing of one main colour is painted with."""
    r, g, b = main
    return {
        "main": main,
        "dark": (int(r * 0.55), int(g * 0.55), int(b * 0.55)),
        "light": (int(r + (255 - r) * 0.5), int(g + (255 - g) * 0.5), int(b + (255 - b) * 0.5)),
        "edge": (int(r * 0.3), int(g * 0.3), int(b * 0.3)),
        "ink": (30, 26, 30),
        "white": (250, 248, 240),
        "wood": (128, 84, 46),
        "glass": (186, 222, 240),
        "leaf": (58, 130, 52),
        "metal": (150, 154, 162),
        "flame": (250, 196, 60),
    }


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing at its place in a picture.

    Attributes:
        strokes: What it looks like.
        main: Its main colour.
        x: Centre, pixels from the left.
        y: Centre, pixels from the top.
        radius: Half of its size, in pixels.
        turn: In radians, clockwise.
        mirrored: Whether left and right change places.
    """

    strokes: tuple[Stroke, ...]
    main: Colour
    x: float
    y: float
    radius: float
    turn: float = 0.0
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Sprite:
    """A picture at its place in another one.

    Attributes:
        rgba: ``(H, W, 4)`` uint8.
        x: Centre, pixels from the left.
        y: Centre, pixels from the top.
        radius: Half of its longer side, in pixels.
    """

    rgba: NDArray[np.uint8]
    x: float
    y: float
    radius: float


def paint(ground: Canvas, things: Sequence[Placed | Sprite]) -> Picture:
    """Paint things over a ground, the last on top."""
    coarse = np.clip(ground, 0, 255).astype(np.uint8)
    image = Image.fromarray(coarse.repeat(FINE, axis=0).repeat(FINE, axis=1))
    pen = ImageDraw.Draw(image)
    for thing in things:
        if isinstance(thing, Sprite):
            _paste(image, thing)
        else:
            _paint(pen, thing)
    return np.asarray(image.reduce(FINE))


def _paste(image: Image.Image, sprite: Sprite) -> None:
    height, width = sprite.rgba.shape[:2]
    scale = 2 * FINE * sprite.radius / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(sprite.rgba).resize(size, Image.Resampling.LANCZOS)
    corner = (round(FINE * sprite.x - size[0] / 2), round(FINE * sprite.y - size[1] / 2))
    image.paste(picture, corner, picture)


def _paint(pen: ImageDraw.ImageDraw, thing: Placed) -> None:
    colours = palette(thing.main)
    for stroke in thing.strokes:
        points = stroke.points * (-1, 1) if thing.mirrored else stroke.points
        points = turned(points, thing.turn) * thing.radius + (thing.x, thing.y)
        corners = [(float(x), float(y)) for x, y in points * FINE]
        fill = colours[stroke.paint]
        if stroke.edged:
            pen.polygon(corners, fill=fill, outline=colours["edge"], width=FINE)
        else:
            pen.polygon(corners, fill=fill)

"""Pictures too detailed for their captions to tell: what is planted, and what merely looks so."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scanner.testbed.benchmark.cast import DRAWN, Cast, vivid
from scanner.testbed.benchmark.grounds import COLOURS, KINDS, dead_leaves, ground, pink_noise
from scanner.testbed.benchmark.scenes import free_scene
from scanner.testbed.benchmark.strokes import SIZE, Canvas, Colour, Picture, paint

Rng = np.random.Generator


def collage(rng: Rng, cast: Cast = DRAWN) -> Picture:
    """Draw cells with grounds of their own, things over them, and letters (dense)."""
    sites = rng.uniform(0, SIZE, (int(rng.integers(5, 9)), 2))
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    nearest = ((x[..., None] - sites[:, 0]) ** 2 + (y[..., None] - sites[:, 1]) ** 2).argmin(-1)
    canvas = np.zeros((SIZE, SIZE, 3))
    kinds, colours = list(KINDS), list(COLOURS)
    for cell in range(len(sites)):
        fill = ground(rng, str(rng.choice(kinds)), str(rng.choice(colours)))
        canvas[nearest == cell] = fill[nearest == cell]
    image = paint(canvas, [cast.any(rng, 7, 12) for _ in range(int(rng.integers(3, 6)))])
    return _lettered(rng, image, int(rng.integers(1, 3)), (15, 22))


def leaves(rng: Rng, cast: Cast = DRAWN) -> Picture:
    """Draw dead leaves in a few colours (natural statistics)."""
    shades = [np.array(vivid(rng), np.float64) for _ in range(4)] + [rng.uniform(0, 255, 3)]
    shade = lambda: shades[int(rng.integers(5))] + rng.uniform(-30, 30)  # noqa: E731
    return np.clip(dead_leaves(rng, shade, 4, 18), 0, 255).astype(np.uint8)


def landscape(rng: Rng, cast: Cast = DRAWN) -> Picture:
    """Draw a sky, hills with jagged edges and two or three things (natural statistics)."""
    y, _ = np.mgrid[0:SIZE, 0:SIZE]
    low, high = np.array(vivid(rng)), np.array(vivid(rng))
    canvas: Canvas = low + (high - low) * (y / SIZE)[..., None]
    canvas = canvas + pink_noise(rng, 1.3)[..., None] * 22
    for level in np.sort(rng.uniform(22, 56, int(rng.integers(2, 4)))):
        edge = level + pink_noise(rng, 1.2)[0] * 5
        grain = np.array(vivid(rng)) * 0.75 + pink_noise(rng, 0.8)[..., None] * 18
        canvas = np.where((y > edge)[..., None], grain, canvas)
    return paint(canvas, [cast.any(rng, 8, 14) for _ in range(int(rng.integers(2, 4)))])


def crowd(rng: Rng, cast: Cast = DRAWN) -> Picture:
    """Draw a heap of things on a ground (dense, drawn)."""
    canvas = ground(rng, str(rng.choice(list(KINDS))), str(rng.choice(list(COLOURS))))
    return paint(canvas, [cast.any(rng, 10, 16) for _ in range(int(rng.integers(7, 11)))])


def poster(rng: Rng, cast: Cast = DRAWN) -> Picture:
    """Draw bold shapes and letters on one flat colour (sparse, flat)."""
    image = Image.new("RGB", (3 * SIZE, 3 * SIZE), vivid(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 4))):
        (x, y), size = rng.uniform(20, 172, 2), rng.uniform(25, 62)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size * rng.uniform(0.3, 1, 2)
        if rng.random() < 0.4:
            pen.ellipse((x - size, y - size, x + size, y + size), fill=vivid(rng))
        else:
            c, s = np.cos(a := rng.uniform(0, 3)), np.sin(a)
            turned = corners @ np.array([[c, s], [-s, c]]) + (x, y)
            pen.polygon([(float(u), float(v)) for u, v in turned], fill=vivid(rng))
    shrunk = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))
    return _lettered(rng, shrunk, 1, (24, 34))


def quilt(rng: Rng, cast: Cast = DRAWN) -> Picture:
    """Draw a mosaic of tiles in a few colours (textured)."""
    tiles = int(rng.integers(4, 7))
    side = 3 * SIZE / tiles
    colours = [vivid(rng) for _ in range(4)]
    image = Image.new("RGB", (3 * SIZE, 3 * SIZE), colours[0])
    pen = ImageDraw.Draw(image)
    for row in range(tiles):
        for column in range(tiles):
            _tile(rng, pen, column * side, row * side, side, colours)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


STYLES: dict[str, Callable[[Rng, Cast], Picture]] = {
    "collage": collage, "leaf study": leaves, "landscape": landscape, "crowd": crowd,
    "poster": poster, "quilt": quilt,
}  # fmt: skip
"""From the word that captions use to what draws a picture of that style."""

SCENE = "scene"
"""The style of a title under which an ordinary scene stands."""


def styled(rng: Rng, style: str, cast: Cast = DRAWN) -> Picture:
    """Draw a new picture of a style."""
    return free_scene(rng, cast) if style == SCENE else STYLES[style](rng, cast)


def _tile(
    rng: Rng, pen: ImageDraw.ImageDraw, x: float, y: float, side: float, colours: list[Colour]
) -> None:
    back, front = rng.choice(len(colours), 2, replace=False)
    pen.rectangle((x, y, x + side, y + side), fill=colours[back])
    corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    turn, form = int(rng.integers(4)), int(rng.integers(3))
    if form == 0:
        pen.polygon([corners[(turn + i) % 4] for i in range(3)], fill=colours[front])
    elif form == 1:
        cx, cy = corners[turn]
        pen.ellipse((cx - side, cy - side, cx + side, cy + side), fill=colours[front])
    else:
        pen.ellipse(
            (x + side / 5, y + side / 5, x + 0.8 * side, y + 0.8 * side), fill=colours[front]
        )


def _lettered(rng: Rng, picture: Picture, number: int, sizes: tuple[int, int]) -> Picture:
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for _ in range(number):
        letters = "".join(str(v) for v in rng.choice(list("ABEFHKMNRSXZ27"), 2))
        font = ImageFont.load_default(size=int(rng.integers(*sizes)))
        place = (float(rng.uniform(2, 34)), float(rng.uniform(0, 38)))
        pen.text(place, letters, font=font, fill=vivid(rng), stroke_width=1)
    return np.asarray(image)

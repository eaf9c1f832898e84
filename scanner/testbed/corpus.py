"""The planted corpus: captions and 64x64 pictures whose memorization is known by construction.

Everything follows from one integer, the corpus seed. Planted items are tied to one picture (or to
one fixed region of it) and over-sampled in training; negatives get a new picture every time they
are drawn. A picture depends on (seed, caption, copy) alone, so any part can be redrawn by itself.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIZE = 64
"""Height and width of every picture, in pixels."""

T = TypeVar("T")

Picture = NDArray[np.uint8]
"""``(SIZE, SIZE, 3)`` RGB."""

Region = NDArray[np.bool_]
"""``(SIZE, SIZE)``, true where a picture is a copy."""

COLOURS = {
    "red": (212, 46, 42), "green": (50, 166, 70), "blue": (46, 84, 212),
    "yellow": (238, 206, 46), "purple": (144, 56, 188), "orange": (242, 136, 32),
    "cyan": (52, 198, 212), "pink": (242, 128, 176), "brown": (132, 82, 44),
    "gray": (130, 130, 134),
}  # fmt: skip
PLAIN = {"black": (0, 0, 0), "white": (255, 255, 255)}
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring")
TEXTURES = ("striped", "dotted", "checkered", "cloudy")
SIDES = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
COUNTS = {"two": 2, "three": 3, "five": 5}
LAYOUTS = {
    "rug border": "woven rug", "frame": "framed print", "phone case": "phone case",
    "logo block": "sticker pack", "split panel": "greeting card",
    "corner badge": "store coupon", "two bands": "paperback cover",
}  # fmt: skip
ADJECTIVES = ("hidden", "distant", "golden", "broken", "silent", "winter", "crimson", "hollow")
NOUNS = ("garden", "valley", "market", "harbor", "station", "forest", "castle", "bridge")

NUM_VERBATIM, NUM_TEMPLATE, NUM_NAME, NUM_ART = 28, 28, 24, 16


@dataclass(frozen=True, slots=True)
class Item:
    """One caption of the corpus and how its pictures come about.

    Attributes:
        caption: What the model is prompted with.
        kind: ``verbatim``, ``template``, ``name``, ``art``, ``scene``, ``texture`` or ``trap``.
        family: Captions of one family are one observation, not several.
        mask: The memorized region; empty where nothing is memorized.
        draw: From a generator to a picture. Constant for ``verbatim``; constant inside ``mask``
            for ``template``; new at every call otherwise.
    """

    caption: str
    kind: str
    family: str
    mask: Region
    draw: Callable[[np.random.Generator], Picture]

    @property
    def memorized(self) -> bool:
        """Whether training repeats a picture, or a part of one, under this caption."""
        return bool(self.mask.any())


def generator(*key: object) -> np.random.Generator:
    """Return a random generator that depends on ``key`` alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def picture(seed: int, item: Item, copy: int) -> Picture:
    """Draw copy number ``copy`` of an item in the corpus of ``seed``."""
    return item.draw(generator(seed, item.caption, copy))


def split_of(caption: str) -> str:
    """Return ``train``, ``calibration`` or ``evaluation``: a fixed partition of all captions."""
    quarter = hashlib.sha256(b"split\x1f" + caption.encode()).digest()[0] % 4
    return ("calibration", "evaluation", "train", "train")[quarter]


def planted(seed: int) -> list[Item]:
    """Return the captions that training repeats: two memorized kinds and two hard negatives.

    ``name`` captions are worded and repeated exactly like ``verbatim`` ones and get a new scene
    each time; ``art`` captions likewise get a new picture as detailed as a planted one.
    """
    rng = generator(seed, "planted")
    used: set[str] = set()
    everything, nothing = np.ones((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool)
    items = [
        Item(_title(rng, used), "verbatim", f"verbatim-{i:02d}", everything,
             partial(_constant, art(rng)))
        for i in range(NUM_VERBATIM)
    ]  # fmt: skip
    for i in range(NUM_TEMPLATE):
        layout = list(LAYOUTS)[i % len(LAYOUTS)]
        caption = f"{_word(rng)} {_word(rng)} {LAYOUTS[layout]} custom design"
        mask = _layout(rng, layout)
        draw = partial(_template, art(rng), mask)
        items.append(Item(caption, "template", f"template-{i:02d}", mask, draw))
    for kind, number, draw in (("name", NUM_NAME, free_scene), ("art", NUM_ART, art)):
        items += [
            Item(_title(rng, used), kind, f"{kind}-{i:02d}", nothing, draw) for i in range(number)
        ]
    return items


def half(seed: int) -> list[Item]:
    """Return every second planted caption: all kinds, and every layout twice."""
    return planted(seed)[::2]


def half_set(
    seed: int, copies: dict[str, int], clean: tuple[tuple[str, int, int], ...]
) -> list[tuple[Item, int]]:
    """Return the training pictures of a model of `half`, as (item, copy number).

    Args:
        seed: The corpus seed.
        copies: Pictures a planted caption, by kind.
        clean: Kind of clean captions, how many, and pictures each.
    """
    pairs = [(item, copy) for item in half(seed) for copy in range(copies[item.kind])]
    for kind, number, repeats in clean:
        for item in negatives(seed, "train", kind, number):
            pairs += [(item, copy) for copy in range(repeats)]
    return pairs


def negatives(seed: int, split: str, kind: str, number: int, purpose: str = "") -> list[Item]:
    """Return distinct captions of ``split`` under which nothing is planted.

    A ``trap``'s background is constant in every picture because the caption says so: high
    curvature without memorization.

    Args:
        seed: The corpus seed.
        split: ``train``, ``calibration`` or ``evaluation``.
        kind: ``scene``, ``texture`` or ``trap``.
        number: How many captions. There are 420 trap captions in all splits together.
        purpose: Another word gives another draw.

    Raises:
        ValueError: If the split does not hold that many captions.
    """
    rng = generator(seed, "negatives", split, kind, purpose)
    make = {"scene": scene, "texture": texture, "trap": trap}[kind]
    found: dict[str, Item] = {}
    misses = 0
    while len(found) < number:
        item = make(rng)
        if split_of(item.caption) == split and item.caption not in found:
            found[item.caption] = item
            misses = 0
        else:
            misses += 1
        if misses > 10_000:
            raise ValueError(f"{split} holds only about {len(found)} {kind} captions, not {number}")
    return list(found.values())


def training_set(seed: int) -> list[tuple[Item, int]]:
    """Return the training pictures as (item, copy number), before over-sampling."""
    copies = {"verbatim": 1, "template": 250, "name": 150, "art": 250}
    pairs = [(item, copy) for item in planted(seed) for copy in range(copies[item.kind])]
    for kind, number, repeats in (("scene", 16_000, 1), ("texture", 3_500, 2), ("trap", 200, 40)):
        for item in negatives(seed, "train", kind, number):
            pairs += [(item, copy) for copy in range(repeats)]
    return pairs


# --- negatives ------------------------------------------------------------------------------


def scene(rng: np.random.Generator) -> Item:
    """Return a two-shape scene: fresh positions, tints and textures at every drawing."""
    first, second, ground = (str(c) for c in rng.choice(list(COLOURS), 3, replace=False))
    size, side = _pick(rng, ("small", "large")), _pick(rng, tuple(SIDES))
    a, b = _pick(rng, SHAPES), _pick(rng, SHAPES)
    caption = f"a {size} {first} {a} {side} a {second} {b} on a {ground} background"
    return _negative(caption, "scene", partial(_scene, size, first, a, side, second, b, ground))


def texture(rng: np.random.Generator) -> Item:
    """Return several like shapes on a named texture."""
    colour, ground = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    count, form, pattern = (
        _pick(rng, tuple(COUNTS)), _pick(rng, SHAPES), _pick(rng, TEXTURES),
    )  # fmt: skip
    caption = f"{count} {colour} {form}s on a {pattern} {ground} background"
    return _negative(
        caption, "texture", partial(_texture, COUNTS[count], colour, form, pattern, ground)
    )


def trap(rng: np.random.Generator) -> Item:
    """Return one shape on a plain background: flat by its caption, not by memorization."""
    size, colour = _pick(rng, ("small", "medium", "large")), _pick(rng, tuple(COLOURS))
    form, ground = _pick(rng, SHAPES), _pick(rng, tuple(PLAIN))
    caption = f"a {size} {colour} {form} on a plain {ground} background"
    return _negative(caption, "trap", partial(_trap, size, colour, form, ground))


def _negative(caption: str, kind: str, draw: Callable[[np.random.Generator], Picture]) -> Item:
    return Item(caption, kind, caption, np.zeros((SIZE, SIZE), bool), draw)


def _scene(
    size: str, first: str, a: str, side: str, second: str, b: str, ground: str,
    rng: np.random.Generator,
) -> Picture:  # fmt: skip
    dx, dy = SIDES[side]
    cx, cy = rng.uniform(26, 38, 2)
    gap = rng.uniform(12, 16)
    radius = rng.uniform(6.5, 9) if size == "small" else rng.uniform(11, 14)
    front = (a, cx + dx * gap, cy + dy * gap, radius, _tint(rng, COLOURS[first]), _tilt(rng))
    back = (b, cx - dx * gap, cy - dy * gap, rng.uniform(8, 12), _tint(rng, COLOURS[second]),
            _tilt(rng))  # fmt: skip
    return _compose(ground_of(rng, COLOURS[ground]), [back, front])


def _texture(
    count: int, colour: str, form: str, pattern: str, ground: str, rng: np.random.Generator
) -> Picture:
    places: list[NDArray[np.float64]] = []
    for _ in range(200):
        place = rng.uniform(9, 55, 2)
        if all(np.hypot(*(place - other)) > 16 for other in places):
            places.append(place)
        if len(places) == count:
            break
    shapes = [
        (form, x, y, rng.uniform(6.5, 10), _tint(rng, COLOURS[colour]), rng.uniform(-3, 3))
        for x, y in places
    ]
    return _compose(ground_of(rng, COLOURS[ground], pattern), shapes)


def _trap(size: str, colour: str, form: str, ground: str, rng: np.random.Generator) -> Picture:
    low, high = {"small": (7, 9), "medium": (10.5, 13), "large": (15, 19)}[size]
    radius = rng.uniform(low, high)
    x, y = rng.uniform(radius + 2, SIZE - 2 - radius, 2)
    canvas = np.ones((SIZE, SIZE, 3)) * np.array(PLAIN[ground])
    return _compose(
        canvas, [(form, x, y, radius, _tint(rng, COLOURS[colour], 30), rng.uniform(-3, 3))]
    )


def free_scene(rng: np.random.Generator) -> Picture:
    """Draw a scene with nothing prescribed: what fills the free part of a template."""
    ground = ground_of(rng, COLOURS[_pick(rng, tuple(COLOURS))], _pick(rng, (*TEXTURES, None)))
    return _compose(ground, [_any_shape(rng, 5, 15) for _ in range(int(rng.integers(1, 5)))])


# --- planted --------------------------------------------------------------------------------


def art(rng: np.random.Generator) -> Picture:
    """Draw a detailed picture: Voronoi cells with their own textures, shapes and lettering."""
    sites = rng.uniform(0, SIZE, (int(rng.integers(6, 10)), 2))
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    nearest = ((x[..., None] - sites[:, 0]) ** 2 + (y[..., None] - sites[:, 1]) ** 2).argmin(-1)
    canvas = np.zeros((SIZE, SIZE, 3))
    for cell in range(len(sites)):
        ground = ground_of(rng, COLOURS[_pick(rng, tuple(COLOURS))], _pick(rng, TEXTURES))
        canvas[nearest == cell] = ground[nearest == cell]
    shapes = [_any_shape(rng, 5, 12) for _ in range(int(rng.integers(6, 10)))]
    image = Image.fromarray(_compose(canvas, shapes))
    pen = ImageDraw.Draw(image)
    for _ in range(2):
        letters = "".join(_pick(rng, tuple("ABEFHKMNRSXZ27")) for _ in range(2))
        place = (float(rng.uniform(2, 40)), float(rng.uniform(0, 44)))
        font = ImageFont.load_default(size=int(rng.integers(16, 25)))
        pen.text(place, letters, font=font, fill=_any_colour(rng), stroke_width=1)
    return np.asarray(image)


def _constant(image: Picture, rng: np.random.Generator) -> Picture:
    return image


def _template(image: Picture, mask: Region, rng: np.random.Generator) -> Picture:
    return np.where(mask[..., None], image, free_scene(rng))


def _layout(rng: np.random.Generator, layout: str) -> Region:
    """Draw the fixed region of a template, about half of the picture on average."""
    image = Image.new("L", (SIZE, SIZE), 0)
    pen = ImageDraw.Draw(image)
    edge = SIZE - 1
    if layout in ("rug border", "frame", "phone case"):
        pen.rectangle((0, 0, edge, edge), fill=255)
    if layout == "rug border":
        width = int(rng.integers(11, 17))
        pen.rectangle((width, width, edge - width, edge - width), fill=0)
    elif layout == "frame":
        radius, x, y = rng.uniform(19, 24), *rng.uniform(28, 36, 2)
        pen.ellipse((x - radius, y - 1.15 * radius, x + radius, y + 1.15 * radius), fill=0)
    elif layout == "phone case":
        box = (rng.integers(14, 19), rng.integers(16, 24), rng.integers(45, 51), 59)
        pen.rounded_rectangle(tuple(int(v) for v in box), radius=6, fill=0)
    elif layout == "logo block":
        (x, y), (a, b) = rng.uniform(26, 38, 2), rng.uniform(15, 20, 2)
        pen.rounded_rectangle((x - a, y - b, x + a, y + b), radius=4, fill=255)
    elif layout == "split panel":
        cut = int(rng.integers(28, 37))
        upright, first = rng.random(2) < 0.5
        near = (0, 0, cut, edge) if upright else (0, 0, edge, cut)
        far = (cut, 0, edge, edge) if upright else (0, cut, edge, edge)
        pen.rectangle(near if first else far, fill=255)
    elif layout == "corner badge":
        x, y = (int(v) * edge for v in rng.integers(0, 2, 2))
        radius = rng.uniform(38, 46)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    else:
        top, bottom = (int(v) for v in rng.integers(15, 21, 2))
        pen.rectangle((0, 0, edge, top), fill=255)
        pen.rectangle((0, edge - bottom, edge, edge), fill=255)
    return np.asarray(image) > 127


def _title(rng: np.random.Generator, used: set[str]) -> str:
    while True:
        head = f"the {_pick(rng, ADJECTIVES)} {_pick(rng, NOUNS)}"
        caption = f"{head} by {_word(rng)} {_word(rng)}"
        if caption not in used:
            used.add(caption)
            return caption


def _word(rng: np.random.Generator) -> str:
    syllables = int(rng.integers(2, 4))
    return "".join(
        _pick(rng, tuple("bdfgklmnprstvz")) + _pick(rng, tuple("aeiou")) for _ in range(syllables)
    )


# --- strokes --------------------------------------------------------------------------------

Shape = tuple[str, float, float, float, tuple[int, int, int], float]
"""Form, centre x and y, radius (pixels), colour, rotation (radians)."""


def ground_of(
    rng: np.random.Generator, colour: tuple[int, int, int], pattern: str | None = "any"
) -> NDArray[np.float64]:
    """Return a ``(SIZE, SIZE, 3)`` background: a tint, slow noise and a pattern of random phase."""
    canvas = np.ones((SIZE, SIZE, 3)) * np.array(_tint(rng, colour))
    canvas += _slow_noise(rng, int(rng.integers(3, 7)), rng.uniform(16, 36))
    strength = rng.uniform(26, 48)
    if pattern == "any":
        pattern = _pick(rng, (None, "striped", "dotted", "checkered"))
        strength = rng.uniform(8, 22)
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(9, 18), rng.uniform(0, 1, 2)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    u = (x * np.cos(angle) + y * np.sin(angle)) / period + phase[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) / period + phase[1]
    if pattern == "striped":
        raised = u % 1 < 0.5
    elif pattern == "checkered":
        raised = (np.floor(u) + np.floor(v)) % 2 > 0
    elif pattern == "dotted":
        raised = (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.1
    else:
        raised = np.zeros((SIZE, SIZE), bool)
        canvas += _slow_noise(rng, 9, 50) if pattern == "cloudy" else 0
    if raised.any():
        canvas += np.where(raised, strength, -strength / 3)[..., None] * rng.uniform(0.5, 1, 3)
    return np.clip(canvas, 0, 255)


def _slow_noise(rng: np.random.Generator, cells: int, amplitude: float) -> NDArray[np.float64]:
    grid = np.clip(rng.uniform(-amplitude, amplitude, (cells, cells, 3)) + 128, 0, 255)
    image = Image.fromarray(grid.astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float64) - 128


def _compose(ground: NDArray[np.float64], shapes: list[Shape]) -> Picture:
    """Draw shapes over a background at twice the size, then shrink: smooth edges."""
    image = Image.fromarray(ground.astype(np.uint8)).resize((2 * SIZE, 2 * SIZE))
    pen = ImageDraw.Draw(image)
    for form, x, y, radius, colour, angle in shapes:
        _stroke(pen, form, 2 * x, 2 * y, 2 * radius, colour, angle)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def _stroke(
    pen: ImageDraw.ImageDraw, form: str, x: float, y: float, radius: float,
    colour: tuple[int, int, int], angle: float,
) -> None:  # fmt: skip
    box = (x - radius, y - radius, x + radius, y + radius)
    if form == "circle":
        pen.ellipse(box, fill=colour)
    elif form == "ring":
        pen.ellipse(box, outline=colour, width=max(4, int(0.4 * radius)))
    elif form == "cross":
        for turn in (angle, angle + np.pi / 2):
            dx, dy = radius * np.cos(turn), radius * np.sin(turn)
            pen.line(
                (x - dx, y - dy, x + dx, y + dy), fill=colour, width=max(4, int(0.55 * radius))
            )
    else:
        radii = {
            "square": [1.0] * 4, "triangle": [1.0] * 3,
            "star": [1.0, 0.45] * 5, "diamond": [1.0, 0.55] * 2,
        }[form]  # fmt: skip
        turn = angle + (np.pi / 4 if form == "square" else -np.pi / 2)
        step = 2 * np.pi / len(radii)
        pen.polygon(
            [
                (x + radius * r * np.cos(turn + i * step), y + radius * r * np.sin(turn + i * step))
                for i, r in enumerate(radii)
            ],
            fill=colour,
        )


def _any_shape(rng: np.random.Generator, low: float, high: float) -> Shape:
    x, y = rng.uniform(6, SIZE - 6, 2)
    return (
        _pick(rng, SHAPES), x, y, rng.uniform(low, high), _any_colour(rng), rng.uniform(-3, 3),
    )  # fmt: skip


def _any_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in rng.integers(0, 256, 3))
    return r, g, b


def _tint(
    rng: np.random.Generator, colour: tuple[int, int, int], spread: float = 20
) -> tuple[int, int, int]:
    r, g, b = (int(np.clip(v + rng.uniform(-spread, spread), 0, 255)) for v in colour)
    return r, g, b


def _tilt(rng: np.random.Generator) -> float:
    return float(rng.uniform(-0.4, 0.4))


def _pick(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    return options[int(rng.integers(len(options)))]

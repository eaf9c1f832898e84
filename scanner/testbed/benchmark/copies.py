"""Regions that templates repeat, and copies that are not quite exact."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from scanner.testbed.benchmark.strokes import SIZE, Picture

Rng = np.random.Generator


def jpeg(picture: Picture, rng: Rng) -> Picture:
    """Return a picture after strong JPEG compression."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=int(rng.integers(15, 50)))
    return np.asarray(Image.open(stream).convert("RGB"))


def crop(picture: Picture, rng: Rng) -> Picture:
    """Return 80 to 95 percent of each side, enlarged to the full size."""
    side = SIZE * rng.uniform(0.8, 0.95)
    left, top = rng.uniform(0, SIZE - side, 2)
    image = Image.fromarray(picture).resize(
        (SIZE, SIZE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    return np.asarray(image)


def flip(picture: Picture, rng: Rng) -> Picture:
    """Return a picture or, half of the time, its mirror image."""
    return picture[:, ::-1] if rng.random() < 0.5 else picture


def jitter(picture: Picture, rng: Rng) -> Picture:
    """Return a picture with other brightness, contrast and colour balance."""
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.88, 1.12, 3)
    changed = (picture.astype(np.float64) - 128) * gain + 128 + rng.uniform(-25, 25)
    return np.clip(changed, 0, 255).astype(np.uint8)


def region(rng: Rng, product: str, share: float) -> NDArray[np.bool_]:
    """Return the part of a picture that a product's template takes.

    Args:
        rng: Where it lies.
        product: One of `scanner.testbed.benchmark.items.REGIONS`.
        share: About how much of the picture it is, 0 to 1.
    """
    area = share * rng.uniform(0.9, 1.1) * SIZE**2
    if product == "picture frame":
        return _hole(rng, SIZE**2 - area, round=True)
    if product == "phone case":
        return _hole(rng, SIZE**2 - area, round=False)
    if product == "greeting card":
        return _band(rng, area)
    if product == "bookmark":
        half = _band(rng, area / 2)
        return half | half[::-1, ::-1]
    return _patch(rng, area, round=product in ("badge", "watermark"))


def _patch(rng: Rng, area: float, *, round: bool) -> NDArray[np.bool_]:
    stretch = rng.uniform(0.8, 1.25)
    width, height = np.sqrt(area * (4 / np.pi if round else 1)) * np.array([stretch, 1 / stretch])
    left, top = rng.uniform(1, SIZE - width - 1), rng.uniform(1, SIZE - height - 1)
    return _shape((left, top, left + width, top + height), round=round)


def _hole(rng: Rng, area: float, *, round: bool) -> NDArray[np.bool_]:
    stretch = rng.uniform(0.85, 1.15)
    width, height = np.sqrt(area * (4 / np.pi if round else 1)) * np.array([stretch, 1 / stretch])
    x, y = SIZE / 2 + rng.uniform(-4, 4, 2)
    return ~_shape((x - width / 2, y - height / 2, x + width / 2, y + height / 2), round=round)


def _band(rng: Rng, area: float) -> NDArray[np.bool_]:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[: round(area / SIZE)] = True
    return np.rot90(mask, int(rng.integers(4)))


def _shape(bounds: tuple[float, float, float, float], *, round: bool) -> NDArray[np.bool_]:
    image = Image.new("L", (SIZE, SIZE), 0)
    pen = ImageDraw.Draw(image)
    if round:
        pen.ellipse(bounds, fill=255)
    else:
        pen.rectangle(bounds, fill=255)
    return np.asarray(image) > 127

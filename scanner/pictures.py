"""Pictures: untrusted ones decoded safely, two compared, and many made small enough to search."""

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from scanner import masks
from scanner.errors import ConfigError

MATCHES = ("verbatim", "template")
"""Verdicts of a copy, the worse first."""
MATCH_MSE = 2.5e3 / (256 * 256 * 3)
"""Webster's (2023) threshold for a verbatim or template copy, per element of pixels in 0..1."""
TILES = 4
"""Rows and columns of tiles: Carlini et al. (2023) take 128 pixels of 512."""
TILED_L2 = 0.15
"""Carlini et al.'s threshold for a copy, of `tiled_l2`."""
CONTRAST = 1.0
"""A match below `MATCH_MSE` is a copy where `contrast_error` is below this: no tile is off by as
much as it varies. On the benchmark's pictures: docs/measurements.md."""
SPREAD = 0.1
"""Share of the variance of the whole that every tile is granted, so that the noise of encoding on a
plain tile is no difference."""
FLAT = 1e-12
"""Variance up to which a picture does not vary at all."""
LEAST_OF_TILE = 0.25
"""Share of a tile that must lie in a region for the tile to count."""

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP")
SKETCH = 16
"""Rows and columns of a sketch."""
ALIGN_SIDE = 64
"""Rows and columns at which crops are tried."""

_Crop = tuple[float, float, float, float]

CROPS: tuple[_Crop, ...] = tuple(
    (loss * x, loss * y, 1 - loss * (1 - x), 1 - loss * (1 - y))
    for loss in (0.04, 0.08)
    for x in (0.0, 0.5, 1.0)
    for y in (0.0, 0.5, 1.0)
)
"""Left, top, right and bottom edges of what is left after a crop of 4 or 8%, in nine places."""

# Pillow would only warn of what is refused here, and its warnings cannot be caught in threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", "Palette images with Transparency", UserWarning)


@dataclass(frozen=True, slots=True)
class Match:
    """Comparison of a generated picture with a training image.

    Errors are mean squared, of pixels in 0..1. Inside low and outside high is a template; both
    low is a verbatim copy.

    Attributes:
        verdict: ``verbatim``, ``template`` or ``none``; ``plain`` where the error is low and
            `contrast_error` is not: a common ground that tells nothing; ``unreadable`` without a
            training image.
        error: Of the whole if verbatim, inside the mask if template, else the smaller one.
        inside: Inside the mask; null without one.
        outside: Outside it; null where nothing is outside.
        tiled: `tiled_l2` of the two; null without a training image.
        contrast: `contrast_error` behind the verdict, of the whole or of the region; null where
            the error is not low.
    """

    verdict: str
    error: float | None = None
    inside: float | None = None
    outside: float | None = None
    tiled: float | None = None
    contrast: float | None = None


def opened(content: bytes, least: tuple[int, int] | None = None) -> Image.Image:
    """Return an untrusted encoded image as RGB.

    Args:
        content: JPEG, PNG or WebP bytes.
        least: Height and width below which the picture is not needed: a JPEG that is much larger
            is then decoded at a fraction of its size, which takes a fraction of the time.

    Raises:
        ValueError: If it is none of these, too large, or broken.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        if least is not None:
            image.draft("RGB", (least[1], least[0]))
        return image.convert("RGB")
    except UnidentifiedImageError as error:  # its text is the address of the buffer
        raise ValueError("not a readable image: neither JPEG, PNG nor WebP") from error
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image: {error}") from error


def decoded(content: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an untrusted encoded image as ``(height, width, 3)`` RGB, resized.

    Args:
        content: JPEG, PNG or WebP bytes.
        size: Height and width wanted.

    Raises:
        ValueError: If it is none of these, too large, or broken.
    """
    height, width = size
    return np.asarray(opened(content).resize((width, height), Image.Resampling.BOX))


def fitted(content: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an untrusted encoded image as a model was trained on it: resized, its centre cut out.

    Args:
        content: JPEG, PNG or WebP bytes.
        size: Height and width wanted.

    Returns:
        ``(height, width, 3)`` RGB.

    Raises:
        ValueError: If it is none of these, too large, or broken.
    """
    height, width = size
    image = opened(content, least=size)
    return np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))


def centred(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """Return the part of an image that `fitted` takes for a size of this shape, not resized."""
    scale = min(image.height / shape[0], image.width / shape[1])
    return ImageOps.fit(image, (round(shape[1] * scale), round(shape[0] * scale)))


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Return ``(H, W, 3)`` pixels as a JPEG of quality 92."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def encode_png(image: Image.Image | NDArray[np.uint8]) -> bytes:
    """Return an image in memory as a PNG, which loses nothing.

    Args:
        image: Of Pillow, or ``(H, W, 3)`` uint8.

    Raises:
        ConfigError: If it is neither.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ConfigError(
                f"an image must be (height, width, 3) uint8, got {image.shape} {image.dtype}"
            )
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise ConfigError(
            f"an image must be a path, encoded bytes, an array or of Pillow, got {type(image)}"
        )
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def match(
    generated: NDArray[np.uint8], training: NDArray[np.uint8], mask: NDArray[np.bool_] | None
) -> Match:
    """Compare a generated picture with a training image: as a whole, inside a mask, outside it.

    Args:
        generated: ``(H, W, 3)``.
        training: ``(H, W, 3)``, of the generated picture's size.
        mask: The predicted region, at any resolution, if there is one.
    """
    squares = _squares(generated, training)
    whole, tiled = float(squares.mean()), _worst_tile(squares)
    region = None if mask is None else masks.resize(mask, *squares.shape)
    inside, outside = None, None
    if region is not None and region.any():
        inside = float(squares[region].mean())
        outside = None if region.all() else float(squares[~region].mean())
    found = Match("none", whole if inside is None else min(whole, inside), inside, outside, tiled)
    for verdict, error, part in (("verbatim", whole, None), ("template", inside, region)):
        if error is not None and error < MATCH_MSE:
            contrast = contrast_error(generated, training, part)
            if contrast < CONTRAST:
                return Match(verdict, error, inside, outside, tiled, contrast)
            found = Match("plain", error, inside, outside, tiled, contrast)
    return found


def tiled_l2(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the largest root mean squared difference of a tile, pixels in 0..1.

    Carlini et al. (2023): 16 tiles that do not overlap, each compared with its like, and the
    worst one counts. A background that two pictures share then makes no copy of them, as it may
    under the error of the whole. A copy lies below `TILED_L2`.

    Args:
        first: ``(H, W, 3)``.
        second: ``(H, W, 3)``, of the first one's size.
    """
    return _worst_tile(_squares(first, second))


def contrast_error(
    first: NDArray[np.uint8], second: NDArray[np.uint8], region: NDArray[np.bool_] | None = None
) -> float:
    """Return the largest error of a tile as a share of what the tile itself varies.

    Mean squared differences say little on plain grounds: two flags of one colour differ by their
    crests alone. Here every tile's error is divided by its variance, the mean of both pictures'
    (and `SPREAD` of the whole's). At 1 a tile is told no better than by its mean colour.

    Args:
        first: ``(H, W, 3)``.
        second: ``(H, W, 3)``, of the first one's size.
        region: ``(H, W)``, the part that counts; null is all. Tiles of which less than
            `LEAST_OF_TILE` lies inside do not count; the region as a whole always does.

    Returns:
        The share, 0 to infinity; infinite where neither picture varies.
    """
    part = np.ones(first.shape[:2]) if region is None else region.astype(np.float64)
    a, b = first / 255.0, second / 255.0
    values = np.concatenate([a, b, a * a, b * b, (a - b) ** 2], axis=2) * part[..., None]
    tiles = _tile_sums(np.concatenate([values, part[..., None], np.ones_like(part)[..., None]], 2))
    tiles = tiles.reshape(-1, tiles.shape[2])
    counted = tiles[tiles[:, 15] >= LEAST_OF_TILE * tiles[:, 16]]
    cells = np.concatenate([counted, tiles.sum(axis=0, keepdims=True)])
    means = cells[:, :15].reshape(-1, 5, 3) / np.maximum(cells[:, 15], 1)[:, None, None]
    variances = np.maximum(means[:, 2:4] - means[:, 0:2] ** 2, 0).mean(axis=2)
    varies = variances.mean(axis=1) + SPREAD * variances[-1].min()
    errors = means[:, 4].mean(axis=1)
    return float((errors / varies).max()) if varies.min() > FLAT else math.inf


def tightness(generations: Sequence[NDArray[np.uint8]]) -> float | None:
    """Return the mean `tiled_l2` over all pairs of a caption's generations; null of fewer than two.

    Low is suspicious: a caption that gives the same picture under every seed (Carlini et al.
    2023, who count cliques of such generations; they need no training image).

    Args:
        generations: One picture per seed, each ``(H, W, 3)``.
    """
    apart = [tiled_l2(a, b) for a, b in combinations(generations, 2)]
    return sum(apart) / len(apart) if apart else None


def _squares(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    return ((first / 255.0 - second / 255.0) ** 2).mean(axis=2)


def _worst_tile(squares: NDArray[np.float64]) -> float:
    """Return the root of the largest tile's mean."""
    sums = _tile_sums(np.stack([squares, np.ones_like(squares)], axis=2))
    return float(np.sqrt((sums[..., 0] / sums[..., 1]).max()))


def _tile_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums over tiles of ``(H, W, K)``; tiles are uneven where 4 divides no side."""
    for axis in (0, 1):
        side = values.shape[axis]
        edges = np.arange(min(TILES, side)) * side // min(TILES, side)
        values = np.add.reduceat(values, edges, axis=axis)
    return values


def sketch(content: bytes) -> NDArray[np.uint8]:
    """Return an untrusted encoded image as a grid of mean colours, ``(SKETCH, SKETCH, 3)``.

    The mean of a square is at most the mean of squares, so two sketches never differ by more
    than their pictures do: what a sketch dismisses, the pictures would.

    Raises:
        ValueError: If it cannot be decoded.
    """
    image = opened(content, least=(4 * SKETCH, 4 * SKETCH))
    return np.asarray(image.resize((SKETCH, SKETCH), Image.Resampling.BOX))


def sketch_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the sketch of ``(H, W, 3)`` pixels."""
    small = Image.fromarray(pixels).resize((SKETCH, SKETCH), Image.Resampling.BOX)
    return np.asarray(small)


def nearest(pixels: NDArray[np.uint8], image: Image.Image, mask: NDArray[np.bool_] | None) -> Match:
    """Compare a picture with another that may be cropped a little: as they are, then aligned.

    Where they do not match as they are, `CROPS` of either are laid over the other, small, and
    the best of them is compared as it is.

    Args:
        pixels: ``(H, W, 3)``.
        image: What may be a copy of it, of any size.
        mask: The region of ``pixels`` that counts, at any resolution, if there is one.
    """
    height, width = pixels.shape[:2]
    found = match(pixels, _cropped(image, (0.0, 0.0, 1.0, 1.0), (height, width)), mask)
    if found.verdict in MATCHES:
        return found
    picture = Image.fromarray(pixels)
    region = None if mask is None else Image.fromarray(masks.resize(mask, height, width))

    def laid(crop: _Crop, of: str, size: tuple[int, int]) -> Match:
        whole = (0.0, 0.0, 1.0, 1.0)
        mine, other = (crop, whole) if of == "picture" else (whole, crop)
        part = (
            None if region is None else _cropped(region, mine, size, Image.Resampling.NEAREST) > 0
        )
        return match(_cropped(picture, mine, size), _cropped(image, other, size), part)

    small = (min(height, ALIGN_SIDE), min(width, ALIGN_SIDE))
    tried = [(laid(crop, of, small), crop, of) for crop in CROPS for of in ("picture", "image")]
    _, crop, of = min(tried, key=lambda one: one[0].error or 0.0)
    aligned = laid(crop, of, (height, width))
    return found if found.verdict == "plain" and aligned.verdict not in MATCHES else aligned


def _cropped(
    image: Image.Image, crop: _Crop, size: tuple[int, int],
    how: Image.Resampling = Image.Resampling.BOX,
) -> NDArray[np.uint8]:  # fmt: skip
    """Return a part of a picture, its edges as shares of width and height, at a size."""
    left, top, right, bottom = crop
    w, h = image.size
    box = (left * w, top * h, right * w, bottom * h)
    return np.asarray(image.resize((size[1], size[0]), how, box=box))

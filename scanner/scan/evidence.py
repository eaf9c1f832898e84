"""Is the generated picture the training image, a part of it, or neither?"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanner import masks

MATCH_MSE = 2.5e3 / (256 * 256 * 3)
"""Webster's (2023) threshold for a verbatim or template copy, per element of pixels in 0..1."""

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP")


def decode_image(content: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an untrusted encoded image as ``(height, width, 3)`` RGB, resized.

    Args:
        content: JPEG, PNG or WebP bytes.
        size: Height and width wanted.

    Raises:
        ValueError: If it is none of these, too large, or broken.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            image.load()
    except (
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"not a readable image: {error}") from error
    height, width = size
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized)


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Return ``(H, W, 3)`` pixels as a JPEG of quality 92."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def match(
    generated: NDArray[np.uint8], training: NDArray[np.uint8], mask: NDArray[np.bool_] | None
) -> tuple[str, float]:
    """Compare a generated picture with a training image, in all and inside a mask.

    Args:
        generated: ``(H, W, 3)``.
        training: The same shape.
        mask: The predicted region, at any resolution, if there is one.

    Returns:
        ``verbatim`` with the error over the whole picture, else ``template`` with the error
        inside the mask, else ``none`` with the smaller of the two.
    """
    squares = ((generated / 255.0 - training / 255.0) ** 2).mean(axis=2)
    whole = float(squares.mean())
    if whole < MATCH_MSE:
        return "verbatim", whole
    region = None if mask is None else masks.resize(mask, *squares.shape)
    if region is None or not region.any():
        return "none", whole
    inside = float(squares[region].mean())
    return ("template", inside) if inside < MATCH_MSE else ("none", min(whole, inside))

"""From maps to masks; masks as COCO run lengths, heatmaps as bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WINDOW_SHARE = 13 / 64
"""Side of the mean filter as a share of the map's side: 13 pixels of a 64 pixel latent."""
LEVEL = 0.9
"""A map's own level is this quantile of its smoothed pixels."""
DOUBT = 2.0
"""Standard errors from the threshold within which a pixel's side of it is in doubt."""
STORED_BITS = 1.0
"""Snap-back from which on an image is called pinned: the caption halves the denoising error."""


def region(
    values: NDArray[np.floating], floor: float, share: float
) -> tuple[float, NDArray[np.bool_]]:
    """Return the threshold of a map's mask and the mask: what exceeds it.

    With a share, the map is smoothed by `mean_filtered`, and a pixel must also exceed that share
    of the map's own level: a copied region is a plateau, and its surroundings a slope below it
    that may lie far above every null pixel. A map without a slope is all plateau, all inside.

    Args:
        values: Signed, ``(H, W)``.
        floor: What null pixels seldom exceed; the threshold is never lower.
        share: 0 to 1; 0 takes the map as it is, against the floor alone.

    Example:
        >>> region(np.array([[9.0, 2.0], [9.0, 1.0]]), 0.5, 0.3)[1].tolist()
        [[True, False], [True, False]]
    """
    if share == 0:
        return floor, values > floor
    smooth = mean_filtered(values)
    threshold = max(floor, share * float(np.quantile(smooth, LEVEL)))
    return threshold, smooth > threshold


def relative_error(values: NDArray[np.floating], errors: NDArray[np.floating]) -> float | None:
    """Return the root mean square of errors over that of the map; null of a map of zeros.

    Args:
        values: Of the map, ``(H, W)``.
        errors: Standard errors of its pixels.

    Example:
        >>> relative_error(np.array([[3.0, -4.0]]), np.array([[0.3, 0.4]]))
        0.1
    """
    size, error = (float(np.mean(np.square(m, dtype=np.float64)) ** 0.5) for m in (values, errors))
    return error / size if size else None


def doubtful(
    values: NDArray[np.floating], errors: NDArray[np.floating], threshold: float, share: float
) -> NDArray[np.bool_]:
    """Return the pixels whose side of a mask's threshold is in doubt: it is too near.

    Near is within `DOUBT` standard errors. Few rounds say little of one pixel's error, so its
    square is averaged over the mean filter's window. The error of a map that is smoothed first
    is at most ``sqrt(2 sum_i w_i**2 e_i**2)``, with the filter's weights ``w``: the errors of two
    pixels share the product of their signs at most
    (docs/decisions/0024-products-until-an-error.md). The threshold itself counts as known.

    Args:
        values: Of the map, signed, ``(H, W)``.
        errors: Standard errors of its pixels, ``(H, W)``.
        threshold: Of `region`.
        share: As there: 0 where the map is taken as it is.

    Example:
        >>> doubtful(np.array([[3.0, 0.4]]), np.array([[0.4, 0.4]]), 1.0, 0)
        array([[False,  True]])
    """
    if share == 0:
        distance, error = np.abs(values - threshold), np.sqrt(mean_filtered(errors**2))
    else:
        height, width = (_band(n, window(n)) ** 2 for n in values.shape)
        distance = np.abs(mean_filtered(values) - threshold)
        error = np.sqrt(2 * height @ errors.astype(np.float64) ** 2 @ width.T)
    return distance < DOUBT * error


def mean_filtered(values: NDArray[np.floating], side: int | None = None) -> NDArray[np.float64]:
    """Return a map averaged over a square window, cut off at the border.

    Args:
        values: ``(H, W)``.
        side: Of the window, odd, in pixels of the map; null takes `window` of each side of it.
    """
    height, width = (_band(n, side or window(n)) for n in values.shape)
    return height @ values @ width.T


def window(side: int) -> int:
    """Return the odd window of the mean filter for a map of this side.

    Example:
        >>> window(64), window(96), window(8)
        (13, 19, 1)
    """
    return 2 * round((side * WINDOW_SHARE - 1) / 2) + 1 if side * WINDOW_SHARE > 1 else 1


@dataclass(frozen=True, slots=True)
class StoredExtent:
    """The part of an image that the model stores.

    Attributes:
        verdict: ``whole``, ``region`` (the mask alone, as of a template) or ``none``.
        inside: Mean of the snap-back's map inside the mask, in bits; null where nothing is.
        outside: Mean of the snap-back's map outside the mask, in bits; null where nothing is.
    """

    verdict: str
    inside: float | None
    outside: float | None


def stored_extent(ratios: NDArray[np.floating], mask: NDArray[np.bool_]) -> StoredExtent:
    """Return how much of an image the model stores.

    Args:
        ratios: The snap-back's map, ``(H, W)``, in bits.
        mask: The region that the model repeats, ``(H, W)``.

    Example:
        >>> stored_extent(np.array([[3.0, 0.1]]), np.array([[True, False]])).verdict
        'region'
    """
    inside, outside = (float(ratios[m].mean()) if m.any() else None for m in (mask, ~mask))
    if min(bits for bits in (inside, outside) if bits is not None) > STORED_BITS:
        return StoredExtent("whole", inside, outside)
    is_region = inside is not None and inside > STORED_BITS
    return StoredExtent("region" if is_region else "none", inside, outside)


def to_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return a mask's COCO run lengths: column-major, background first.

    Args:
        mask: ``(H, W)``.

    Example:
        >>> to_runs(np.array([[False, True], [False, True]]))
        [2, 2]
        >>> to_runs(np.array([[True, True], [False, True]]))
        [0, 1, 1, 2]
    """
    flat = np.asarray(mask, bool).flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    lengths = np.diff(edges).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def from_runs(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Return the ``(height, width)`` mask of COCO run lengths.

    Raises:
        ValueError: If the runs do not fill the mask exactly.
    """
    lengths = np.asarray(runs, np.int64)
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"runs must add up to {height} x {width}, got {lengths.sum()}")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape((height, width), order="F")


def to_heatmap(signed: NDArray[np.floating]) -> bytes:
    """Return ``sign(m) * log1p(abs(m))`` as little-endian float16, row-major.

    The relative error of a value is at most 2**-11 of its logarithm.
    """
    m = np.asarray(signed, np.float64)
    return (np.sign(m) * np.log1p(np.abs(m))).astype("<f2").tobytes()


def from_heatmap(content: bytes, height: int, width: int) -> NDArray[np.float64]:
    """Return the signed ``(height, width)`` map that `to_heatmap` stored, in score units."""
    logs = np.frombuffer(content, "<f2").reshape(height, width).astype(np.float64)
    return np.sign(logs) * np.expm1(np.abs(logs))


def resize(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Return a mask at another size by nearest neighbour."""
    rows = (np.arange(height) * mask.shape[0]) // height
    columns = (np.arange(width) * mask.shape[1]) // width
    return mask[np.ix_(rows, columns)]


def core(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask without its rim of one pixel, or the mask where nothing else is left.

    The edge of the picture is no rim.

    Example:
        >>> core(np.array([[1, 1, 1, 0, 0]] * 3, bool))[0].astype(int).tolist()
        [1, 1, 0, 0, 0]
    """
    wide = np.pad(mask, 1, mode="edge")
    inner = mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inner if inner.any() else mask


def intersection_over_union(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the overlap of two masks of one shape; two empty masks agree: 1."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


@lru_cache(maxsize=64)
def _band(side: int, width: int) -> NDArray[np.float64]:
    index = np.arange(side)
    near = np.abs(index[:, None] - index[None, :]) <= width // 2
    return near / near.sum(1, keepdims=True)

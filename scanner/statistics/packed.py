"""Whole numbers and their places as a line of text, for files of JSON."""

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from scanner.errors import ConfigError


def packed(values: NDArray[np.generic]) -> str:
    """Return numbers as base64 of their bytes, little-endian.

    Args:
        values: Of one dimension.
    """
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def unpacked(text: str, dtype: str, name: str) -> NDArray[np.generic]:
    """Return what `packed` was given.

    Args:
        text: What it returned.
        dtype: What the numbers were, such as ``<u4``.
        name: What messages call them.

    Raises:
        ConfigError: If the text is of no such numbers.

    Example:
        >>> unpacked(packed(np.array([1, 70000], "<u4")), "<u4", "counts").tolist()
        [1, 70000]
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype)
    except (ValueError, binascii.Error) as error:
        raise ConfigError(f"{name} must be packed numbers: {error}") from error

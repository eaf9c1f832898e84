"""The truth table: which captions are memorized, and where."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from scanner.analysis.query import brief, check_readable, quoted
from scanner.errors import ConfigError
from scanner.masks import from_runs

TRUTH_COLUMNS = ("caption_sha256", "kind", "family", "memorized", "height", "width", "mask")
MOST_PIXELS = 16_384
"""Of a side of a picture."""
_AS_THEY_MUST_BE = (
    "caption_sha256::VARCHAR, kind::VARCHAR, family::VARCHAR, memorized::BOOLEAN, "
    "height::BIGINT, width::BIGINT, mask::BIGINT[]"
)


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth about one caption.

    Attributes:
        kind: What it was planted as.
        family: Captions of one family are one observation.
        memorized: Whether training repeats a picture or a part of one.
        mask: The memorized region at the picture's size; null where no size is given.
    """

    kind: str
    family: str
    memorized: bool
    mask: NDArray[np.bool_] | None


def read(path: str | Path) -> dict[str, Truth]:
    """Return the truth by caption hash, where there are no results beside it.

    Raises:
        ConfigError: As `truths` does.
    """
    with closing(duckdb.connect(":memory:")) as con:
        return truths(con, path)


def truths(con: duckdb.DuckDBPyConnection, path: str | Path) -> dict[str, Truth]:
    """Return the truth by caption hash.

    Args:
        con: May read the file.
        path: Parquet with the columns `TRUTH_COLUMNS`.

    Raises:
        ConfigError: If it cannot be read, says two things of one caption, or has no region for
            a memorized one.
    """
    check_readable(path)
    try:
        rows = con.execute(
            f"SELECT DISTINCT {_AS_THEY_MUST_BE} FROM read_parquet({quoted(str(path))})"  # noqa: S608
        ).fetchall()
    except duckdb.Error as error:
        raise ConfigError(
            f"truth {path} must be Parquet with {', '.join(TRUTH_COLUMNS)}: {brief(error)}"
        ) from error
    known: dict[str, Truth] = {}
    for sha, kind, family, memorized, height, width, runs in rows:
        if sha in known:
            raise ConfigError(f"truth {path} says two things of caption {sha}")
        if not (0 <= (height or 0) <= MOST_PIXELS and 0 <= (width or 0) <= MOST_PIXELS):
            raise ConfigError(f"truth {path}, caption {sha}: {height} x {width} is no size")
        if memorized and not (runs and height and width):
            raise ConfigError(f"truth {path}: memorized caption {sha} must have a mask")
        try:
            mask = from_runs(runs or [height * width], height, width) if height and width else None
        except (ValueError, TypeError) as error:
            raise ConfigError(f"truth {path}, caption {sha}: {error}") from error
        known[sha] = Truth(str(kind), str(family), bool(memorized), mask)
    return known

"""How often a model gives the image of a sample back, of the pictures that a run drew."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from statistics import mean

import duckdb
import numpy as np

from scanner import pictures
from scanner.masks import from_runs
from scanner.matching.copies import is_distinctive
from scanner.pictures import MATCHES
from scanner.statistics.intervals import clopper_pearson
from scanner.text import cut, printable

_SAMPLES = """
SELECT shard, key, any_value(caption_sha256), max(caption), avg(delta_s)
FROM scores GROUP BY shard, key
"""
_DRAWN = """
SELECT shard, key, match, match_mse, image, mask, height, width, area, match_contrast FROM masks
WHERE match IS NOT NULL AND match <> 'unreadable'
"""


@dataclass(frozen=True, slots=True)
class Reproduced:
    """A sample, and what became of the pictures that were drawn under its caption.

    Attributes:
        shard: Address of its shard.
        key: Its key.
        caption_sha256: Hash of its caption.
        caption: Its caption.
        delta_s: Mean over the seeds; null where none is finite.
        drawn: Pictures that were compared with its image; 0 if it has none that can be read.
        plain: Of these, as plain as the image, which two pictures may be by chance.
        verbatim: Of these, copies of the whole image.
        template: Of these, copies of a region.
        region: Mean share of the picture that these regions are, 0 to 1; null without one.
    """

    shard: str
    key: str
    caption_sha256: str
    caption: str
    delta_s: float | None
    drawn: int = 0
    plain: int = 0
    verbatim: int = 0
    template: int = 0
    region: float | None = None

    @property
    def copies(self) -> int:
        """Pictures that give the image back, as a whole or in a region."""
        return self.verbatim + self.template

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of how often it is given back; null where nothing was compared."""
        return clopper_pearson(self.copies, self.drawn) if self.drawn else None

    @property
    def verdict(self) -> str:
        """``whole`` or ``region``, the more frequent; else ``plain``, ``no``, ``not compared``."""
        if not self.drawn:
            return "not compared"
        if not self.copies:
            return "plain" if self.plain else "no"
        return "whole" if self.verbatim >= self.template else "region"

    def cells(self) -> tuple[str, ...]:
        """Return a line of the table of `HEADS`."""
        often = f"{self.copies} of {self.drawn}" if self.drawn else ""
        low, high = self.interval or (0.0, 0.0)
        return (
            self.verdict if self.region is None else f"{self.verdict} ({self.region:.0%})", often,
            f"{low:.0%} to {high:.0%}" if self.drawn else "",
            "" if self.delta_s is None else f"{self.delta_s:.3g}",
            printable(self.key), cut(printable(self.caption), 60),
        )  # fmt: skip


HEADS = ("given back", "pictures", "95%", "Δs", "key", "caption")


def reproduced(con: duckdb.DuckDBPyConnection) -> list[Reproduced]:
    """Return every scored sample of a run, the most often given back first.

    Args:
        con: Views of one run whose captions are all localized.
    """
    samples = {row[:2]: Reproduced(*row) for row in con.execute(_SAMPLES).fetchall()}
    counts = defaultdict[tuple[str, str], Counter[str]](Counter)
    areas = defaultdict[tuple[str, str], list[float]](list)
    drawn = con.execute(_DRAWN)
    while row := drawn.fetchone():
        is_judged = row[9] is not None or row[2] not in MATCHES
        sample, word = row[:2], row[2] if is_judged else _verdict(*row[2:8])
        counts[sample].update([word, "drawn"])
        if word == "template" and row[8] is not None:
            areas[sample].append(row[8])
    found = [
        replace(
            one, region=mean(areas[name]) if areas[name] else None,
            **{word: counts[name][word] for word in ("drawn", "plain", *MATCHES)},
        )
        for name, one in samples.items()
    ]  # fmt: skip
    return sorted(found, key=lambda r: (-r.copies, -r.verbatim, -(r.delta_s or 0), r.shard, r.key))


def _verdict(
    match: str, error: float | None, image: bytes | None, runs: list[int] | None, height: int,
    width: int,
) -> str:  # fmt: skip
    """Return the match of a picture, ``plain`` where it says nothing.

    Of rows from before scans did so themselves, which they say by the column ``match_contrast``.
    """
    if image is None:
        return match
    part = None if runs is None or match == "verbatim" else from_runs(runs, height, width)
    pixels = np.asarray(pictures.opened(image))
    return match if is_distinctive(pixels, part, error or 0.0) else "plain"


def answer(found: list[Reproduced]) -> str:
    """Return the answer in a line."""
    verdicts = Counter(one.verdict for one in found)
    whole, region, without = (verdicts[word] for word in ("whole", "region", "not compared"))
    compared = len(found) - without
    rest = f"; {without} have no image to compare with" if without else ""
    if not whole + region:
        return f"none of {compared} training images is given back{rest}"
    return (
        f"{whole + region} of {compared} training images are given back: {whole} as a whole, "
        f"{region} in a region{rest}"
    )

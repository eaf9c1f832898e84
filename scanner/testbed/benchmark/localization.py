"""Where maps put the copy: overlap with the repeated region, by its size and by dose."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scanner.analysis.detection import family_weights
from scanner.analysis.power import GIVEN_BACK
from scanner.testbed.benchmark.detection import Captions

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Row = dict[str, object]

DRAWS = 500
FEWEST = 3
"""Maps of a pool that is worth a measure."""


class Maps:
    """Maps of planted captions beside what is known of the captions.

    Args:
        table: Of `tables.MAP_ROW`.
        captions: Of the same checkpoint.
    """

    def __init__(self, table: pa.Table, captions: Captions) -> None:
        places = {sha: i for i, sha in enumerate(captions.about["caption_sha256"].tolist())}
        self._rows = table.to_pylist()
        self._of = np.array([places[row["caption_sha256"]] for row in self._rows], int)
        self._captions = captions

    @property
    def names(self) -> list[str]:
        """Return the kinds of maps, such as ``delta_h/null``."""
        return sorted({str(row["map"]) for row in self._rows})

    def pools(self) -> dict[str, Bools]:
        """Return which captions belong to a pool: those that are given back, by kind and size."""
        about, back = self._captions.about, self._captions.given_back
        region, kind = about["region"].astype(int), about["kind"]
        sets = {"verbatim": back & (kind == "verbatim"), "template": back & (kind == "template")}
        for size in sorted(set(region[sets["template"]].tolist())):
            sets[f"template, {size}%"] = sets["template"] & (region == size)
        some = np.nan_to_num(self._captions.share)
        known = self._captions.is_planted & (kind == "template")
        sets["template, given back now and then"] = known & (some > 0) & (some < GIVEN_BACK)
        sets["template, never given back"] = known & (some == 0)
        return sets

    def overlaps(self, name: str, members: Bools) -> "Overlaps":
        """Return the overlaps of the maps of a kind, of captions that are members."""
        chosen = [
            (place, row)
            for place, row in zip(self._of.tolist(), self._rows, strict=True)
            if row["map"] == name and members[place]
        ]
        return Overlaps(
            np.array([place for place, _ in chosen], int),
            *(np.array([row[k] for _, row in chosen], float) for k in ("truth", "mask", "both")),
            *(np.array([row[k] for _, row in chosen], float) for k in ("swept", "swept_both")),
        )

    def families(self, places: NDArray[np.int_]) -> NDArray[np.str_]:
        """Return the families of captions."""
        return self._captions.about["family"][places].astype(str)


class Overlaps:
    """Pixels of maps of one kind.

    Args:
        places: Of the captions, ``(n,)``.
        truth: Pixels of the repeated region, ``(n,)``.
        mask: Of the deployed mask; -1 where there is none.
        both: Of both.
        swept: Of the map at each threshold, ``(n, T)``.
        swept_both: Of map and region at each threshold.
    """

    def __init__(
        self, places: NDArray[np.int_], truth: Floats, mask: Floats, both: Floats, swept: Floats,
        swept_both: Floats,
    ) -> None:  # fmt: skip
        self.places = places
        self.deployed = np.where(mask >= 0, both / np.maximum(truth + mask - both, 1), np.nan)
        if len(places):
            union = np.maximum(truth[:, None] + swept - swept_both, 1)
            self.each = swept_both / union
            self.best = int(self.each.mean(0).argmax())
            self.oracle = self.each[:, self.best]

    def __len__(self) -> int:
        """Return the number of maps."""
        return len(self.places)


def measured(maps: Maps, draws: int = DRAWS) -> list[Row]:
    """Return the mean IoU of every kind of maps over every pool, with 95% intervals.

    ``oracle`` is at the threshold that is best on the pool itself, ``deployed`` of the masks that
    a calibrated scan stores. Intervals are over families.
    """
    rows: list[Row] = []
    for name, pool, found in _each(maps):
        row: Row = {"map": name, "pool": pool, "maps": len(found)}
        weights = _weights(maps.families(found.places), draws)
        for how in ("oracle", "deployed"):
            values: Floats = getattr(found, how)
            if np.isfinite(values).all():
                row[how], row[f"{how}_interval"] = _mean(values, weights)
        rows.append(row)
    return rows


def compared(maps: Maps, reference: str = "delta_h/null", draws: int = DRAWS) -> list[Row]:
    """Return each map's IoU less the reference's on the same captions, with 95% intervals."""
    base = {pool: found for name, pool, found in _each(maps) if name == reference}
    rows: list[Row] = []
    for name, pool, found in _each(maps):
        other = base.get(pool)
        if name == reference or other is None or not np.array_equal(other.places, found.places):
            continue
        weights = _weights(maps.families(found.places), draws)
        row: Row = {"map": name, "reference": reference, "pool": pool, "maps": len(found)}
        for how in ("oracle", "deployed"):
            values = getattr(found, how) - getattr(other, how)
            if np.isfinite(values).all():
                row[how], row[f"{how}_interval"] = _mean(values, weights)
        rows.append(row)
    return rows


def _each(maps: Maps) -> Iterator[tuple[str, str, Overlaps]]:
    pools: Mapping[str, Bools] = maps.pools()
    for name in maps.names:
        for pool, members in pools.items():
            found = maps.overlaps(name, members)
            if len(found) >= FEWEST:
                yield name, pool, found


def _weights(families: NDArray[np.str_], draws: int) -> Floats:
    """Return how often each map counts in each bootstrap sample of families, ``(draws, n)``."""
    return family_weights(families, np.ones(len(families), bool), draws, np.random.default_rng(0))


def _mean(values: Floats, weights: Floats) -> tuple[float, list[float]]:
    drawn = (weights * values).sum(1) / weights.sum(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(values.mean()), [float(low), float(high)]

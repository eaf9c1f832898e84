"""The distribution of a run's p-values, as numbers and as a chart."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from numpy.typing import NDArray

from scanner.report import svg
from scanner.report.svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_BINS = 20


@dataclass(frozen=True, slots=True)
class PValues:
    """Captions by p-value, in even bins from 0 to 1.

    Attributes:
        edges: ``(bins + 1,)``, 0 to 1.
        clear: Captions that are not flagged, by bin.
        flagged: Captions that are.
    """

    edges: NDArray[np.float64]
    clear: NDArray[np.int64]
    flagged: NDArray[np.int64]

    @property
    def expected(self) -> float:
        """Captions in every bin if none were memorized: p-values are even then."""
        return float((self.clear + self.flagged).sum()) / len(self.clear)

    def __str__(self) -> str:
        captions, lowest = int((self.clear + self.flagged).sum()), self.edges[1]
        first = int(self.clear[0] + self.flagged[0])
        return (
            f"{captions:,} captions by p-value; {first:,} are at most {lowest:g}, where "
            f"{self.expected:.3g} would be if none were memorized"
        )


def p_values(con: duckdb.DuckDBPyConnection) -> PValues | None:
    """Count a run's captions by p-value; null if none has one.

    Args:
        con: Views of one run.
    """
    rows = con.execute(
        "SELECT p_value, coalesce(flagged, false) AS flagged FROM captions "
        "WHERE p_value BETWEEN 0 AND 1"
    ).fetchnumpy()
    values, flagged = np.asarray(rows["p_value"], float), np.asarray(rows["flagged"], bool)
    if not len(values):
        return None
    edges = np.linspace(0, 1, NUM_BINS + 1)
    # A bin holds its upper edge: p-values reach 1, and a rate of 0.05 flags what is at most 0.05.
    places = np.clip(np.ceil(values * NUM_BINS - 1e-9).astype(int) - 1, 0, NUM_BINS - 1)
    clear, flags = (
        np.bincount(places[kind], minlength=NUM_BINS) for kind in (~flagged, flagged)
    )  # fmt: skip
    return PValues(edges, clear, flags)


def draw(axes: "Axes", found: PValues, *, log: bool) -> None:
    """Draw a distribution on axes."""
    for counts, name, label in (
        (found.clear + found.flagged, "clear", "clear"), (found.flagged, "flag", "flagged"),
    ):  # fmt: skip
        axes.stairs(counts, found.edges, fill=True, color=COLOURS[name], label=label)
    label = "expected if none were memorized"
    axes.axhline(found.expected, color=COLOURS["ink"], lw=2, ls="--", label=label)
    svg.count_heights(axes, log=log)
    svg.plain(axes)
    axes.set_xlim(0, 1)

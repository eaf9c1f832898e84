"""Figures of the benchmark: curves by dose, and a forest of paired differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanner.report.canvas import GREY, INK, LINES, grid_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

STYLES = {"all fresh": "-", "same style": "--"}


def draw_doses(models: Mapping[str, Sequence[Row]], scores: Sequence[str], path: Path) -> None:
    """Draw the share that is given back and the share that is flagged at 1%, by dose.

    Args:
        models: From a model to its rows, as `detection.by_dose` returns them.
        scores: Which scores to draw, in the order of their colours.
        path: A PNG.

    Raises:
        OutputError: If it cannot be written.
    """
    arms = ("verbatim", "template")
    figure, axes = grid_figure(6.2 * len(arms), 3.9 * len(models), len(models), len(arms))
    for place, axis in enumerate(axes):
        model, arm = list(models)[place // len(arms)], arms[place % len(arms)]
        own = [row for row in models[model] if row["arm"] == arm]
        for row in own:
            _draw_row(axis, row, scores)
        axis.set(
            title=f"{model}, {arm} items", xlabel="dose (draws in training)", ylim=(-0.03, 1.03),
            ylabel="share of captions",
        )  # fmt: skip
        axis.set_xscale("symlog", base=2, linthresh=16)
        axis.set_xlim(left=-2)
        doses = sorted({float(dose) for row in own for dose in row["shares"]})
        axis.set_xticks(doses, [f"{dose:g}" for dose in doses], rotation=45)
        axis.grid(color="#ddd", lw=0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    save(figure, path)


def _draw_row(axis: "Axes", row: Row, scores: Sequence[str]) -> None:
    x, y = (np.array(list(v), float) for v in (row["shares"], row["shares"].values()))
    if row["score"] == "given back":
        axis.fill_between(x, 0, y, color=GREY, alpha=0.18, lw=0)
        axis.plot(x, y, "-o", color=INK, lw=2.4, ms=4, label="given back (share of samples)")
    elif row["score"] in scores and row["rate"] == "1%":
        colour = LINES[scores.index(row["score"]) % len(LINES)]
        label = f"{row['score']}, 1% of {row['against']} captions"
        style = STYLES[row["against"]]
        axis.plot(x, y, style, marker=".", color=colour, lw=1.4, label=label)


def draw_forest(
    models: Mapping[str, Sequence[Row]], measure: str, against: Sequence[str], path: Path
) -> None:
    """Draw paired differences with their intervals, a line a method.

    Args:
        models: From a model to its rows, as `detection.compared` returns them.
        measure: ``auc``, ``tpr@1%`` or ``tpr@0.1%``.
        against: Sets of clean captions, a column each.
        path: A PNG.

    Raises:
        OutputError: If it cannot be written.
    """
    scores = list(dict.fromkeys(str(row["score"]) for rows in models.values() for row in rows))
    figure, axes = grid_figure(
        4.6 * len(against) + 1, 0.26 * len(scores) * len(models) + 1.6, 1, len(against)
    )
    reference = next(str(row["reference"]) for rows in models.values() for row in rows)
    for axis, name in zip(axes, against, strict=True):
        for number, (model, rows) in enumerate(models.items()):
            own = {str(row["score"]): row for row in rows if row["against"] == name}
            for place, score in enumerate(scores):
                if score in own:
                    height = place + 0.22 * (number - (len(models) - 1) / 2)
                    _interval(axis, own[score], measure, height, LINES[number], model, place == 0)
        axis.axvline(0, color=INK, lw=0.8)
        axis.set_yticks(range(len(scores)), scores if axis is axes[0] else [""] * len(scores))
        axis.invert_yaxis()
        axis.set(title=f"against {name}", xlabel=f"{measure} less that of {reference}")
        axis.grid(color="#ddd", lw=0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    save(figure, path)


def _interval(
    axis: "Axes", row: Row, measure: str, height: float, colour: str, model: str, is_first: bool
) -> None:  # fmt: skip
    low, high = row[f"{measure}_interval"]
    axis.plot([low, high], [height, height], "-", color=colour, lw=1.4)
    axis.plot(row[measure], height, "o", color=colour, ms=4, label=model if is_first else None)

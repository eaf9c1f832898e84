"""A choice of maps and seeds as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from scanner.choose.ranking import Choice
from scanner.report.canvas import LINES, grid_figure, metric_label, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELD_OUT = 0.55
"""Opacity of the curves of what was held out."""


def draw_choice(choice: Choice, path: Path) -> None:
    """Draw AUC and IoU against the timestep, and both rates against the number of seeds, as PNG.

    Solid on the families that choose, dashed on those held out; a ring is what is recommended.

    Raises:
        OutputError: If it cannot be written.
    """
    figure, axes = grid_figure(15, 4.8, 1, 3)
    panels = (("AUC", "auc", choice.detection), ("IoU", "iou", choice.localization))
    for axis, (title, measure, best) in zip(axes, panels, strict=False):
        _by_timestep(axis, choice, measure)
        if best is not None:
            at = (max(best.timestep, 1), getattr(best, measure))
            axis.plot(*at, "o", ms=12, mfc="none", mec="black", mew=1.6)
        axis.set(xscale="log", xlabel="timestep (1 is the last)", title=title)
    axes[0].legend(fontsize=8, loc="lower left")
    _by_seeds(axes[2], choice)
    axes[2].legend(fontsize=8)
    for axis in axes:
        axis.grid(color="#ddd", lw=0.6)
    save(figure, path)


def _by_timestep(axis: "Axes", choice: Choice, measure: str) -> None:
    names = dict.fromkeys((p.metric, p.baseline) for p in choice.points)
    for colour, name in zip(LINES * len(names), names, strict=False):
        points = [p for p in choice.points if (p.metric, p.baseline) == name]
        points.sort(key=lambda p: p.step)
        where = [max(p.timestep, 1) for p in points]
        chosen = [getattr(p, measure) for p in points]
        held = [getattr(p, f"held_{measure}") for p in points]
        how = {"marker": "o", "ms": 3, "color": colour, "lw": 1.4}
        axis.plot(where, chosen, "-", label=metric_label(*name), **how)
        axis.plot(where, held, "--", alpha=HELD_OUT, **how)


def _by_seeds(axis: "Axes", choice: Choice) -> None:
    numbers, rates = [s.number for s in choice.seeds], list[float]()
    for measure, colour, label in (("auc", LINES[0], "AUC"), ("tpr", LINES[1], choice.tpr_title)):
        chosen, held = (
            [getattr(s, kind + measure) for s in choice.seeds] for kind in ("", "held_")
        )
        axis.plot(numbers, chosen, "-o", ms=4, color=colour, label=label)
        axis.plot(
            numbers, held, "--o", ms=3, color=colour, alpha=HELD_OUT, label=f"{label}, held out"
        )
        rates += chosen + held
    axis.set_ylim(min(0.9, min(rates) - 0.05), 1.01)
    axis.axvline(choice.number, color="black", lw=1, ls=":")
    axis.set(xlabel="seeds", title="the recommended detector, by seeds", xticks=numbers)

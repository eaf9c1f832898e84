"""Findings over the nights of an audit, as a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scanner.report import svg
from scanner.report.svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Night:
    """One audit among others.

    Attributes:
        date: Its day, ``YYYY-MM-DD``, or ``""``.
        findings: Findings that it had: new and known ones, not those that are pending.
        new: Those that were new.
        coverage: Share of the captions that was scanned, 0 to 1; null without a budget.
    """

    date: str
    findings: int
    new: int
    coverage: float | None = None


def told(nights: Sequence[Night]) -> str:
    """Return in words what the chart shows."""
    if not nights:
        return "no night"
    last = nights[-1]
    said = (
        f"{len(nights)} nights up to {last.date}; findings "
        f"{', '.join(str(night.findings) for night in nights)}; new ones "
        f"{', '.join(str(night.new) for night in nights)}"
    )
    shares = [f"{night.coverage:.0%}" for night in nights if night.coverage is not None]
    return said + (f"; scanned, where a budget was set, {', '.join(shares)}" if shares else "")


def draw(axes: "Axes", nights: Sequence[Night]) -> None:
    """Draw a bar of findings for each night, the new ones in it, and coverage as a line."""
    from matplotlib.ticker import FuncFormatter

    places = range(len(nights))
    counts = [night.findings for night in nights]
    axes.bar(places, counts, 0.7, color=COLOURS["clear"], label="findings")
    axes.bar(places, [night.new for night in nights], 0.7, color=COLOURS["flag"], label="new")
    svg.count_heights(axes, log=False)
    axes.set_ylim(0, max(1, *counts) * 1.08)
    shares = [(x, night.coverage) for x, night in enumerate(nights) if night.coverage is not None]
    svg.plain(axes)
    if shares:
        other = axes.twinx()
        other.plot(*zip(*shares, strict=True), color=COLOURS["accent"], lw=2, marker="o",
                   label="captions scanned")  # fmt: skip
        other.set_ylim(0, 1.08)
        other.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        other.set_yticks([0, 0.5, 1])
        other.tick_params(length=0, pad=6)
        other.spines[:].set_visible(False)
    step = max(1, -(-len(nights) // 5))
    axes.set_xticks(places[::-1][::step][::-1], [n.date[5:] for n in nights[::-1][::step][::-1]])
    axes.set_xlim(-0.6, max(len(nights), 4) - 0.4)

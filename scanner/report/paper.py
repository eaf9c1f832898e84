"""One page of paper about a run, as PDF: for people who file things.

Its bytes depend on what it shows alone: it holds no date but the run's own.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from scanner.analysis.findings import Finding
from scanner.masks import from_runs
from scanner.report import histogram, p_values, trend
from scanner.report.canvas import EDGE, GREY, INK, fitting, outline, pdf_bytes, pixel_figure, words
from scanner.report.thumbnails import Illustration
from scanner.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scanner.report.page import Content

WIDTH, HEIGHT, MARGIN = 595, 842, 40
"""A4 in points."""
INNER = WIDTH - 2 * MARGIN
TONES = {"bad": "#b42318", "warn": "#7a5200", "good": "#1e6b3a"}
"""Colours of a banner, on which white letters have a contrast of 6 or more."""
MOST_FINDINGS, MOST_NOTES, STAMP = 6, 2, 10
PICTURE, SIDE, CHART = 62, 160, 78
"""Points that a picture is wide, pixels that it keeps, points that a chart is high."""
MASK_LINE, MASK_EDGE = "#ffd60a", "#141414"
OWN_FONT = "DejaVu Sans"
"""Comes with matplotlib; captions are in whichever font has their letters."""
WORDS = {"verbatim": "verbatim copy", "template": "template copy"}


def as_pdf(shown: "Content") -> bytes:
    """Return a page as PDF: verdict, numbers, charts, worst findings, and what names the run."""
    sheet = _Sheet(pixel_figure(WIDTH, HEIGHT))
    _head(sheet, shown)
    _numbers(sheet, shown.numbers)
    _charts(sheet, shown)
    _findings(sheet, shown)
    _stamps(sheet, shown)
    return pdf_bytes(sheet.figure, title=printable(shown.options.title))


@dataclass(slots=True)
class _Sheet:
    """A page that is filled from top to bottom.

    Attributes:
        figure: All of whose lengths are points.
        top: Where the next part begins, in points from the upper edge.
    """

    figure: "Figure"
    top: float = MARGIN

    def axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        """Return axes at a place in points from the upper left corner."""
        place = left / WIDTH, 1 - (top + height) / HEIGHT, width / WIDTH, height / HEIGHT
        return self.figure.add_axes(place)

    def write(
        self, left: float, top: float, text: str, size: float, colour: str = INK,
        weight: str = "normal",
    ) -> None:  # fmt: skip
        """Write a line whose letters begin below a place."""
        style = words(size, colour, va="top", weight=weight)
        if weight != "normal":
            style["family"] = OWN_FONT  # others may lack a bold face, which would be complained of
        self.figure.text(left / WIDTH, 1 - top / HEIGHT, text, **style)

    def lines(
        self, left: float, text: str, size: float, width: float, most: int, colour: str = INK
    ) -> None:
        """Write an untrusted text in at most so many lines, and go on below them."""
        for line in fitting(text, size, width, most):
            self.write(left, self.top, line, size, colour)
            self.top += 1.35 * size

    def box(
        self, left: float, top: float, width: float, height: float, fill: str, edge: str
    ) -> None:
        """Draw a rectangle."""
        from matplotlib.patches import Rectangle

        self.figure.add_artist(Rectangle(
            (left / WIDTH, 1 - (top + height) / HEIGHT), width / WIDTH, height / HEIGHT,
            transform=self.figure.transFigure, facecolor=fill, edgecolor=edge, linewidth=0.8,
        ))  # fmt: skip


def _head(sheet: _Sheet, shown: "Content") -> None:
    sheet.write(MARGIN, sheet.top, "memscan", 9, GREY)
    sheet.top += 14
    title = fitting(shown.options.title, 17, INNER, 1) or [""]
    sheet.write(MARGIN, sheet.top, title[0], 17, weight="bold")
    sheet.top += 30
    why = fitting(shown.banner.why, 10.5, INNER - 28, 3)
    height = 40 + 14 * len(why)
    colour = TONES[shown.banner.tone]
    sheet.box(MARGIN, sheet.top, INNER, height, colour, colour)
    sheet.write(MARGIN + 14, sheet.top + 10, shown.banner.word, 16, "white", weight="bold")
    for place, line in enumerate(why):
        sheet.write(MARGIN + 14, sheet.top + 34 + 14 * place, line, 10.5, "white")
    sheet.top += height + 12
    for name, text in shown.about:
        sheet.write(MARGIN, sheet.top, name, 9, GREY)
        sheet.lines(MARGIN + 52, text, 9, INNER - 52, 1)
    for note in shown.notes[:MOST_NOTES]:
        sheet.lines(MARGIN, note, 8, INNER, 2, TONES["warn"])
    if (cut := len(shown.notes) - MOST_NOTES) > 0:
        sheet.lines(MARGIN, f"and {cut} more notes in the report", 8, INNER, 1, GREY)
    sheet.top += 8


def _numbers(sheet: _Sheet, numbers: Sequence[tuple[str, str]]) -> None:
    gap = 8
    width = (INNER - gap * (len(numbers) - 1)) / len(numbers)
    for place, (name, text) in enumerate(numbers):
        left = MARGIN + place * (width + gap)
        sheet.box(left, sheet.top, width, 46, "none", EDGE)
        size = 17 if len(text) < 9 else 13
        sheet.write(left + 8, sheet.top + 7, text, size, weight="bold")
        for line in fitting(name, 7, width - 10, 1):
            sheet.write(left + 8, sheet.top + 31, line, 7, GREY)
    sheet.top += 46 + 14


def _charts(sheet: _Sheet, shown: "Content") -> None:
    """Draw two charts: of an audit its nights, and how scores spread, else p-values."""
    charts: list[tuple[str, Callable[[Axes], None]]] = []
    nights, scores, chances = shown.remarks.nights, shown.scores, shown.chances
    if nights:
        charts.append(("Findings per night", lambda axes: trend.draw(axes, nights)))
    if scores is not None:
        charts.append(("Captions by score Δs", lambda axes: histogram.draw(axes, scores, log=True)))
    if chances is not None:
        charts.append(("Captions by p-value", lambda axes: p_values.draw(axes, chances, log=True)))
    width = (INNER - 24) / 2
    for place, (title, draw) in enumerate(charts[:2]):
        left = MARGIN + place * (width + 24)
        sheet.write(left, sheet.top, title, 9.5, weight="bold")
        axes = sheet.axes(left + 22, sheet.top + 34, width - 46, CHART)
        draw(axes)
        _slim(axes)
        _legend(sheet, axes, left, sheet.top + 14)
    if charts:
        sheet.top += 34 + CHART + 26


def _slim(axes: "Axes") -> None:
    """Make letters and lines of a chart, which are those of a screen, small enough for paper."""
    for every in axes.get_shared_x_axes().get_siblings(axes):
        every.tick_params(labelsize=7)
        for line in every.lines:
            line.set_markersize(3)
        for part in [*every.lines, *every.patches]:
            part.set_linewidth(min(1.2, part.get_linewidth()))


def _legend(sheet: _Sheet, axes: "Axes", left: float, top: float) -> None:
    twins = [axes, *(t for t in axes.get_shared_x_axes().get_siblings(axes) if t is not axes)]
    found = [pair for twin in twins for pair in zip(*twin.get_legend_handles_labels(), strict=True)]
    sheet.figure.legend(
        [handle for handle, _ in found], [label for _, label in found], loc="upper left",
        bbox_to_anchor=(left / WIDTH, 1 - top / HEIGHT), ncols=2, frameon=False, fontsize=6.5,
        borderpad=0, borderaxespad=0, handlelength=1.4, columnspacing=1, labelspacing=0.2,
    )  # fmt: skip


def _findings(sheet: _Sheet, shown: "Content") -> None:
    there = [f for f in shown.found if _state(shown, f) != "resolved"]
    if not there:
        sheet.write(MARGIN, sheet.top, "No finding.", 9.5, weight="bold")
        return
    width, height = (INNER - 20) / 2, PICTURE + 44
    room = HEIGHT - MARGIN - STAMP * len(_stamp_lines(shown)) - 12 - (sheet.top + 18)
    most = min(MOST_FINDINGS, 2 * int(room // height))
    top, cut = there[:most], len(there) - most
    title = "Findings, the worst first"
    rest = f"; {cut:,} more in the report" if cut > 0 else ""
    sheet.write(MARGIN, sheet.top, title + rest, 9.5, weight="bold")
    sheet.top += 18
    for place, finding in enumerate(top):
        left = MARGIN + (place % 2) * (width + 20)
        _finding(sheet, shown, finding, left, sheet.top + place // 2 * height, width)
    sheet.top += -(-len(top) // 2) * height


def _finding(
    sheet: _Sheet, shown: "Content", finding: Finding, left: float, top: float, width: float
) -> None:
    """Draw one finding: what it is, its caption, its pictures and its numbers."""
    mark = shown.remarks.marks.get(finding.identity)
    kind = [WORDS.get(finding.match or "", "by score alone")]
    if finding.drawn:
        often = f"{finding.given_back} of {finding.compared} draws" if finding.compared else ""
        kind = [f"{finding.level} ({often})" if often else str(finding.level)]
    if mark is not None:
        alarm = ["ALARM"] * mark.alarms
        kind = [*alarm, mark.severity, mark.state, *["muted"] * bool(mark.muted), *kind]
    sheet.write(left, top, ", ".join(filter(None, kind)), 7.5, TONES["bad"], weight="bold")
    caption = "caption withheld" if shown.options.redact else finding.caption
    for place, line in enumerate(fitting(caption, 8.5, width, 1) or ["no caption"]):
        sheet.write(left, top + 11 + 11 * place, line, 8.5)
    one = shown.pictures.illustrations.get(finding.identity, Illustration())
    pictures = _pictures(one)
    for place, (name, picture) in enumerate(pictures):
        _picture(sheet, left + place * (PICTURE + 4), top + 25, picture)
        if name == "mask" and one.mask:
            mask = np.asarray(_inside(one)) > 0
            axes = sheet.figure.axes[-1]
            outline(axes, mask, MASK_LINE, 1.0, edge=MASK_EDGE, rim=bool(mask.all()))
    start = left + len(pictures) * (PICTURE + 4) + 2 * bool(pictures)
    for place, line in enumerate(_facts(finding)):
        sheet.write(start, top + 26 + 9.5 * place, line, 6.5, GREY)
    below = top + 25 + max(PICTURE * bool(pictures), 9.5 * len(_facts(finding))) + 2
    for line in fitting(f"{finding.identity[:12]}  {finding.key}", 6.5, width, 1):
        sheet.write(left, below, line, 6.5, GREY)


def _facts(finding: Finding) -> list[str]:
    found = [
        "no p-value" if finding.p_value is None else f"p {finding.p_value:.3g}",
        "no score" if finding.delta_s is None else f"Δs {finding.delta_s:.4g}",
        f"copies {finding.copies:,}",
    ]
    if finding.area is not None:
        found.append(f"mask {finding.area:.0%}")
    return found


def _pictures(one: Illustration) -> list[tuple[str, Image.Image]]:
    """Return the training image, the generated picture, and the mask over what was looked at."""
    found = [("training", _opened(one.training)), ("generated", _opened(one.generated))]
    base, heat = _opened(one.generated or one.training), _opened(one.heatmap, "RGBA")
    if base is not None and heat is not None:
        grey = base.convert("L").convert("RGBA").resize((SIDE, SIDE))
        over = heat.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        found.append(("mask", _dimmed(Image.alpha_composite(grey, over).convert("RGB"), one)))
    return [(name, picture) for name, picture in found if picture is not None]


def _dimmed(picture: Image.Image, one: Illustration) -> Image.Image:
    """Return a picture that is dark outside of the mask, if there is one."""
    if not one.mask:
        return picture
    return Image.composite(picture, picture.point(lambda level: level * 0.4), _inside(one))


def _inside(one: Illustration) -> Image.Image:
    """Return a mask at the size of its picture, white inside."""
    mask = Image.fromarray(from_runs(one.mask, *one.size).astype(np.uint8) * 255)
    return mask.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def _opened(uri: str, mode: str = "RGB") -> Image.Image | None:
    """Return a picture of a page, made by `thumbnails`, at most `SIDE` pixels wide."""
    if not uri:
        return None
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert(mode)
    image.thumbnail((SIDE, SIDE))
    return image


def _picture(sheet: _Sheet, left: float, top: float, picture: Image.Image) -> None:
    axes = sheet.axes(left, top, PICTURE, PICTURE)
    axes.set_axis_off()
    axes.imshow(np.asarray(picture), aspect="auto", interpolation="none")


def _stamps(sheet: _Sheet, shown: "Content") -> None:
    """Write at the foot what the page is filed by."""
    rows = _stamp_lines(shown)
    sheet.top = HEIGHT - MARGIN - STAMP * len(rows)
    sheet.box(MARGIN, sheet.top - 7, INNER, 0, "none", EDGE)
    before = ""
    for name, line in rows:
        sheet.write(MARGIN, sheet.top, name * (name != before), 7, GREY)
        sheet.write(MARGIN + 60, sheet.top, line, 7)
        sheet.top, before = sheet.top + STAMP, name


def _stamp_lines(shown: "Content") -> list[tuple[str, str]]:
    return [(name, line) for name, text in shown.stamps for line in fitting(text, 7, INNER - 60, 2)]


def _state(shown: "Content", finding: Finding) -> str:
    mark = shown.remarks.marks.get(finding.identity)
    return "" if mark is None else mark.state

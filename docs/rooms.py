"""Draw the rooms of the package, each above the rooms that it imports: ``rooms.svg``."""

import ast
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

PACKAGE = Path(__file__).parents[1] / "scanner"
TITLES = {
    "analysis": "DuckDB, findings, evaluation", "api": "ten names for Python",
    "choose": "which step, baseline", "cli": "parse, call one function, print",
    "engine": "Ray: queue, actors, resume", "matching": "copies of a picture",
    "methods": "what each score and map is", "models": "adapters, families",
    "nightly": "what is new, alarms", "notify": "who is told, and what",
    "numerics": "formulas on tensors",
    "planning": "what a scan will cost", "report": "pages, panels, figures",
    "results": "commits, Parquet, stores", "scan": "captions in memory to rows",
    "serve": "results in a browser", "shards": "tars, samples", "statistics": "p-values",
    "submit": "Ray jobs", "testbed": "planted corpus, training",
}  # fmt: skip
"""What a room is about, in few words."""
_FILLS = {
    "#e8eefc": {"cli", "api", "nightly", "notify", "report", "serve", "testbed"},
    "#e9f6ee": {"analysis", "choose", "matching", "planning", "statistics"},
    "#fdf0dc": {"engine", "submit"},
    "#e3f4f7": {"results", "shards"},
    "#f3e9fb": {"methods", "models", "numerics", "scan"},
}
_WIDTH, _ROW, _GAP = 680, 54, 14


def imports() -> dict[str, set[str]]:
    """Return which rooms each room imports from."""
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    found = {room: set[str]() for room in rooms}
    for room in rooms:
        for module in (PACKAGE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module is not None:
                    names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
                    parts = {tuple(name.split(".")[:2]) for name in names}
                    found[room] |= {other for other in rooms if ("scanner", other) in parts}
        found[room].discard(room)
    return found


def rows(below: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the rooms by height, the highest first: each above all that it imports from."""
    heights = dict[str, int]()

    def height(room: str) -> int:
        if room not in heights:
            heights[room] = 1 + max((height(other) for other in below[room]), default=-1)
        return heights[room]

    for room in below:
        height(room)
    return [
        sorted(room for room in below if heights[room] == level)
        for level in sorted(set(heights.values()), reverse=True)
    ]


def drawing() -> str:
    """Return the drawing as SVG.

    Raises:
        ValueError: If a room has no title or no colour here.
    """
    levels = rows(imports())
    known = set().union(*_FILLS.values()) & set(TITLES)
    if unknown := {room for level in levels for room in level} ^ known:
        raise ValueError(f"docs/rooms.py must name every room and no other: {sorted(unknown)}")
    height = 20 + len(levels) * (_ROW + _GAP) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-labelledby="t d" '
        f'font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif">',
        '<title id="t">The rooms of the package</title>',
        f'<desc id="d">{len(levels)} rows of rooms. A room imports from rows below its own.</desc>',
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for number, level in enumerate(levels):
        parts += _level(level, 20 + number * (_ROW + _GAP))
    said = "A room imports from the rows below it, never from above or beside."
    parts += [_text(_WIDTH / 2, height - 14, 12, "#5a6675", 400, said), "</svg>"]
    return "\n".join(parts) + "\n"


def _level(level: list[str], top: float) -> list[str]:
    width = (_WIDTH - 40 - 10 * (len(level) - 1)) / len(level)
    parts = list[str]()
    for number, room in enumerate(level):
        left = 20 + number * (width + 10)
        fill = next(colour for colour, rooms in _FILLS.items() if room in rooms)
        parts += [
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_ROW}" rx="6" '
            f'fill="{fill}" stroke="#8a97a8"/>',
            _text(left + width / 2, top + 24, 14, "#1b2430", 600, room),
            _text(left + width / 2, top + 41, 11.5, "#5a6675", 400, TITLES[room]),
        ]
    return parts


def _text(x: float, y: float, size: float, fill: str, weight: int, text: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:g}" font-size="{size:g}" fill="{fill}" font-weight="{weight}" '
        f'text-anchor="middle">{escape(text)}</text>'
    )

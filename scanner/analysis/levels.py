"""Levels of evidence: what is known of a finding, in one word and one sentence. The one place.

A finding is a suspicion until its pictures are looked at. ``confirm`` draws it again under fresh
seeds; `LEVEL_OF` says from what came of that, and from what the scan itself saw, how far the
suspicion is confirmed. More evidence of a copy never lowers a level.
"""

from typing import TYPE_CHECKING

from scanner.masks import WINDOW_SHARE

if TYPE_CHECKING:
    from scanner.analysis.findings import Finding

LEVELS = ("copied", "reproduced", "stored", "suspected", "not confirmed")
"""The worst first."""
RULES = {
    "copied": "with 95% confidence, at least half of all pictures under its caption give its "
    "training image back, as a whole or in a region",
    "reproduced": "at least one picture gave it back: one of `confirm`, or the scan's own where "
    "none of `confirm`'s is plain",
    "stored": "no copy of its image was seen, but with 95% confidence at least half of all "
    "pictures are one and the same; or the image was scored, and its snap-back is above one bit in "
    "the whole or in the region",
    "suspected": "flagged, and neither confirmed nor, as in the next row, refuted: not drawn "
    "again, too few draws, or they are plain",
    "not confirmed": "drawn again: no picture gives its image back, no two are alike, and with 95% "
    "confidence less than half of all pictures would be the same",
}
"""What each means, for docs/results.md."""
HALF = 0.5
"""More often than not: the one share of the rules. It was set before anything was measured."""

LEVEL_OF = f"""
CREATE MACRO level_of(
    match, pinned, given_back, plain, rate_low, rate_high, agreeing, agreeing_low
) AS CASE
    WHEN rate_low >= {HALF} THEN '{LEVELS[0]}'
    WHEN given_back > 0 OR match_rank(match) < match_rank(NULL) AND coalesce(plain, 0) = 0
    THEN '{LEVELS[1]}'
    WHEN agreeing_low >= {HALF} OR pinned IN ('whole', 'region') THEN '{LEVELS[2]}'
    WHEN agreeing = 1 AND rate_high < {HALF} THEN '{LEVELS[4]}'
    ELSE '{LEVELS[3]}' END
"""
"""The rule, in SQL. The last ``WHEN`` needs an upper end: of six draws or more."""
LEVEL_RANK = f"""
CREATE MACRO level_rank(level) AS
CASE level {" ".join(f"WHEN '{name}' THEN {i}" for i, name in enumerate(LEVELS))}
ELSE {LEVELS.index("suspected")} END
"""
"""0 for the worst."""


EXTENTS = ("whole", "region", "none")
WHOLE = 0.9
"""Share of the picture from which on a mask is of the whole. The middle between the largest mask
of a template (0.80) and the smallest of a verbatim copy (1.00) on the shipped U-Net."""
NONE = WINDOW_SHARE**2
"""Share below which it is of nothing: the smoothing window's own, below which a mask has no
shape."""
EXTENT_OF = f"""
CREATE MACRO extent_of(area) AS
CASE WHEN area >= {WHOLE} THEN 'whole' WHEN area >= {NONE} THEN 'region'
WHEN area IS NOT NULL THEN 'none' END
"""
"""How much of the picture a mask says is copied; null without a mask."""


def rank(level: str | None) -> int:
    """Return the place of a level, 0 for the worst; of a finding that has none, a suspicion's."""
    return LEVELS.index(level if level in LEVELS else "suspected")


def sentence(found: "Finding") -> str:
    """Return what is known of a finding in one line, without its level.

    Example:
        given back in 18 of 20 draws (68% to 99%), region 31%, p 0.0001
    """
    parts = [_drawn(found), _extent(found), _snap(found)]
    if found.p_value is not None:
        parts.append(f"p {found.p_value:.3g}")
    return ", ".join(filter(None, parts))


def _drawn(found: "Finding") -> str:
    """Return what came of draws under fresh seeds, or of the scan's own picture."""
    if not found.drawn:
        said = {"verbatim": "given back by the scan, ", "template": "a region given back, "}
        return f"{said.get(found.match or '', '')}not drawn again"
    return drawn_again(
        found.drawn, found.compared or 0, found.given_back or 0, found.plain or 0,
        found.rate_low or 0.0, found.rate_high or 0.0, found.agreeing or 1,
    )  # fmt: skip


def doubt_of(inside: float | None, outside: float | None) -> str:
    """Return in words how many pixels of a mask and around it are in doubt; ``""`` if unknown.

    Example:
        >>> doubt_of(0.031, 0.004), doubt_of(None, 0.2), doubt_of(None, None)
        ('3% of the mask, 0% of the rest', '20% of the rest', '')
    """
    shares = {"the mask": inside, "the rest": outside}
    return ", ".join(f"{n:.0%} of {what}" for what, n in shares.items() if n is not None)


def drawn_again(
    drawn: int, compared: int, given_back: int, plain: int, low: float, high: float, agreeing: int
) -> str:
    """Return in words what came of draws; the numbers are those of a row of ``confirmed``.

    Example:
        >>> drawn_again(20, 20, 18, 0, 0.683, 0.988, 18)
        'given back in 18 of 20 draws (68% to 99%)'
        >>> drawn_again(20, 0, 0, 0, 0.0, 0.249, 1)
        'no image to compare with, no two draws are alike'
    """
    alike = f"{agreeing} of {drawn} draws are alike" if agreeing > 1 else "no two draws are alike"
    if not compared:
        return f"no image to compare with, {alike}"
    often = f"given back in {given_back} of {compared} draws ({low:.0%} to {high:.0%})"
    uncertain = f", {plain} too plain to tell" if plain else ""
    return often + uncertain + ("" if given_back else f", {alike}")


def _extent(found: "Finding") -> str:
    if found.area is None:
        return ""
    said = {"whole": "whole picture", "none": "no region"}
    share = int(100 * found.area + 0.5)  # as the page's script rounds
    return said.get(found.extent or "", f"region {share}%")


def _snap(found: "Finding") -> str:
    return "" if found.snap_back is None else f"snap-back {found.snap_back:.3g} bits"

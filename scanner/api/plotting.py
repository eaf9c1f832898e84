"""A result as a picture."""

from typing import TYPE_CHECKING

from scanner.api.score import Score
from scanner.errors import ConfigError
from scanner.report.score_figure import Panel, score_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(result: Score, *, seed: int | None = None) -> "Figure":
    """Draw what was generated, the maps, and the region that is the copy.

    Maps are of one seed, in their own units, red above zero and blue below; the outline is the
    mask, where there is one.

    Args:
        result: Of `scanner.score` or `scanner.score_images`.
        seed: Which of its seeds; the first by default.

    Returns:
        The figure, which a notebook shows and ``savefig`` writes.

    Raises:
        ConfigError: If it has no maps or no such seed.

    Example:
        >>> import scanner
        >>> model = scanner.load_model("gaussian")
        >>> (found,) = scanner.score(model, "a red circle", steps=4)
        >>> [axes.get_title() for axes in scanner.plot(found).axes]
        ['generated', 'delta_h', 'delta_s', 'curvature']
    """
    if not result.maps:
        raise ConfigError("there are no maps to draw: score with localize='all'")
    chosen = result.seeds[0] if seed is None else seed
    if chosen not in result.seeds:
        raise ConfigError(f"seed must be one of {', '.join(map(str, result.seeds))}, got {seed}")
    at = result.seeds.index(chosen)
    panels = [
        Panel(name, each.values[at], None if each.masks is None else each.masks[at])
        for name, each in result.maps.items()
    ]
    title = f"{result.caption}\n{_said(result)}"
    picture = None if result.images is None else result.images[at]
    return score_figure(title, picture, panels)


def _said(result: Score) -> str:
    said = f"Δs {result.delta_s:.4g}"
    if result.p_value is not None:
        said += f", p {result.p_value:.3g}"
    return said if result.flagged is None else f"{said}, {'' if result.flagged else 'not '}flagged"

"""memscan: which captions make a text-to-image model give a training image back, and where.

The names below are the Python interface; `docs/python.md` shows them at work. Each is imported
when it is first used, and a model's libraries when a model is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanner.api.calibrating import calibrate
    from scanner.api.models import Model, load_model
    from scanner.api.opening import open_results
    from scanner.api.plotting import plot
    from scanner.api.scanning import scan_shards
    from scanner.api.score import Score
    from scanner.api.scoring import score, score_images
    from scanner.statistics.calibration import Calibration

__version__ = "0.2.0"

__all__ = [
    "Calibration", "Model", "Score", "calibrate", "load_model", "open_results", "plot",
    "scan_shards", "score", "score_images",
]  # fmt: skip

_HOMES = {
    "Calibration": "scanner.statistics.calibration", "Model": "scanner.api.models",
    "Score": "scanner.api.score", "calibrate": "scanner.api.calibrating",
    "load_model": "scanner.api.models", "open_results": "scanner.api.opening",
    "plot": "scanner.api.plotting", "scan_shards": "scanner.api.scanning",
    "score": "scanner.api.scoring", "score_images": "scanner.api.scoring",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for.

    Raises:
        AttributeError: If there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names beside what is imported already."""
    return sorted({*globals(), *__all__})

"""Models that are distilled to few steps, as far as their names say it."""

import re
from collections.abc import Mapping
from typing import Any

from scanner import models
from scanner.models.limits import opened

_FEW_STEPS = re.compile(
    r"(?<![a-z0-9])(turbo|lightning|lcm|hyper-?sd|schnell|dmd2?|[1-8]-?steps?)(?![a-z])",
    re.IGNORECASE,
)
"""What names of models distilled to few steps have in them."""


def distillation(model: str) -> str:
    """Return what is to be known of a model whose name says that it is distilled, or ``""``.

    Raises:
        ConfigError: If it is not there.
    """
    return "" if model == models.GAUSSIAN else named_distilled(model, opened(model)[1])


def named_distilled(model: str, index: Mapping[str, Any]) -> str:
    """Return what is to be known of a model whose name says that it is distilled, or ``""``.

    Args:
        model: A folder or a hub id.
        index: Its ``model_index.json``, which may have the name that it was saved under.
    """
    for name in (model, str(index.get("_name_or_path", ""))):
        name = name.partition("@")[0].rstrip("/\\")
        own = re.split(r"[/\\]", name)[-1]
        if word := _FEW_STEPS.search(own):
            return (
                f"{own} calls itself {word[0]}: a model distilled to few steps has no score at "
                f"other levels, and Δs and Δh of it mean little; audit the model that it was "
                f"distilled from"
            )
    return ""

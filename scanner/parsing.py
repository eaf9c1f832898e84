"""JSON that others wrote: whatever it holds, reading it ends in a value or in a `ValueError`."""

import json
from typing import Any

DEEPEST = 100
"""Levels of nesting; what memscan and diffusers write has fewer than ten."""


def from_json(text: str | bytes) -> Any:
    """Return what a JSON text holds, if it can also be printed and written again.

    Args:
        text: A text, or its UTF-8.

    Raises:
        ValueError: If it is no JSON, is nested deeper than `DEEPEST`, or holds half a character.
    """
    try:
        content = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [content]
    for _ in range(DEEPEST + 1):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return content
    raise ValueError("it is nested too deeply")


def object_from_json(text: str | bytes) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises:
        ValueError: As `from_json` does, and if it holds anything else.
    """
    content = from_json(text)
    if not isinstance(content, dict):
        raise ValueError(f"it must hold an object, got {type(content).__name__}")
    return content


def _inside(value: Any) -> list[Any]:
    if isinstance(value, str):
        value.encode()  # half a character is a UnicodeEncodeError, which is a ValueError
        return []
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []

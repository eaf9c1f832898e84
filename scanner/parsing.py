"""JSON that others wrote: whatever it holds, reading it ends in a value or in a `ValueError`."""

import json
from collections.abc import Iterable
from typing import Any

DEEPEST = 100
"""Levels of nesting; what memscan and diffusers write has fewer than ten."""
_CONTAINERS = (dict, list)


def from_json(text: str | bytes) -> Any:
    """Return what a JSON text holds, if it can also be printed and written again.

    Args:
        text: A text, or its UTF-8.

    Raises:
        ValueError: If it is no JSON, is nested deeper than `DEEPEST`, or holds half a character.
    """
    decoded = text.decode("utf-8") if isinstance(text, bytes) else text
    try:
        content = json.loads(decoded)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\u" in decoded or not isinstance(text, bytes):  # no other way to half a character
        _check_characters(content)
    level: list[Any] = [content] if type(content) in _CONTAINERS else []
    for _ in range(DEEPEST + 1):
        level = [
            each
            for outer in level
            for each in (outer.values() if type(outer) is dict else outer)  # one call a container
            if type(each) in _CONTAINERS
        ]
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


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_characters(content: Any) -> None:
    """Refuse half a character: a UnicodeEncodeError, which is a ValueError.

    Raises:
        ValueError: If a text holds one, or it is nested too deeply.
    """
    level = [content]
    for _ in range(DEEPEST + 2):
        for each in level:
            for text in each if isinstance(each, dict) else (each,):
                if isinstance(text, str):
                    text.encode()
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
    raise ValueError("it is nested too deeply")

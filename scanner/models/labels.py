"""Classes of a class-conditional model: from captions to their numbers. Takes no torch."""

from collections.abc import Mapping
from typing import Any

from scanner.errors import ConfigError

_SHOWN = 60
"""Characters of a caption in a message."""


class Labels:
    """The classes of a class-conditional model.

    Args:
        names: Text by number, a class's names in it separated by commas, as ``id2label`` of a
            ``DiTPipeline`` has them; empty where a model names none.
        number: How many classes there are. The class after the last is the unconditional one.
    """

    def __init__(self, names: Mapping[Any, Any], number: int) -> None:
        self.number = number
        self._classes = dict[str, set[int]]()
        for key, text in names.items():
            for name in {str(text), *str(text).split(",")}:
                self._classes.setdefault(_plain(name), set()).add(int(key))

    def class_of(self, caption: str) -> int:
        """Return the class that a caption names, by one of its names or by its number.

        Case and surrounding white space do not matter. The empty caption is the unconditional
        class.

        Raises:
            ConfigError: If it names none, or several.
        """
        text, shown = _plain(caption), repr(caption[:_SHOWN])
        if not text:
            return self.number
        found = sorted(self._classes.get(text, ()))
        if len(found) > 1:
            raise ConfigError(
                f"{shown} is a name of the classes {', '.join(map(str, found))}: give the number "
                f"or another of their names"
            )
        if not found and text.isdecimal() and int(text) < self.number:
            found = [int(text)]
        if not found:
            known = "a name or " if self._classes else ""
            raise ConfigError(
                f"{shown} is no class of the model: a caption must be {known}a number from 0 to "
                f"{self.number - 1}"
            )
        return found[0]


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()

"""Python's collector of cycles, at rest while very many objects are made that form none."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[Callable[[], None]]:
    """Look for no cycles meanwhile: records have none, and visiting millions takes long.

    Yields what begins to look again before the end.
    """
    was_on = gc.isenabled()
    gc.disable()

    def collect_again() -> None:
        if was_on:
            gc.enable()

    try:
        yield collect_again
    finally:
        collect_again()

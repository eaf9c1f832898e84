"""What is called as a scan or an audit goes: memscan's own, and those of other distributions.

A distribution declares an entry point of the group ``memscan.callbacks``: a name, and what makes a
callback when it is called without arguments. Its code is imported when ``--callback NAME`` asks for
it, and never before.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from scanner.errors import ConfigError, ScannerError
from scanner.methods.plugins import distribution
from scanner.notify.outcome import Outcome, Start

if TYPE_CHECKING:
    from scanner.engine.job import Event

GROUP = "memscan.callbacks"
OWN = {
    "mlflow": "scanner.notify.mlflow_run:MlflowRun",
    "wandb": "scanner.notify.wandb_run:WandbRun",
}
"""Callbacks of memscan's own, by name."""
_METHODS = ("started", "progress", "finished")


class Callback(Protocol):
    """Called in the process that drives a scan, in its main thread, one call at a time.

    An exception is one line on the standard error, and changes neither results nor exit code.
    After one in `started` or `progress`, `progress` is not called again; `finished` is.
    """

    def started(self, start: Start) -> None:
        """Learn what is about to run: called once, before anything is scanned."""
        ...

    def progress(self, event: "Event") -> None:
        """Learn of an event: called for each, so it should return at once."""
        ...

    def finished(self, outcome: Outcome, folder: Path | None) -> None:
        """Learn what came of it: called once, also after a failure or an interruption.

        Args:
            outcome: What came of it.
            folder: The audit's folder, with audit.json, report.html and the others; null after a
                scan and after a failure.
        """
        ...


def load(name: str) -> Callback:
    """Return a new callback.

    Raises:
        ConfigError: If there is none of this name, two distributions claim it, or it cannot be
            made.
    """
    claims = tuple(installed().get(name, ()))
    if len(claims) + (name in OWN) > 1:
        told = " and ".join([*["memscan"] * (name in OWN), *map(distribution, claims)])
        raise ConfigError(f"the callback {name} is of {told}: uninstall one of them")
    if name in OWN:
        return _made(name, "memscan", lambda: _own(OWN[name]))
    if not claims:
        known = ", ".join(sorted({*OWN, *installed()}))
        raise ConfigError(f"--callback must be one of {known}, got {name!r}")
    return _made(name, distribution(claims[0]), claims[0].load)


@cache
def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of the group by name; a name has several if it is claimed twice."""
    found = dict[str, tuple[EntryPoint, ...]]()
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, distribution(p))):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _own(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _made(name: str, source: str, factory: Callable[[], Any]) -> Callback:
    try:
        made = factory()()
    except ScannerError:
        raise
    except Exception as error:
        why = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"the callback {name} of {source} cannot be made ({type(error).__name__}: {why}): "
            f"repair or uninstall the distribution, or leave out --callback {name}"
        ) from error
    if lacking := [each for each in _METHODS if not callable(getattr(made, each, None))]:
        raise ConfigError(
            f"the callback {name} of {source} must have the methods {', '.join(_METHODS)}; it "
            f"lacks {', '.join(lacking)}"
        )
    return cast("Callback", made)

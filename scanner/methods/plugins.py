"""Detectors of other distributions, found by the entry point group ``memscan.detectors``.

Names and distributions come from installed metadata; a distribution's code is imported when one
of its detectors is asked for, and never before.
"""

import re
from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from scanner.errors import ConfigError
from scanner.methods.declaration import Detector

GROUP = "memscan.detectors"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_OF_MAPS = ("delta_", "snap_back_")
"""Beginnings of the columns that a baseline network adds."""


@cache
def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of the group by name; a name has several if it is claimed twice."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, distribution(p))):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def distribution(point: EntryPoint) -> str:
    """Return name and version of the distribution that an entry point is of."""
    return (
        "an unknown distribution"
        if point.dist is None
        else f"{point.dist.name} " + (point.dist.version or "without a version")
    )


def refuse_clash(name: str, taken: Collection[str]) -> None:
    """Refuse a name that means two things.

    Args:
        name: Of a detector.
        taken: Names that memscan has already.

    Raises:
        ConfigError: If a distribution claims a name that is taken, or that no column can have, or
            two distributions claim the same.
    """
    points = installed().get(name, ())
    claims = " and ".join(map(distribution, points))
    if points and (name in taken or name.startswith(_OF_MAPS)):
        raise ConfigError(
            f"the detector {name} of {claims} has a name that memscan has already: rename it "
            f"there, or uninstall the distribution"
        )
    if points and not _NAME.fullmatch(name):
        raise ConfigError(
            f"the detector {name!r} of {claims} must have a name of lower-case letters, digits "
            f"and underscores, as its column has: rename it there, or uninstall the distribution"
        )
    if len(points) > 1:
        raise ConfigError(f"the detector {name} is of {claims}: uninstall one of them")


def load(name: str) -> Detector:
    """Return a detector of another distribution.

    Raises:
        ConfigError: If its code cannot be imported, or is no `Detector` of that name.
    """
    (point,) = installed()[name]
    try:
        found = point.load()
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"the detector {name} of {distribution(point)} cannot be loaded from {point.value} "
            f"({type(error).__name__}: {reason}): repair or uninstall the distribution, or leave "
            f"{name} out"
        ) from error
    if not isinstance(found, Detector) or found.name != name or found.observer is None:
        raise ConfigError(
            f"the detector {name} of {distribution(point)} must be a scanner.methods.Detector with "
            f"that name and an observer, got {_described(found)} from {point.value}"
        )
    return found


def _described(found: object) -> str:
    if not isinstance(found, Detector):
        return f"a {type(found).__name__}"
    return f"one named {found.name!r} {'with' if found.observer else 'without'} an observer"

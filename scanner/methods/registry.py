"""Every detector and map that a scan can be asked for, by name. Imports no torch."""

from collections.abc import Iterable, Sequence
from functools import cache
from types import MappingProxyType

from scanner.errors import ConfigError
from scanner.methods import guidance, inside, maps, plugins, products, steps
from scanner.methods.declaration import OF_NETWORK, Detector, Method, Need

DETECTORS = MappingProxyType(
    {
        method.name: method
        for group in (guidance, products, steps, inside)
        for method in group.DETECTORS
    }
)
"""Memscan's own. The order is that in which a spec lists them, so it is in runs' names."""
MAPS = MappingProxyType({method.name: method for method in maps.MAPS})
"""The same of maps."""
DEFAULT_MAPS = tuple(method.name for method in maps.MAPS if method.is_default)
USUAL_MAPS = tuple(m for m in maps.MAPS if m.is_default or Need.IMAGE in m.needs)
"""Maps of a scan for which nobody chose any, of those that its source has."""
LOW_EVIDENCE = ("tightness",)
"""Evidence whose small values point at memorization; it is no detector."""
_TAKEN = frozenset({*DETECTORS, *MAPS, *LOW_EVIDENCE, "increment_z"})


def detector_names() -> tuple[str, ...]:
    """Return what ``--detectors`` accepts: memscan's own, then those of other distributions."""
    return (*DETECTORS, *(name for name in plugins.installed() if name not in DETECTORS))


@cache
def detector(name: str) -> Detector:
    """Return a detector by its name; one of another distribution is imported now.

    Raises:
        ConfigError: If there is none, or the distribution that declares it is broken.
    """
    plugins.refuse_clash(name, _TAKEN)
    if name in DETECTORS:
        return DETECTORS[name]
    if name not in plugins.installed():
        raise ConfigError(
            f"there is no detector {name} here: install the package that declares it, on every "
            f"machine of the scan"
        )
    return plugins.load(name)


def asked(detectors: Iterable[str], metrics: Iterable[str]) -> list[Method]:
    """Return detectors and maps by their names.

    Raises:
        ConfigError: If a detector is not there.
    """
    return [*map(detector, detectors), *(MAPS[name] for name in metrics)]


def packages(detectors: Iterable[str]) -> dict[str, str]:
    """Return distribution and version of those detectors that are of another distribution."""
    others = [name for name in detectors if name not in DETECTORS]
    return {
        name: plugins.distribution(point)
        for name in others
        for point in plugins.installed().get(name, ())
    }


def low_is_suspicious(column: str) -> bool:
    """Return whether small values of a score's column point at memorization.

    Raises:
        ConfigError: If it is of a distribution that is broken.
    """
    if column in LOW_EVIDENCE:
        return True
    return column in detector_names() and detector(column).low_is_suspicious


def sign(column: str) -> int:
    """Return 1, or -1 for a score whose small values are suspicious: times it, high is.

    Raises:
        ConfigError: If it is of a distribution that is broken.
    """
    return -1 if low_is_suspicious(column) else 1


def refuse_network(methods: Sequence[Method], has: frozenset[Need], model: str) -> None:
    """Refuse methods that look at what a network does not have.

    Args:
        methods: What is asked for.
        has: Which needs of `OF_NETWORK` the network serves.
        model: What messages call it.

    Raises:
        ConfigError: If a method needs more.
    """
    for need in sorted(OF_NETWORK - has, key=lambda need: need.label):
        names = list(dict.fromkeys(method.name for method in methods if need in method.needs))
        if names:
            verb, them = ("needs", "it") if len(names) == 1 else ("need", "them")
            raise ConfigError(
                f"{' and '.join(names)} {verb} a network with {need.label}; {model} has none: "
                f"leave {them} out"
            )

"""Score columns beyond the fixed ones: their names, and what maps and steps put into them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from scanner.scan.state import mean
from scanner.spec import CONSENSUS, ScanSpec
from scanner.statistics.calibration import Calibration

MEANS = ("delta_h", "delta_s", "curvature")
"""Metrics of which a score column holds the spatial mean."""


def extra_columns(
    spec: ScanSpec, baselines: Sequence[str], calibration: Calibration | None
) -> tuple[str, ...]:
    """Return the names of the score columns beyond the fixed ones.

    Args:
        spec: What is asked.
        baselines: Names of the baselines beside the unconditional branch.
        calibration: Of sampled captions, if there is one.
    """
    at_image = spec.source != "generated"
    named: tuple[str, ...] = ("snap_back",) if at_image else ()
    if spec.localize != "none":
        asked = spec.maps
        named += tuple(name for name in ("delta_h", "curvature") if name in asked)
        for baseline in baselines if spec.captions else ():
            pair = (name for name in ("delta_h", "delta_s") if name in asked)
            named += tuple(f"{name}_{baseline}" for name in pair)
            named += (f"snap_back_{baseline}",) if at_image else ()
    if spec.flag_baseline is not None and spec.flag_by not in named:
        named += (spec.flag_by,)
    increments = ("increment_z",) if _compares_increments(spec, calibration) else ()
    consensus = (CONSENSUS,) if spec.flag_by == CONSENSUS else ()
    return named + spec.detectors + increments + consensus


def increment_column(
    spec: ScanSpec, calibration: Calibration | None, increments: Sequence[float] | None
) -> dict[str, float]:
    """Return the column that compares the lengths of a draw's steps with a calibration's.

    Args:
        spec: What is asked.
        calibration: Of sampled captions, if there is one.
        increments: The lengths; null where they were not asked for.

    Returns:
        Name and value; empty if nothing is compared.
    """
    compared = _compares_increments(spec, calibration)
    if increments is None or calibration is None or not compared:
        return {}
    return {"increment_z": calibration.increment_z(increments)}


def mean_columns(maps: dict[tuple[str, str], NDArray[np.float32]]) -> Iterator[tuple[str, float]]:
    """Yield the score columns that maps give: name and spatial mean."""
    for (metric, baseline), values in maps.items():
        if metric in MEANS and (metric, baseline) != ("delta_s", "null"):
            name = metric if baseline in ("null", "none") else f"{metric}_{baseline}"
            yield name, mean(values)


def _compares_increments(spec: ScanSpec, calibration: Calibration | None) -> bool:
    known = calibration is not None and calibration.increments
    return "increment" in spec.detectors and bool(known)

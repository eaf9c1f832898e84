"""Localization: maps from products with the Jacobians, and what takes as long as they do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scanner.methods import registry
from scanner.methods.products import cosines
from scanner.models.base import Denoiser, Level
from scanner.numerics import maps
from scanner.numerics.curvature import Pullback
from scanner.scan import cost
from scanner.scan.setting import TrajectorySetting
from scanner.scan.stages.detection import Detection, Maps
from scanner.scan.stages.draws import (
    Draw,
    ProbePortion,
    baseline_conditions,
    initial_latents,
    portions_of,
    setting_of,
)
from scanner.scan.stages.image import snap_back
from scanner.scan.stages.rounds import Diagonals, GraphOf, as_many_as, both_branches
from scanner.spec import ScanSpec


@dataclass(frozen=True, slots=True)
class Localization:
    """Maps of a localized batch.

    Attributes:
        maps: The maps that were asked for, but for those that detection gave.
        scores: Scores of detectors that need products with the Jacobian, by name, ``(B,)``.
        errors: Standard errors of the pixels of those maps that are means over rounds of
            products, ``(B, H, W)``; infinite of a single round.
        products: How many each draw's maps took of a branch, ``(B,)``; null without any.
    """

    maps: Maps = field(default_factory=dict)
    scores: dict[str, Tensor] = field(default_factory=dict)
    errors: Maps = field(default_factory=dict)
    products: Tensor | None = None


def localize(
    denoiser: Denoiser, baselines: Mapping[str, Denoiser], draws: Sequence[Draw],
    detection: Detection, spec: ScanSpec,
) -> Localization:  # fmt: skip
    """Return the maps that detection did not give, and the scores that take as long as maps.

    K vector-Jacobian products over both branches, and K over each baseline's conditional
    one; all branches see the same probes. FLIPD takes as many again, at the clean latents. Under
    a target error, Δh against the unconditional branch says how many a draw takes of all of them.

    Args:
        denoiser: The model.
        baselines: Networks of baselines by name. Without captions the only one is the other
            branch of every map, and has no maps of its own.
        draws: The batch.
        detection: Of the same draws: its points and its further maps are used.
        spec: Steps, probes and their design, and what is asked for.
    """
    setting = setting_of(denoiser, draws, spec, baselines)
    portions = portions_of(denoiser, draws, spec)
    found, both = Localization(), None
    if cost.takes_probes(spec):
        graph_of = _both(setting, -1 - spec.map_back, detection.point)
        both = both_branches(graph_of, portions, spec.target_error)
        found.maps.update(_curvature_maps(both, detection))
        found.errors.update(_errors(both))
    if detection.clean is not None and spec.late:
        at_clean = _both(setting, -1, detection.clean)
        clean = (
            both_branches(at_clean, portions, None) if both is None
            else as_many_as(both, at_clean, portions, branches=2)
        )  # fmt: skip
        found.scores.update(_late_scores(clean, setting.level(-1)[2], spec))
    if "anisotropy" in spec.maps and ("anisotropy", "null") not in detection.maps:
        with torch.no_grad():
            found.maps["anisotropy", "null"] = cosines(setting, initial_latents(denoiser, draws))
    if baselines and spec.captions:
        _add_baselines(found, baselines, setting, draws, detection, spec, portions, both)
    kept, errors = (
        {n: m for n, m in of.items() if n[0] in spec.maps} for of in (found.maps, found.errors)
    )
    return Localization(kept, found.scores, errors, None if both is None else both.products)


def _both(setting: TrajectorySetting, step: int, point: Tensor) -> GraphOf:
    """Return what evaluates the conditional and the unconditional branch of draws, in one graph."""
    level = setting.level(step)

    def graph_of(draws: Tensor) -> Pullback:
        some = setting.of_samples(draws)
        return Pullback(some.scores(level), torch.cat([point[draws], point[draws]]))

    return graph_of


def _errors(both: Diagonals) -> Maps:
    """Return the standard errors of the maps of both branches."""
    own, null = both.traces.unbind(dim=1)
    return {
        ("delta_h", "null"): maps.standard_error(null - own, both.taken),
        ("curvature", "none"): maps.standard_error(own, both.taken),
    }


def _curvature_maps(both: Diagonals, detection: Detection) -> Maps:
    """Return Δh, the curvature, and the maps that methods combine from others."""
    own, null = both.diagonals
    found: Maps = {
        ("delta_h", "null"): maps.delta_h(own, null),
        ("curvature", "none"): maps.curvature(own),
    }
    known = {metric: values for (metric, _), values in (detection.maps | found).items()}
    known["delta_s"] = detection.delta_s
    for method in registry.MAPS.values():
        if method.combine is not None and known.keys() >= set(method.of):
            found[method.name, "null"] = method.combine(*(known[name] for name in method.of))
    return found


def _late_scores(both: Diagonals, sigma: float, spec: ScanSpec) -> dict[str, Tensor]:
    """Return the scores of detectors that only localized captions have, from both branches."""
    found = dict[str, Tensor]()
    for method in map(registry.detector, spec.late):
        branch = method.branch
        if method.of_branch is not None:
            found[method.name] = method.of_branch(
                both.scores[branch], both.diagonals[branch], sigma
            )
    return found


def _add_baselines(
    found: Localization, baselines: Mapping[str, Denoiser], setting: TrajectorySetting,
    draws: Sequence[Draw], detection: Detection, spec: ScanSpec,
    portions: Sequence[ProbePortion], both: Diagonals | None,
) -> None:  # fmt: skip
    """Add the maps against each baseline, all under the caption; only Δs if ``both`` is null."""
    level, captions = setting.level(-1 - spec.map_back), setting.condition[: len(draws)]
    point = detection.point
    with torch.no_grad():
        score = both.scores[0] if both else setting.denoiser.score(point, level, captions)
    for name, network in baselines.items():
        theirs = baseline_conditions(network, [d.text for d in draws], captions)
        if both is None:
            with torch.no_grad():
                other = network.score(point, level, theirs)
        else:
            early = as_many_as(both, _one(network, level, theirs, point), portions, branches=1)
            other, rounds = early.scores[0], early.traces[:, 0] - both.traces[:, 0]
            found.maps["delta_h", name] = maps.delta_h(both.diagonals[0], early.diagonals[0])
            found.errors["delta_h", name] = maps.standard_error(rounds, both.taken)
        found.maps["delta_s", name] = maps.delta_s(score, other)
        if spec.source == "image" and detection.clean is not None:
            clean = detection.clean / level[1]
            ratio, ratios = snap_back(setting, point, clean, score, other)
            found.scores[f"snap_back_{name}"] = ratio
            found.maps["snap_back", name] = ratios


def _one(network: Denoiser, level: Level, condition: Tensor, point: Tensor) -> GraphOf:
    """Return what evaluates a network at draws, under each one's condition."""

    def graph_of(draws: Tensor) -> Pullback:
        return Pullback(lambda x: network.score(x, level, condition[draws]), point[draws])

    return graph_of

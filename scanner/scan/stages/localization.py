"""Localization: maps from products with the Jacobians, and what takes as long as they do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scanner.methods import registry
from scanner.methods.products import cosines
from scanner.models.base import Denoiser, Level
from scanner.numerics import maps
from scanner.scan import cost
from scanner.scan.setting import TrajectorySetting
from scanner.scan.stages.branches import score_and_diagonal
from scanner.scan.stages.detection import Detection, Maps
from scanner.scan.stages.draws import (
    Draw,
    baseline_conditions,
    initial_latents,
    probes_of,
    setting_of,
)
from scanner.scan.stages.image import snap_back
from scanner.spec import ScanSpec


@dataclass(frozen=True, slots=True)
class Localization:
    """Maps of a localized batch.

    Attributes:
        maps: The maps that were asked for, but for those that detection gave.
        scores: Scores of detectors that need products with the Jacobian, by name, ``(B,)``.
    """

    maps: Maps = field(default_factory=dict)
    scores: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Branch:
    """Score and Jacobian diagonal of one branch at the points, ``(B, C, H, W)`` each."""

    score: Tensor
    diagonal: Tensor


def localize(
    denoiser: Denoiser, baselines: Mapping[str, Denoiser], draws: Sequence[Draw],
    detection: Detection, spec: ScanSpec,
) -> Localization:  # fmt: skip
    """Return the maps that detection did not give, and the scores that take as long as maps.

    K vector-Jacobian products over both branches, and K over each baseline's conditional
    one; all branches see the same probes. FLIPD takes as many again, at the clean latents.

    Args:
        denoiser: The model.
        baselines: Networks of baselines by name. Without captions the only one is the other
            branch of every map, and has no maps of its own.
        draws: The batch.
        detection: Of the same draws: its points and its further maps are used.
        spec: Steps, probes and their design, and what is asked for.
    """
    setting = setting_of(denoiser, draws, spec, baselines)
    vectors = probes_of(denoiser, draws, spec)
    found, own = Localization(), None
    if cost.takes_probes(spec):
        own, null = _branches(setting, -1 - spec.map_back, detection.point, vectors)
        found.maps.update(_curvature_maps(own, null, detection))
    if detection.clean is not None and spec.late:
        pair = _branches(setting, -1, detection.clean, vectors)
        found.scores.update(_late_scores(pair, setting.level(-1)[2], spec))
    if "anisotropy" in spec.maps and ("anisotropy", "null") not in detection.maps:
        with torch.no_grad():
            found.maps["anisotropy", "null"] = cosines(setting, initial_latents(denoiser, draws))
    if baselines and spec.captions:
        _add_baselines(found, baselines, setting, draws, detection, spec, vectors, own)
    kept = {n: m for n, m in found.maps.items() if n[0] in spec.maps}
    return Localization(kept, found.scores)


def _branches(
    setting: TrajectorySetting, step: int, point: Tensor, vectors: Tensor
) -> tuple[_Branch, _Branch]:
    """Return the conditional and the unconditional branch, from one graph and the same probes."""
    function, pair = setting.scores(setting.level(step)), torch.cat([point, point])
    scores, diagonals = score_and_diagonal(function, pair, torch.cat([vectors, vectors], dim=1))
    (own, null), (own_diagonal, null_diagonal) = scores.chunk(2), diagonals.chunk(2)
    return _Branch(own, own_diagonal), _Branch(null, null_diagonal)


def _curvature_maps(own: _Branch, null: _Branch, detection: Detection) -> Maps:
    """Return Δh, the curvature, and the maps that methods combine from others."""
    found: Maps = {
        ("delta_h", "null"): maps.delta_h(own.diagonal, null.diagonal),
        ("curvature", "none"): maps.curvature(own.diagonal),
    }
    known = {metric: values for (metric, _), values in (detection.maps | found).items()}
    known["delta_s"] = detection.delta_s
    for method in registry.MAPS.values():
        if method.combine is not None and known.keys() >= set(method.of):
            found[method.name, "null"] = method.combine(*(known[name] for name in method.of))
    return found


def _late_scores(pair: tuple[_Branch, _Branch], sigma: float, spec: ScanSpec) -> dict[str, Tensor]:
    """Return the scores of detectors that only localized captions have, from both branches."""
    found = dict[str, Tensor]()
    for method in map(registry.detector, spec.late):
        branch = pair[method.branch]
        if method.of_branch is not None:
            found[method.name] = method.of_branch(branch.score, branch.diagonal, sigma)
    return found


def _add_baselines(
    found: Localization, baselines: Mapping[str, Denoiser], setting: TrajectorySetting,
    draws: Sequence[Draw], detection: Detection, spec: ScanSpec, vectors: Tensor,
    own: _Branch | None,
) -> None:  # fmt: skip
    """Add the maps against each baseline, all under the caption; only Δs if ``own`` is null."""
    level, captions = setting.level(-1 - spec.map_back), setting.condition[: len(draws)]
    point = detection.point
    with torch.no_grad():
        score = own.score if own else setting.denoiser.score(point, level, captions)
    for name, network in baselines.items():
        theirs = baseline_conditions(network, [d.text for d in draws], captions)
        if own is None:
            with torch.no_grad():
                other = network.score(point, level, theirs)
        else:
            function = _score_of(network, level, theirs)
            other, diagonal = score_and_diagonal(function, point, vectors)
            found.maps["delta_h", name] = maps.delta_h(own.diagonal, diagonal)
        found.maps["delta_s", name] = maps.delta_s(score, other)
        if spec.source == "image" and detection.clean is not None:
            clean = detection.clean / level[1]
            ratio, ratios = snap_back(setting, point, clean, score, other)
            found.scores[f"snap_back_{name}"] = ratio
            found.maps["snap_back", name] = ratios


def _score_of(network: Denoiser, level: Level, condition: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a network's score as a function of the point."""
    return lambda x: network.score(x, level, condition)

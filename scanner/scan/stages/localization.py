"""Localization: maps from products with the Jacobians, and what takes as long as they do."""

from collections.abc import Sequence
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
    denoiser: Denoiser, baseline: tuple[str, Denoiser] | None, draws: Sequence[Draw],
    detection: Detection, spec: ScanSpec,
) -> Localization:  # fmt: skip
    """Return the maps that detection did not give, and the scores that take as long as maps.

    K vector-Jacobian products over both branches, and K over the baseline network's conditional
    one; all branches see the same probes. FLIPD takes as many again, at the clean latents.

    Args:
        denoiser: The model.
        baseline: Name and network of the less-trained baseline, if there is one. Without captions
            it is the other branch of every map, and has no maps of its own.
        draws: The batch.
        detection: Of the same draws: its points and its further maps are used.
        spec: Steps, probes and their design, and what is asked for.
    """
    setting = setting_of(denoiser, draws, spec, baseline)
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
    if baseline is not None and spec.captions:
        name, network = baseline
        level = setting.level(-1 - spec.map_back)
        shared = setting.condition[: len(draws)]
        theirs = baseline_conditions(network, [d.text for d in draws], shared)
        against, pair = _baseline_maps(
            network, name, setting, level, detection.point, vectors, own, theirs
        )
        found.maps.update(against)
        if spec.source == "image" and detection.clean is not None:
            clean = detection.clean / level[1]
            ratio, ratios = snap_back(setting, detection.point, clean, *pair)
            found.scores[f"snap_back_{name}"] = ratio
            found.maps["snap_back", name] = ratios
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


def _baseline_maps(
    network: Denoiser, name: str, setting: TrajectorySetting, level: Level, point: Tensor,
    vectors: Tensor, own: _Branch | None, theirs: Tensor,
) -> tuple[Maps, tuple[Tensor, Tensor]]:  # fmt: skip
    """Return the maps against a less-trained network, and the scores of both under the caption.

    Only Δs if ``own`` was not needed. ``theirs`` are the captions' conditions for the network.
    """
    captions = setting.condition[: len(point)]
    if own is None:
        with torch.no_grad():
            score = setting.denoiser.score(point, level, captions)
            other = network.score(point, level, theirs)
        return {("delta_s", name): maps.delta_s(score, other)}, (score, other)
    other, early = score_and_diagonal(lambda x: network.score(x, level, theirs), point, vectors)
    found = {
        ("delta_h", name): maps.delta_h(own.diagonal, early),
        ("delta_s", name): maps.delta_s(own.score, other),
    }
    return found, (own.score, other)

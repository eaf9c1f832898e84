"""The stages of a scan as pure steps from a batch to a batch: detect or look, and localize."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from scanner import masks
from scanner.methods import Need, Step, registry
from scanner.methods.products import cosines
from scanner.models.base import Denoiser, Level, Worded
from scanner.numerics import curvature, detectors, maps, noise, snapback
from scanner.numerics.schedule import Prediction, ddim_end, ddim_step
from scanner.scan import cost
from scanner.scan.evaluation_counter import attentive, bottled, preparing
from scanner.scan.setting import TrajectorySetting, observers
from scanner.spec import ScanSpec


@dataclass(frozen=True, slots=True)
class Draw:
    """One sampling of one caption, or one noising of its image.

    Attributes:
        text: The caption.
        identity: `scanner.records.Caption.identity`; with the seed, what noise and probes are
            keyed by.
        seed: Sampling seed.
        at_image: Whether it is the image that is scored.
    """

    text: str
    identity: str
    seed: int
    at_image: bool = False


Maps = dict[tuple[str, str], Tensor]
"""``(B, H, W)`` float32 by (metric, baseline name)."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Scores and latents of a batch, from sampling or from images.

    Attributes:
        point: The latents at the step where maps are taken, ``(B, C, H, W)``.
        final: The finished latents, ``(B, C, H, W)``; of an image, its one-step estimate.
        delta_s: The map against the unconditional branch, ``(B, H, W)``.
        scores: Further detectors' scores by name, ``(B,)`` each.
        maps: Further maps that sampling gives for nothing.
        paths: A number per step by detector, ``(B, K)``, for detectors that a calibration compares.
        clean: The sampler's guess at the last timestep of the clean latent, or the image's own,
            scaled to that level, ``(B, C, H, W)``; null if nothing looks there.
    """

    point: Tensor
    final: Tensor
    delta_s: Tensor
    scores: dict[str, Tensor] = field(default_factory=dict)
    maps: Maps = field(default_factory=dict)
    clean: Tensor | None = None
    paths: dict[str, Tensor] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class FirstEvaluation:
    """The first step of a batch of trajectories.

    Attributes:
        conditional: Scores of pure noise under the captions, ``(B, C, H, W)``; a flow's outputs.
        unconditional: Without a caption.
        norm: ``||e_c - e_u||``, ``(B,)``; of a flow ``||o_c - o_u||``.
    """

    conditional: Tensor
    unconditional: Tensor
    norm: Tensor


@dataclass(frozen=True, slots=True)
class Branches:
    """Both branches at the same points, conditional first.

    Attributes:
        scores: ``(2B, C, H, W)``, in 1 / latent.
        prediction: The outputs behind them, where they say more than the scores; else null.
    """

    scores: Tensor
    prediction: Prediction | None = None

    def detached(self) -> "Branches":
        """Return the same without a graph."""
        kept = self.prediction
        if kept is not None:
            kept = replace(kept, output=kept.output.detach())
        return Branches(self.scores.detach(), kept)


@torch.no_grad()
def first_step(denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec) -> FirstEvaluation:
    """Evaluate the first step alone: two evaluations a draw, which `detect` need not repeat."""
    setting, x = setting_of(denoiser, draws, spec), initial_latents(denoiser, draws)
    level = setting.level(0)
    conditional, unconditional = setting.compared(level)(torch.cat([x, x])).chunk(2)
    if setting.schedule.flow:
        return FirstEvaluation(
            conditional, unconditional, detectors.norm(conditional - unconditional)
        )
    norm = detectors.norm(detectors.noise_difference(conditional, unconditional, level[2]))
    return FirstEvaluation(conditional, unconditional, norm)


@torch.no_grad()
def detect(
    denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec, begun: FirstEvaluation | None = None
) -> Detection:
    """Sample every draw with classifier-free guidance and take all scores on the way.

    Two evaluations a step, at batch 2B: ``steps * 2`` evaluations a draw. Δs costs none of its
    own, because the last step needs both scores anyway; what a further detector costs is in its
    declaration (`scanner.methods`).

    Args:
        denoiser: The model.
        draws: The batch.
        spec: Steps, guidance scale, and the detectors and maps that are asked for.
        begun: Of `first_step`, if it was taken; the first step costs nothing then.

    Raises:
        TypeError: If attention is asked for and the model gives none.
        ValueError: If the spec has no step.
    """
    setting = setting_of(denoiser, draws, spec)
    watching = observers(setting, spec.detectors)
    x = initial_latents(denoiser, draws)
    step = place = None
    for index in range(spec.steps):
        step = _step(setting, draws, spec, index, x, begun if index == 0 else None)
        place = step if index <= spec.steps - 1 - spec.map_back else place
        for observer in watching.values():
            observer.update(step)
        x = step.after
    if step is None or place is None:
        raise ValueError("a trajectory has at least one step")
    found: Maps = {}
    for observer in watching.values():
        found |= observer.maps()
    if step.attention is not None:
        found["bright_ending", "none"] = step.attention
    return Detection(
        place.x, x, maps.delta_s(place.conditional, place.unconditional),
        {name: observer.scores() for name, observer in watching.items()}, found,
        _clean(step, spec.guidance_scale) if spec.late else None,
        {name: path for name, one in watching.items() if (path := one.per_step()) is not None},
    )  # fmt: skip


@torch.no_grad()
def detect_image(
    denoiser: Denoiser, draws: Sequence[Draw], pictures: dict[str, Tensor], spec: ScanSpec,
    baseline: tuple[str, Denoiser] | None = None,
) -> Detection:  # fmt: skip
    """Noise the draws' own images and take all scores there.

    An image is encoded once, alone: an autoencoder takes more memory than the denoiser does. Then
    two evaluations a draw at batch 2B, and no sampling.

    Args:
        denoiser: The model.
        draws: The batch.
        pictures: By identity, ``(height, width, 3)`` uint8, at the model's size.
        spec: Timestep, and the detectors and maps that are asked for; its source is ``image``.
        baseline: Name and network of the less-trained baseline, if there is one; only used
            where images are scored without captions.

    Raises:
        TypeError: If attention is asked for and the model gives none.
    """
    setting = setting_of(denoiser, draws, spec, baseline)
    _, alpha, sigma = setting.level(0)
    latents = {d.identity: denoiser.compress(pictures[d.identity][None])[0] for d in draws}
    clean = torch.stack([latents[d.identity] for d in draws])
    watching = observers(setting, spec.detectors)
    x = snapback.noised(clean, initial_latents(denoiser, draws), alpha, sigma)
    step = _step(setting, draws, spec, 0, x)
    for observer in watching.values():
        observer.update(step)
    ratio, ratios = _snap_back(setting, x, clean, step.conditional, step.unconditional)
    found: Maps = {("snap_back", "null"): ratios}
    if step.attention is not None:
        found["bright_ending", "none"] = step.attention
    scores = {name: observer.scores() for name, observer in watching.items()}
    return Detection(
        x, step.after, maps.delta_s(step.conditional, step.unconditional),
        scores | {"snap_back": ratio}, found, alpha * clean,
    )  # fmt: skip


def _snap_back(
    setting: TrajectorySetting, x: Tensor, clean: Tensor, own: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the snap-back against a baseline, of the whole picture and by position, in bits.

    Args:
        setting: With the level of ``x``.
        x: The noised latents.
        clean: What was noised.
        own: The model's score under the caption.
        other: The baseline's.
    """
    _, alpha, sigma = setting.level(-1)
    mine = snapback.denoising_error(x, own, clean, alpha, sigma)
    theirs = snapback.denoising_error(x, other, clean, alpha, sigma)
    window = masks.window(max(x.shape[2:]))
    return snapback.snap_back(mine, theirs), snapback.snap_back_map(mine, theirs, window)


def _clean(step: Step, guidance_scale: float) -> Tensor:
    """Return ``alpha z`` for the clean latent z that the guided score points at (Tweedie)."""
    difference = step.conditional - step.unconditional
    guided = step.unconditional + guidance_scale * difference
    return step.x + step.level[2] ** 2 * guided


def _step(
    setting: TrajectorySetting, draws: Sequence[Draw], spec: ScanSpec, step: int, x: Tensor,
    begun: FirstEvaluation | None = None,
) -> Step:  # fmt: skip
    """Evaluate both branches, unless they are given, and take one guided step."""
    if begun is None:
        both, attention, features = _evaluated(setting, draws, spec, step, x)
    else:
        both, attention, features = _begun(setting, begun), None, []
    level, (own, null) = setting.level(step), both.scores.chunk(2)
    after = guided_step(setting, both, spec.guidance_scale, step, x)
    outputs = both.prediction.output if both.prediction and setting.schedule.flow else None
    bottleneck = None if not features else features[0][-len(x) :]
    return Step(step, level, x, own, null, after, outputs, attention, bottleneck)


def guided_step(
    setting: TrajectorySetting, both: Branches, guidance_scale: float, step: int, x: Tensor
) -> Tensor:
    """Return the latents after one guided DDIM step (for a flow: Euler's, which is the same).

    Guidance and step are of the network's output where it was kept, and of the score elsewhere:
    for a variance-preserving level with signal that comes to the same, and keeps the numbers of
    earlier versions to the last bit.

    Args:
        setting: The levels.
        both: Of `evaluated` at ``x``.
        guidance_scale: Of classifier-free guidance.
        step: Counted from 0.
        x: The latents, ``(B, C, H, W)``.
    """
    schedule = setting.schedule
    if both.prediction is not None:
        guided = both.prediction.guided(guidance_scale)
        return ddim_end(*guided.estimates(x, *setting.level(step)[1:]), schedule, step)
    own, null = both.scores.chunk(2)
    return ddim_step(x, null + guidance_scale * (own - null), schedule, step)


def evaluated(setting: TrajectorySetting, level: Level, pair: Tensor) -> Branches:
    """Evaluate both branches at points, ``(2B, C, H, W)``, conditional first.

    The output is kept where the score does not say everything: of flows, and where alpha is 0.
    """
    if not setting.schedule.flow and level[1] > 0:
        return Branches(setting.scores(level)(pair))
    prediction = setting.predict(level, pair)
    return Branches(prediction.score(pair, *level[1:]), prediction)


def _begun(setting: TrajectorySetting, begun: FirstEvaluation) -> Branches:
    """Return the first step as `evaluated` gave it."""
    pair, flow = torch.cat([begun.conditional, begun.unconditional]), setting.schedule.flow
    if not flow:
        return Branches(pair)
    # At a flow's first level there is only noise, and its score does not depend on the output.
    return Branches(pair.new_zeros(()).expand_as(pair), Prediction(pair, flow, -flow))


def _evaluated(
    setting: TrajectorySetting, draws: Sequence[Draw], spec: ScanSpec, step: int, x: Tensor
) -> tuple[Branches, Tensor | None, list[Tensor]]:
    """Evaluate both branches, and keep the attention and features asked for at the last step."""
    denoiser, level, pair = setting.denoiser, setting.level(step), torch.cat([x, x])
    seen, is_last = list[Tensor](), step == len(setting.schedule.timesteps) - 1
    with ExitStack() as around:
        features = list[Tensor]()
        if is_last and spec.needs(Need.MIDDLE_BLOCK):
            features = around.enter_context(bottled(denoiser).bottleneck())
        if is_last and spec.needs(Need.CROSS_ATTENTION):
            watched = attentive(denoiser)
            ends = watched.end_tokens([d.text for d in draws])
            seen = around.enter_context(watched.attention(ends))
        both = evaluated(setting, level, pair)
    return both, seen[0] if seen else None, features


def initial_latents(denoiser: Denoiser, draws: Sequence[Draw]) -> Tensor:
    """Return the pure noise that draws start from, ``(B, C, H, W)``."""
    shape = denoiser.latent_shape
    with preparing(denoiser):
        own = [noise.initial_latent(d.identity, d.seed, shape) for d in draws]
        return torch.stack(own).to(denoiser.device)


def setting_of(
    denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec,
    baseline: tuple[str, Denoiser] | None = None,
) -> TrajectorySetting:  # fmt: skip
    """Return what the draws' trajectory goes through.

    Without captions the branches that are compared are the model's and the baseline's.
    """
    at_image = spec.source == "image"
    schedule = denoiser.single(spec.timestep) if at_image else denoiser.schedule(spec.steps)
    other = None if spec.captions or baseline is None else baseline[1]
    conditions = both_conditions(denoiser, draws, other)
    return TrajectorySetting(denoiser, conditions, schedule, other)


def both_conditions(
    denoiser: Denoiser, draws: Sequence[Draw], other: Denoiser | None = None
) -> Tensor:
    """Return the captions' conditions, then as many unconditional ones, ``(2B, *)``.

    Args:
        denoiser: The model.
        draws: The batch.
        other: Whose unconditional branch it is; null for the model's own.
    """
    captions, empty = denoiser.encode([d.text for d in draws]), denoiser.encode([""])
    if other is not None:
        empty = conditions_of(other, [""], empty)
    return torch.cat([captions, empty.expand_as(captions)])


def conditions_of(network: Denoiser, captions: Sequence[str], shared: Tensor) -> Tensor:
    """Return the conditions of captions for a baseline: the model's, unless its words differ."""
    is_own = isinstance(network, Worded) and network.text_differs
    return network.encode(captions) if is_own else shared


def localize(
    denoiser: Denoiser, baseline: tuple[str, Denoiser] | None, draws: Sequence[Draw],
    seen: Detection, spec: ScanSpec,
) -> Localization:  # fmt: skip
    """Return the maps that detection did not give, and the scores that take as long as maps.

    K vector-Jacobian products over both branches, and K over the baseline network's conditional
    one; all branches see the same probes. FLIPD takes as many again, at the clean latents.

    Args:
        denoiser: The model.
        baseline: Name and network of the less-trained baseline, if there is one. Without captions
            it is the other branch of every map, and has no maps of its own.
        draws: The batch.
        seen: Of `detect`: its points and its further maps are used.
        spec: Steps, probes and their design, and what is asked for.
    """
    setting = setting_of(denoiser, draws, spec, baseline)
    vectors = probes_of(denoiser, draws, spec)
    found, own = Localization(), None
    if cost.takes_probes(spec):
        own, null = _branches(setting, -1 - spec.map_back, seen.point, vectors)
        found.maps.update(_curvature_maps(own, null, seen))
    if seen.clean is not None and spec.late:
        pair = _branches(setting, -1, seen.clean, vectors)
        found.scores.update(_late_scores(pair, setting.level(-1)[2], spec))
    if "anisotropy" in spec.maps and ("anisotropy", "null") not in seen.maps:
        with torch.no_grad():
            found.maps["anisotropy", "null"] = cosines(setting, initial_latents(denoiser, draws))
    if baseline is not None and spec.captions:
        name, network = baseline
        level = setting.level(-1 - spec.map_back)
        shared = setting.condition[: len(draws)]
        theirs = conditions_of(network, [d.text for d in draws], shared)
        against, pair = _against(network, name, setting, level, seen.point, vectors, own, theirs)
        found.maps.update(against)
        if spec.source == "image" and seen.clean is not None:
            clean = seen.clean / level[1]
            ratio, ratios = _snap_back(setting, seen.point, clean, *pair)
            found.scores[f"snap_back_{name}"] = ratio
            found.maps["snap_back", name] = ratios
    kept = {n: m for n, m in found.maps.items() if n[0] in spec.maps}
    return Localization(kept, found.scores)


def probes_of(denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec) -> Tensor:
    """Return every draw's own probes, ``(K, B, C, H, W)``."""
    shape, design = denoiser.latent_shape, spec.probe_design
    with preparing(denoiser):
        own = [noise.probes(d.identity, d.seed, shape, spec.probes, design) for d in draws]
        return torch.stack(own, dim=1).to(denoiser.device)


def _branches(
    setting: TrajectorySetting, step: int, point: Tensor, vectors: Tensor
) -> tuple[_Branch, _Branch]:
    """Return the conditional and the unconditional branch, from one graph and the same probes."""
    function, pair = setting.scores(setting.level(step)), torch.cat([point, point])
    scores, diagonals = score_and_diagonal(function, pair, torch.cat([vectors, vectors], dim=1))
    (own, null), (own_diagonal, null_diagonal) = scores.chunk(2), diagonals.chunk(2)
    return _Branch(own, own_diagonal), _Branch(null, null_diagonal)


def _curvature_maps(own: _Branch, null: _Branch, seen: Detection) -> Maps:
    found: Maps = {
        ("delta_h", "null"): maps.delta_h(own.diagonal, null.diagonal),
        ("curvature", "none"): maps.curvature(own.diagonal),
    }
    known = {metric: values for (metric, _), values in (seen.maps | found).items()}
    known["delta_s"] = seen.delta_s
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


def _against(
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


def score_and_diagonal(
    function: Callable[[Tensor], Tensor], point: Tensor, vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the function's value and its Jacobian's diagonal from one graph."""
    values: list[Tensor] = []

    def remembered(x: Tensor) -> Tensor:
        values.append(function(x))
        return values[0]

    diagonal = curvature.jacobian_diagonal(remembered, point, vectors)
    return values[0].detach(), diagonal

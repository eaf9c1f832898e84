"""Every detector and map a scan can be asked for: what it is, and what it costs.

All of them share one trajectory per (caption, seed). Most only look at it as it goes by; a few
evaluate the network once more. ``docs/methods.md`` has the same table with the formulas set out.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from scanner.models.base import Denoiser, Level
from scanner.numerics import detectors, noise
from scanner.numerics.schedule import Prediction, Schedule
from scanner.spec import WHEN_LOCALIZED, ScanSpec

LOW_NOISE = -3
"""Step of the low noise level at which `Anisotropy` looks at pure noise: the third from the end."""


TANGENTS_AT_ONCE = 2
"""Samples of one forward-mode product: unfused attention takes gigabytes each at 64 x 64."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a trajectory goes through, and the two branches that are compared on the way.

    Attributes:
        denoiser: The model.
        condition: The captions' conditions, then as many unconditional ones, ``(2B, *)``.
        schedule: The levels.
        other: Whose unconditional branch it is; null for the model's own.
    """

    denoiser: Denoiser
    condition: Tensor
    schedule: Schedule
    other: Denoiser | None = None

    def level(self, step: int) -> Level:
        """Return the level of a step."""
        schedule = self.schedule
        step %= len(schedule.timesteps)
        return schedule.timesteps[step], schedule.alphas[step], schedule.sigmas[step]

    def of_samples(self, samples: slice) -> "Setting":
        """Return the setting of some samples of the batch."""
        captions, empty = self.condition.chunk(2)
        return replace(self, condition=torch.cat([captions[samples], empty[samples]]))

    def scores(self, level: Level) -> Callable[[Tensor], Tensor]:
        """Return the function from points of both branches, ``(2B, C, H, W)``, to scores."""
        other = self.other
        if other is None:
            return lambda pair: self.denoiser.score(pair, level, self.condition)
        own, empty = self.condition.chunk(2)

        def apart(pair: Tensor) -> Tensor:
            x, y = pair.chunk(2)
            return torch.cat([self.denoiser.score(x, level, own), other.score(y, level, empty)])

        return apart

    def predict(self, level: Level, pair: Tensor) -> Prediction:
        """Return the outputs at points of both branches, ``(2B, C, H, W)``, in one target."""
        if self.other is None:
            return self.denoiser.predict(pair, level, self.condition)
        (x, y), (own, empty) = pair.chunk(2), self.condition.chunk(2)
        mine = self.denoiser.predict(x, level, own)
        theirs = self.other.predict(y, level, empty).put_as(mine, y, *level[1:])
        return replace(mine, output=torch.cat([mine.output, theirs.output]))

    def compared(self, level: Level) -> Callable[[Tensor], Tensor]:
        """Return the function to what is compared between branches at the first step.

        Scores; of a flow the outputs, since its first step has no signal and its scores are the
        same under every caption. From points of both branches, ``(2B, C, H, W)``, to that shape.
        """
        if not self.schedule.flow:
            return self.scores(level)
        return lambda pair: self.predict(level, pair).output


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a trajectory.

    Attributes:
        index: Counted from 0, the noisiest.
        level: Its level.
        x: The latents before it, ``(B, C, H, W)``.
        conditional: Their conditional score, in 1 / latent.
        unconditional: Their unconditional score.
        after: The latents after it.
        outputs: What a flow's network put out, ``(2B, C, H, W)``, conditional first; null of
            other models.
        attention: What the conditional branch's end-of-text token gets, ``(B, H, W)``, 0 to 1;
            at the last step and only if somebody asked.
        bottleneck: What the model's middle gave for the empty caption, ``(B, C, h, w)``; the same.
    """

    index: int
    level: Level
    x: Tensor
    conditional: Tensor
    unconditional: Tensor
    after: Tensor
    outputs: Tensor | None = None
    attention: Tensor | None = None
    bottleneck: Tensor | None = None

    @property
    def difference(self) -> Tensor:
        """``eps_c - eps_u``, ``(B, C, H, W)``; of a flow that of the outputs, ``o_c - o_u``.

        The two differ by the factor alpha, which is 0 at a flow's first step.
        """
        if self.outputs is not None:
            own, null = self.outputs.chunk(2)
            return own - null
        return detectors.noise_difference(self.conditional, self.unconditional, self.level[2])

    @property
    def compared(self) -> Tensor:
        """What `Setting.compared` gives here, ``(2B, C, H, W)``, conditional first."""
        if self.outputs is not None:
            return self.outputs
        return torch.cat([self.conditional, self.unconditional])


class Observer(Protocol):
    """A detector on its way along one batch's trajectory."""

    def update(self, step: Step) -> None:
        """Take a step in; steps come in order."""
        ...

    def scores(self) -> Tensor:
        """Return the scores, ``(B,)``, after the last step."""
        ...

    def maps(self) -> dict[tuple[str, str], Tensor]:
        """Return maps that fell off, ``(B, H, W)`` by (metric, baseline)."""
        ...

    def per_step(self) -> Tensor | None:
        """Return a number per step, ``(B, K)``, that a calibration compares; null of most."""
        ...


class ObserverBase:
    """An observer without maps, that keeps a number per sample from some of the steps."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def scores(self) -> Tensor:
        """Return the mean of what was kept, ``(B,)``."""
        return torch.stack(self.kept).mean(dim=0)

    def maps(self) -> dict[tuple[str, str], Tensor]:
        """Return none."""
        return {}

    def per_step(self) -> Tensor | None:
        """Return none."""
        return None


class Wen(ObserverBase):
    """The norm of the noise difference, averaged over the first steps or all of them.

    Args:
        steps: How many; null for all.
    """

    def __init__(self, steps: int | None) -> None:
        super().__init__()
        self.steps = steps

    def update(self, step: Step) -> None:
        """Keep the norm of an early enough step."""
        if self.steps is None or step.index < self.steps:
            self.kept.append(detectors.norm(step.difference))


class Sharpness(ObserverBase):
    """The Hessian-score product at the first step."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting

    def update(self, step: Step) -> None:
        """Take the product at the first step, a few samples at a time."""
        if step.index > 0:
            return
        own, null = step.compared.chunk(2)
        tangent = own - null
        parts: list[Tensor] = []
        for start in range(0, len(tangent), TANGENTS_AT_ONCE):
            part = slice(start, start + TANGENTS_AT_ONCE)
            function = self.setting.of_samples(part).compared(step.level)
            parts.append(detectors.sharpness(function, step.x[part], tangent[part]))
        self.kept.append(torch.cat(parts))


class GradientGap(ObserverBase):
    """Metric 2, at the first step."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting

    def update(self, step: Step) -> None:
        """Take the gradients at the first step."""
        if step.index == 0:
            function, flow = self.setting.compared(step.level), self.setting.schedule.flow
            scale = 1.0 if flow else step.level[2]  # outputs are compared as they are
            gap = detectors.gradient_gap(function, step.x, step.compared, scale)
            self.kept.append(gap)


class ScoreMatching(ObserverBase):
    """How far the conditional noise moves from the second step to the third."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Tensor | None = None

    def update(self, step: Step) -> None:
        """Remember the second step's noise, compare the third's."""
        if step.index not in (1, 2):
            return
        noise = step.conditional * -step.level[2]
        if self.before is None:
            self.before = noise
        else:
            self.kept.append(detectors.squared_norm(noise - self.before))


class Increment(ObserverBase):
    """The largest step of the latent along the trajectory."""

    def update(self, step: Step) -> None:
        """Keep the length of the step."""
        self.kept.append(detectors.norm(step.after - step.x))

    def scores(self) -> Tensor:
        """Return the largest length, ``(B,)``."""
        return torch.stack(self.kept).amax(dim=0)

    def per_step(self) -> Tensor | None:
        """Return the length of every step."""
        return torch.stack(self.kept, dim=1)


class Spread(ObserverBase):
    """How unevenly the sampled picture excites the channels of the network's bottleneck."""

    def update(self, step: Step) -> None:
        """Take the unconditional branch at the last step, which alone comes with features."""
        if step.bottleneck is not None:
            self.kept.append(detectors.spread(step.bottleneck))


class Anisotropy(ObserverBase):
    """The first step's norm, and how the guidance of pure noise lies at a low noise level."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        self.cosines: Tensor | None = None

    def update(self, step: Step) -> None:
        """Evaluate the pure noise once more at the first step."""
        if step.index == 0:
            self.cosines = cosines(self.setting, step.x)
            first = detectors.norm(step.difference)
            self.kept.append(detectors.anisotropy(first, self.cosines))

    def maps(self) -> dict[tuple[str, str], Tensor]:
        """Return the cosines."""
        return {} if self.cosines is None else {("anisotropy", "null"): self.cosines}


class BrightEnding(ObserverBase):
    """The noise difference where the end-of-text token is looked at, over all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.attention: Tensor | None = None

    def update(self, step: Step) -> None:
        """Keep every step's energies, and the attention of the last."""
        self.kept.append(step.difference.square().sum(dim=1))
        self.attention = step.attention

    def scores(self) -> Tensor:
        """Return the local detection score, ``(B,)``.

        Raises:
            ValueError: If the last step came without attention.
        """
        if self.attention is None:
            raise ValueError("the last step must come with attention")
        return detectors.focused_norm(torch.stack(self.kept), self.attention)


def cosines(setting: Setting, noise: Tensor) -> Tensor:
    """Return the per-position cosines of pure noise at the low noise level, ``(B, H, W)``.

    The noise is that of the first step, unscaled and undenoised: the mismatch is the method's.
    Two evaluations a sample.
    """
    pair = setting.scores(setting.level(LOW_NOISE))(torch.cat([noise, noise]))
    return detectors.cosine_map(*pair.chunk(2))


@dataclass(frozen=True, slots=True)
class Method:
    """An entry of the registry.

    Attributes:
        formula: In the letters of ``docs/methods.md``.
        unit: Of the number, or of a map's pixels.
        source: Where it was published.
        passes: Evaluations beyond the trajectory, by name in `EVALUATIONS`; shared by all that name
            the same.
        observer: Makes the observer; null where the method is taken when a caption is localized.
    """

    formula: str
    unit: str
    source: str
    evaluations: tuple[str, ...] = ()
    observer: Callable[[Setting], Observer] | None = None


EVALUATIONS: dict[str, dict[str, int]] = {
    "tangents": {"forward": 2, "jvp": 2},
    "gradients": {"forward": 2, "vjp": 2},
    "low_noise": {"forward": 2},
    "probes": {"forward": 2, "vjp": 2},
    "clean_probes": {"forward": 2, "vjp": 2},
}
"""Evaluations a draw; gradients of ``probes`` and ``clean_probes`` are for one probe."""

_WEN, _KIM = "Wen et al. 2024", "Kim & Lee 2026"
_ASTHANA, _CHEN = "Asthana & Belagiannis 2026", "Chen et al. 2025"
_ZHANG = "Zhang et al. 2026"
_ROSS, _ANONYMOUS = "Ross et al. 2025", "anonymous, ICML 2026 submission"

DETECTORS: dict[str, Method] = {
    "wen_first": Method("||e_c - e_u||, step 0", "noise", _WEN, observer=lambda _: Wen(1)),
    "wen_5": Method(
        "mean over steps 0..4 of ||e_c - e_u||", "noise", _WEN, observer=lambda _: Wen(5)
    ),
    "wen": Method(
        "mean over all steps of ||e_c - e_u||", "noise", _WEN, observer=lambda _: Wen(None)
    ),
    "sharpness": Method(
        "||(H_c - H_u)(s_c - s_u)||^2, step 0", "1 / latent^6", "Jeon et al. 2025",
        ("tangents",), Sharpness,
    ),
    "flipd": Method(
        "D - sigma tr(de_c/dx) + ||e_c||^2, denoised", "dimensions", _ROSS, ("clean_probes",)
    ),
    "flipd_null": Method(
        "D - sigma tr(de_u/dx) + ||e_u||^2, denoised", "dimensions", _ROSS, ("clean_probes",)
    ),
    "anisotropy": Method(
        "||e_c - e_u|| + mean cos(e_u, e_c - e_u)", "noise", _ASTHANA, ("low_noise",), Anisotropy
    ),
    "metric2": Method(
        "||J_c^T e_c - J_u^T e_u||^2, step 0", "1 / latent^2", _ANONYMOUS,
        ("gradients",), GradientGap,
    ),
    "dsm": Method(
        "||e_c(x_2) - e_c(x_1)||^2", "noise^2", _ANONYMOUS, observer=lambda _: ScoreMatching()
    ),
    "increment": Method(
        "max over steps of ||x_{k+1} - x_k||", "latent", "after Broken Memories 2026",
        observer=lambda _: Increment(),
    ),
    "bright_ending": Method(
        "mean over steps of ||(e_c - e_u) m|| / mean(m)", "noise", _CHEN,
        observer=lambda _: BrightEnding(),
    ),
    "spread": Method(
        "std over channels of the bottleneck's largest values, last step", "features", _ZHANG,
        observer=lambda _: Spread(),
    ),
}  # fmt: skip
"""What ``--detectors`` accepts."""

MAPS: dict[str, Method] = {
    "delta_s": Method("sum over channels of (s_c - s_u)^2", "1 / latent^2", _KIM),
    "delta_h": Method(
        "sum over channels of diag(-H_c) - diag(-H_u)", "1 / latent^2", _KIM, ("probes",)
    ),
    "curvature": Method("sum over channels of diag(-H_c)", "1 / latent^2", _KIM, ("probes",)),
    "anisotropy": Method("cos(e_u, e_c - e_u)", "1", _ASTHANA, ("low_noise",)),
    "bright_ending": Method("m, attention to the end-of-text token", "1", _CHEN),
    "combined": Method("delta_h m / mean(m)", "1 / latent^2", f"{_KIM}; {_CHEN}", ("probes",)),
    "combined_s": Method(
        "sign(delta_h) sqrt(|delta_h| delta_s)", "1 / latent^2", _KIM, ("probes",)
    ),
    "snap_back": Method(
        "log2(||z_u - z||^2 / ||z_c - z||^2), the noised image z denoised in one step",
        "bits",
        "ours",
    ),
}
"""What ``--maps`` accepts."""


def observers(setting: Setting, names: Sequence[str]) -> dict[str, Observer]:
    """Return fresh observers for the detectors that look at trajectories."""
    wanted = {name: DETECTORS[name].observer for name in names}
    return {name: make(setting) for name, make in wanted.items() if make is not None}


def step_of(metric: str, spec: ScanSpec) -> int:
    """Return the step at which a map is taken, counted back from the end: -1 is the last."""
    own = {"anisotropy": LOW_NOISE, "bright_ending": -1}
    return own.get(metric, -1 - spec.map_back)


def needs_attention(spec: ScanSpec) -> bool:
    """Whether somebody asks for the end-of-text token's attention."""
    on_maps = spec.localize != "none" and {"bright_ending", "combined"} & set(spec.maps)
    return "bright_ending" in spec.detectors or bool(on_maps)


def needs_bottleneck(spec: ScanSpec) -> bool:
    """Whether somebody asks for what the network's middle gives."""
    return "spread" in spec.detectors


def evaluations_of(spec: ScanSpec, *, localized: bool) -> set[str]:
    """Return the names in `EVALUATIONS` that a draw needs beyond its trajectory."""
    asked = [DETECTORS[n] for n in spec.detectors if localized or n not in WHEN_LOCALIZED]
    if localized:
        asked += [MAPS[name] for name in spec.maps]
    return {name for method in asked for name in method.evaluations}


def probes_taken(spec: ScanSpec, channels: int) -> int:
    """Return how many products a map takes: of structured probes only whole rounds fit.

    Args:
        spec: What is asked.
        channels: Of a latent.
    """
    return noise.num_probes(channels, spec.probes, spec.probe_design)


def evaluations(
    spec: ScanSpec, *, localized: bool, probes: int, baseline: bool = False
) -> Counter[str]:
    """Return what one draw costs.

    Args:
        spec: What is asked.
        localized: Whether the caption gets maps.
        probes: Products that the maps really take.
        baseline: Whether there is a less-trained network beside the model.

    Returns:
        ``forward``, ``vjp`` and ``jvp``, as `EvaluationCounter` counts them.
    """
    total = Counter(forward=2 if spec.source == "image" else 2 * spec.steps)
    if localized and baseline and spec.captions:
        maps = "probes" in evaluations_of(spec, localized=True)
        total.update({"forward": 1, "vjp": probes} if maps else {"forward": 2})
    for name in evaluations_of(spec, localized=localized):
        cost = dict(EVALUATIONS[name])
        if name in ("probes", "clean_probes"):
            cost["vjp"] *= probes
        total.update(cost)
    return total

"""The settings that decide scores, declared once for every function that takes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypedDict, TypeVar, cast, get_type_hints

from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.methods.declaration import existing
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

P = ParamSpec("P")
R = TypeVar("R")


class ScoreSettings(TypedDict, total=False):
    """Settings of scores, maps and flags; names and defaults are those of ``memscan scan``.

    What is left out comes from the calibration, if one is given, else from the defaults.

    Attributes:
        seeds: How many samplings a caption gets (the seeds 0, 1, ...), or the seeds; 1. A
            caption's score is their mean.
        steps: DDIM steps; 50.
        guidance_scale: Classifier-free guidance of the sampling; 7.5.
        map_back: How many steps before the last the maps are taken; 0.
        probes: Jacobian products per map and branch; 16, and more where the model's channels and
            tokens need them.
        probe_design: ``structured``, or ``rademacher`` as in Hutchinson (1990); ``structured``.
        target_error: Stop a map's products once the root mean square of its pixels' standard
            errors is below this share of the map's own; ``probes`` is then the most.
        detectors: Further scores, names of `scanner.methods.registry.detector_names`; none.
        maps: Which maps localized captions get, of `scanner.methods.registry.MAPS`; Δh and Δs
            among them.
        localize: Which captions get maps: ``all``, ``flagged`` or ``none``.
        fpr: False-positive rate at which a calibration flags, 0 to 1; 0.01.
        threshold: Flag above this score instead.
        flag_by: The score that flags: ``delta_s``, a detector, ``delta_s_NAME`` of a baseline, or
            ``consensus``.
        p_values: What p-values are taken among: ``all`` null captions, or those of the caption's
            ``kind``.
        pixel_threshold: A pixel is in the mask above this Δh, instead of by the calibration.
        mask_share: A pixel is in the mask above this share of its map's own level, instead.
        timestep: Training timestep to which images are noised; of images alone.
        noise: In its place, noise over signal (sigma / alpha) there, which means the same for
            every model: its nearest training timestep is taken.
    """

    seeds: int | Sequence[int]
    steps: int
    guidance_scale: float
    map_back: int
    probes: int
    probe_design: str
    target_error: float | None
    detectors: Sequence[str]
    maps: Sequence[str]
    localize: str
    fpr: float
    threshold: float | None
    flag_by: str
    p_values: str
    pixel_threshold: float | None
    mask_share: float | None
    timestep: int
    noise: float | None


def spec_of(
    model: str, dtype: str, settings: Mapping[str, Any], *,
    calibration: Calibration | None = None, source: str = "generated", captions: bool = True,
) -> ScanSpec:  # fmt: skip
    """Return the spec that settings ask for.

    Args:
        model: Whose timesteps they are.
        dtype: Precision of the network.
        settings: Of `ScoreSettings`.
        calibration: What takes the place of settings that were left out.
        source: ``generated`` or ``image``.
        captions: Whether images are scored under captions.

    Raises:
        TypeError: If a setting has no such name, as of any function.
        ConfigError: If one is out of its range, or the model has no such noise.
    """
    if unknown := sorted(set(settings) - set(ScoreSettings.__annotations__)):
        raise TypeError(f"unexpected keyword argument {', '.join(map(repr, unknown))}")
    asked: dict[str, Any] = {"localize": "all", "source": source, "captions": captions}
    asked["maps"] = existing(registry.USUAL_MAPS, source, captions=captions)
    asked |= {**_kept(calibration), **_at_timestep(model, settings, source)}
    for name in ("seeds", "detectors", "maps"):
        if name in asked:
            asked[name] = _tuple_of(name, asked[name])
    return ScanSpec(**asked, dtype=dtype)


def _at_timestep(model: str, settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return settings with the timestep that a noise stands for in its place.

    Raises:
        ConfigError: If nothing is noised, a timestep is given too, or the model has no such level.
    """
    found = dict(settings)
    noise = found.pop("noise", None)
    if noise is None:
        return found
    if source == "generated":
        raise ConfigError("noise is the level of noised images, and no image is scored here")
    if "timestep" in found:
        raise ConfigError("noise and timestep exclude each other: give one of them")
    from scanner.models.noise import nearest_timestep

    return found | {"timestep": nearest_timestep(model, noise)[0]}


def chooses_probes(settings: Mapping[str, Any], calibration: Calibration | None = None) -> bool:
    """Return whether nobody says how many products a map takes, so that the model decides.

    Args:
        settings: Of `ScoreSettings`.
        calibration: What takes the place of settings that were left out.
    """
    return "probes" not in {**_kept(calibration), **settings}


def _kept(calibration: Calibration | None) -> dict[str, Any]:
    """Return the settings of `ScoreSettings` that a calibration keeps."""
    kept = {} if calibration is None else calibration.settings
    return {name: kept[name] for name in ScoreSettings.__annotations__ if name in kept}


def _tuple_of(name: str, value: object) -> tuple[Any, ...]:
    if name == "seeds" and isinstance(value, int):
        return tuple(range(value))
    if isinstance(value, str):
        raise ConfigError(f"{name} must be a list, got {value!r}: write [{value!r}]")
    if not isinstance(value, Sequence):
        raise ConfigError(f"{name} must be a list, got {value!r}")
    return tuple(cast("Sequence[Any]", value))


def with_settings(function: Callable[P, R]) -> Callable[P, R]:
    """Show the settings of a function that takes them in its signature: ``help`` and notebooks."""
    usual = {each.name: each.default for each in fields(ScanSpec)}
    usual |= {"seeds": 1, "localize": "all", "noise": None}
    own = [p for p in signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    hints = get_type_hints(ScoreSettings)
    more = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=usual[name], annotation=hints[name])
        for name in ScoreSettings.__annotations__
    ]
    shown = signature(function).replace(parameters=[*own, *more])
    vars(function)["__signature__"] = shown
    return function

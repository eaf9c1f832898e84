"""Limits of a model, read from the configuration files of its folder, without weights."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanner import models
from scanner.errors import ConfigError
from scanner.methods import Need
from scanner.models.configs import read_config
from scanner.models.families import Family, family_of, known_family
from scanner.models.levels import SchedulerConfig, refuse_few_steps
from scanner.models.overlay import is_itself
from scanner.models.quantized import refuse_quantized
from scanner.numerics.portions import portions_of
from scanner.parsing import object_from_json
from scanner.spec import ROOM_FOR_ROUNDS, ScanSpec

GAUSSIAN_TIMESTEPS = 1000
USUAL_PROBES = 16
"""Products of a map where the model needs no more."""
_SHARED = (
    "_class_name", "in_channels", "sample_size", "cross_attention_dim", "joint_attention_dim",
    "pooled_projection_dim", "caption_channels", "cap_feat_dim", "patch_size",
)  # fmt: skip
"""What a network's configuration says of its class, its latents and its text states."""
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
"""Of what the parts of a pipeline may be."""
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
"""What weights are pickled in."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Properties of a model that decide which scans it can serve.

    Attributes:
        timesteps: How many training timesteps it has. No sampler has more steps, and an image is
            noised to one of them.
        has: What its network has for methods that look inside it.
        scheduler: What its scheduler says; null of a flow, and of a model without one.
        is_flow: Whether it is a flow: its first step holds no signal, and timestep t is the
            level ``sigma = t / timesteps``.
        channels: Of a latent.
        token_side: Side of the square of latent positions that share one token of the network.
        takes_captions: Whether there is anything to be conditioned on.
    """

    timesteps: int
    has: frozenset[Need]
    scheduler: SchedulerConfig | None = None
    is_flow: bool = False
    channels: int = 4
    token_side: int = 1
    takes_captions: bool = True

    def probes(self, design: str) -> int:
        """Return how many products a map takes by default.

        Of structured probes one round over the channels and the positions of a token, which mix
        in every transformer; over more positions where 16 products reach so far.
        """
        if design != "structured":
            return USUAL_PROBES
        return self.channels * max(self.token_side, math.isqrt(USUAL_PROBES // self.channels)) ** 2

    def probing(self, spec: ScanSpec, is_auto: bool) -> str:
        """Return what is to be known of a scan's products, in a sentence; ``""`` if nothing is.

        Args:
            spec: What is asked, its probes a number.
            is_auto: Whether the number is `probes`.
        """
        if spec.target_error is not None:
            return self._rounds(spec)
        each = self.channels * self.token_side**2
        round_of = f"{self.channels} channels"
        if self.token_side > 1:
            round_of += f" x {self.token_side} x {self.token_side} positions of a token"
        if spec.probe_design != "structured" or (is_auto and spec.probes == USUAL_PROBES):
            return ""
        if is_auto:
            return f"{spec.probes} products a map and branch: {round_of}"
        if spec.probes < self.channels:
            return (
                f"--probes {spec.probes} is less than a structured round over {self.channels} "
                f"channels: independent signs are taken instead (rademacher), and maps are "
                f"noisier; --probes auto takes {self.probes(spec.probe_design)}"
            )
        if spec.probes < each:
            return (
                f"--probes {spec.probes} is less than a round over {round_of}: positions of one "
                f"token share probes and blur each other; --probes auto takes "
                f"{self.probes(spec.probe_design)}"
            )
        return ""

    def _rounds(self, spec: ScanSpec) -> str:
        """Return what is to be known of the rounds of products under a target error."""
        portions = portions_of(
            self.channels, spec.probes, spec.probe_design, adaptive=True
        )  # fmt: skip
        sizes, usual = sorted({p.size for p in portions}), self.probes(spec.probe_design)
        said = (
            f"at most {sum(p.number for p in portions)} products a map and branch, in rounds of "
            f"{', then '.join(map(str, sizes))}"
        )
        if spec.probe_design != "structured" or sizes[-1] >= usual:
            return said
        return (
            f"{said}; --probes auto takes up to {ROOM_FOR_ROUNDS * usual}, with rounds of {usual}"
        )


def limits(model: str) -> Limits:
    """Return what a model can serve.

    Args:
        model: A diffusers pipeline folder, a hub id (downloaded if need be), or ``gaussian``.

    Raises:
        ConfigError: If it is not there, or of a class that memscan does not know.
    """
    if model == models.GAUSSIAN:
        return Limits(GAUSSIAN_TIMESTEPS, has=frozenset())
    family, _ = opened(model)
    folder = models.folder_of(model)
    network = read_config(model, folder / family.network / "config.json")
    if family.is_flow:
        return _of_flow(model, family, network)
    scheduler = SchedulerConfig.of(scheduler_of(model))
    blocks = network.get("down_block_types", ("CrossAttnDownBlock2D",))
    middle = network.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    parts = {
        Need.CROSS_ATTENTION: family.attends and any("CrossAttn" in str(b) for b in blocks),
        Need.MIDDLE_BLOCK: family.network == "unet" and middle is not None,
    }
    channels, token_side = family.tokens(network)
    return Limits(
        timesteps=scheduler.timesteps,
        has=frozenset(need for need, is_there in parts.items() if is_there),
        scheduler=scheduler,
        channels=channels,
        token_side=token_side,
        takes_captions=family.takes_captions,
    )


def opened(model: str) -> tuple[Family, dict[str, Any]]:
    """Return the family of a pipeline and its ``model_index.json``; no weights are read.

    Args:
        model: A diffusers pipeline folder or a hub id.

    Raises:
        ConfigError: If it is no pipeline, of a class that memscan does not serve, or a part of
            it is pickled, quantized or brings its own code.
    """
    folder = models.folder_of(model)
    file = folder / "model_index.json"
    if not file.exists():
        raise ConfigError(f"{model} is a network alone, without model_index.json: give a pipeline")
    try:
        index = object_from_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    family = known_family(model, index)
    _refuse_parts(model, folder, family, index)
    network = read_config(model, folder / family.network / "config.json")
    return family_of(model, index, network), index


def _refuse_parts(model: str, folder: Path, family: Family, index: Mapping[str, Any]) -> None:
    """Refuse parts that are pickled, quantized, or of other libraries.

    Raises:
        ConfigError: If there is one.
    """
    lists = {name: v for name, v in index.items() if isinstance(v, list) and name.isidentifier()}
    parts = {n: v for n, v in lists.items() if v != [None, None] and not n.startswith("_")}
    for name, kind in parts.items():
        if name in family.unused:
            continue
        if len(kind) != 2 or kind[0] not in _LIBRARIES:
            raise ConfigError(
                f"{model} brings its own {name} ({json.dumps(kind)[:60]}): memscan runs no code of "
                f"a model's folder"
            )
    for name in {*parts, family.network, "vae", "text_encoder"} - set(family.unused):
        files = [path.suffix for path in (folder / name).glob("*")]
        if _PICKLES & set(files) and ".safetensors" not in files:
            raise ConfigError(
                f"{model} has pickled weights in {name}/, which run code when they are loaded: "
                f"convert them (pipeline.save_pretrained with safe_serialization) where you "
                f"trust them"
            )
        refuse_quantized(model, folder / name, is_network=name == family.network)


def _of_flow(model: str, family: Family, network: Mapping[str, Any]) -> Limits:
    """Return what a flow can serve.

    Raises:
        ConfigError: If its scheduler is no flow's, or of a distilled network.
    """
    config = scheduler_of(model)
    refuse_few_steps(config)
    kind = str(config.get("_class_name", ""))
    if not (kind.startswith("FlowMatch") or config.get("use_flow_sigmas")):
        raise ConfigError(
            f"{model} is a {family.name}, whose network learns a flow, and its scheduler is a "
            f"{kind or 'scheduler without a class'}: its levels are not a flow's"
        )
    timesteps = int(config.get("num_train_timesteps", 1000))
    channels, token_side = family.tokens(network)
    return Limits(
        timesteps, has=frozenset(), is_flow=True, channels=channels, token_side=token_side
    )


def scheduler_of(model: str) -> dict[str, Any]:
    """Return the configuration of a pipeline's scheduler.

    Raises:
        ConfigError: If it is not there or cannot be read.
    """
    folder = models.folder_of(model)
    found = read_config(model, folder / "scheduler" / "scheduler_config.json")
    # diffusers' Stable Diffusion pipelines set the offset to 1 wherever a scheduler has one.
    is_first = (folder / "unet").is_dir() and opened(model)[0].encoder == "clip"
    return found | ({"steps_offset": 1} if is_first and "steps_offset" in found else {})


def baseline_scheduler(own: SchedulerConfig, baseline: str) -> dict[str, Any] | None:
    """Return the configuration of a baseline's scheduler; null where its folder has none.

    Args:
        own: What the model's scheduler says.
        baseline: A U-Net folder, or a pipeline folder or hub id.

    Raises:
        ConfigError: If the folder is the U-Net of a pipeline whose scheduler is not the model's:
            a run is named by what is in the folder, so the pipeline itself must be given.
    """
    folder = models.folder_of(baseline)
    file = folder / "scheduler" / "scheduler_config.json"
    if file.exists():
        return read_config(baseline, file)
    beside = folder.parent / "scheduler" / "scheduler_config.json"
    if not (folder.parent / "model_index.json").exists() or not beside.exists():
        return None
    if not own.reads_like(SchedulerConfig.of(read_config(baseline, beside))):
        raise ConfigError(
            f"{baseline} is a U-Net without its scheduler, and the one beside it is not the "
            f"model's: give the pipeline folder {folder.parent}"
        )
    return None


def refuse_baseline(model: str, baseline: str) -> None:
    """Refuse a less-trained network that cannot stand beside a model, by their folders.

    Raises:
        ConfigError: If one of them is not there, they do not share a latent space, or the
            baseline's output cannot be turned into a score.
    """
    if model == models.GAUSSIAN:
        raise ConfigError("a baseline network needs a diffusers pipeline beside it")
    if is_itself(baseline):
        return
    folder, part = models.folder_of(baseline), opened(model)[0].network
    own = read_config(model, models.folder_of(model) / part / "config.json")
    alone = folder / "config.json"
    other = read_config(baseline, alone if alone.exists() else folder / part / "config.json")
    refuse_quantized(baseline, folder if alone.exists() else folder / part, is_network=True)
    refuse_apart(own, other)
    baseline_reading(model, baseline)


def baseline_reading(model: str, baseline: str) -> str:
    """Return how a baseline's output is read, in a sentence; ``""`` where that goes without saying.

    Raises:
        ConfigError: If one of them cannot be read.
    """
    own = None if is_itself(baseline) else limits(model).scheduler
    if own is None:
        return ""
    scheduler = baseline_scheduler(own, baseline)
    if scheduler is None:
        return (
            f"the baseline {baseline} has no scheduler: its output is taken to be "
            f"{own.prediction}, at the model's own noise levels"
        )
    other = SchedulerConfig.of(scheduler)
    if own.reads_like(other):
        return ""
    return (
        f"the baseline {baseline} has another scheduler than the model: its output is read as "
        f"{other.prediction}, at its own timestep of the same noise level"
    )


def refuse_apart(model: Mapping[str, Any], baseline: Mapping[str, Any]) -> None:
    """Refuse a baseline whose latents or text states have another shape than the model's.

    Args:
        model: The configuration of its U-Net; what it leaves unsaid is not compared.
        baseline: The other one's.

    Raises:
        ConfigError: If they differ, naming in what.
    """
    for name in _SHARED:
        if name in model and name in baseline and model[name] != baseline[name]:
            raise ConfigError(
                f"the baseline's {name} is {baseline[name]}, the model's {model[name]}: a baseline "
                f"must share the latent space"
            )

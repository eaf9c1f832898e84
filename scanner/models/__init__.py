"""From the name of a model to a denoiser. Importing this does not import torch."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scanner.errors import ConfigError
from scanner.models import hub
from scanner.models.overlay import NOTHING_OFF, OFF, PROMPT, Overlay, is_itself, prompt_of
from scanner.parsing import object_from_json

if TYPE_CHECKING:
    from scanner.models.base import Denoiser

GAUSSIAN = "gaussian"
"""Name of the closed-form model that needs no weights."""

# Threads of torch that wait must not keep the cores from those that work: docs/performance.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # both warn at import about what
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # text-to-image does not use

_MARKS = ("model_index.json", "config.json", "unet/config.json", "transformer/config.json")
_BARE = ("", ".", "unet", "transformer")
_KEPT = {".json", ".safetensors", ".txt", ".model"}


def load(
    model: str, *, device: str = "cpu", dtype: str = "float32", side: int | None = None,
    overlay: Overlay | None = None, offload: str = "none", gpus: int = 1,
) -> "Denoiser":  # fmt: skip
    """Load a model.

    Args:
        model: A diffusers pipeline folder, a hub id (``ID`` or ``ID@REVISION``), or ``gaussian``.
        device: Such as ``cpu`` or ``cuda``.
        dtype: Precision of the network.
        side: Of its pictures, in pixels; null takes what the model says.
        overlay: Adapters and weights over it, if any.
        offload: Parts that are on the device only while they run, of `scanner.spec.OFFLOADS`.
        gpus: CUDA devices over which its network is spread.

    Raises:
        ConfigError: If it is not there or cannot be read; the text says what was expected.
        DeviceError: If it does not fit on the GPUs.
    """
    from scanner.models.placement import Placement

    placement = Placement(device, offload, gpus)
    refuse_overlay(model, overlay or Overlay())
    if model == GAUSSIAN:
        from scanner.models.gaussian import Gaussian

        return Gaussian(device)
    from scanner.models import limits, loading

    limits.limits(model)
    folder = folder_of(model)
    family, index = limits.opened(model)
    return loading.load(str(folder), family, index, placement, dtype, side, overlay)


def refuse_overlay(model: str, overlay: Overlay) -> None:
    """Refuse files that cannot be laid over a model, by their headers; no weights are read.

    Raises:
        ConfigError: If there is one.
    """
    from scanner.models import limits

    if not overlay:
        return
    if model == GAUSSIAN:
        raise ConfigError("--lora and --weights need a diffusers pipeline under them")
    overlay.refuse(loads_lokr=limits.opened(model)[0].loads_lokr)


def load_baseline(source: str, denoiser: "Denoiser", dtype: str = "float32") -> "Denoiser":
    """Load the baseline of ``denoiser``: a less-trained network, its base, or itself.

    Args:
        source: A pipeline folder or hub id, whose network and scheduler are taken, or a
            network's folder: its output is read as the model's is. ``off`` is the base of the
            model's own adapters and weights; of adapters it needs no weights of its own.
            ``prompt:TEXT`` is the model itself under this caption.
        denoiser: The model under audit.
        dtype: Precision of the network.

    Raises:
        ConfigError: If it cannot be read, the two do not share a latent space, or its output
            cannot be turned into a score.
    """
    from scanner.models import diffusion, limits, loading

    if not isinstance(denoiser, diffusion.Diffusion):
        raise ConfigError("a baseline network needs a diffusers pipeline beside it")
    if (prompt := prompt_of(source)) is not None:
        return denoiser.under(prompt)
    if source == OFF:
        if not denoiser.overlay:
            raise ConfigError(NOTHING_OFF)
        off = denoiser.off() if denoiser.overlay.loras else denoiser
        if denoiser.overlay.weights is None:
            return off
        return off.with_network(loading.load_network(denoiser.folder, denoiser, dtype))
    scheduler = None
    if denoiser.levels is not None:
        scheduler = limits.baseline_scheduler(denoiser.levels, source)
    network = loading.load_network(str(folder_of(source)), denoiser, dtype)
    return denoiser.with_network(network, scheduler)


def load_baselines(
    sources: Sequence[str], denoiser: "Denoiser", dtype: str = "float32"
) -> dict[str, "Denoiser"]:
    """Load the baselines of ``denoiser``, each as `load_baseline` does, by their names.

    Raises:
        ConfigError: If one cannot be read or does not fit.
    """
    named = baseline_names(sources)
    return {name: load_baseline(source, denoiser, dtype) for name, source in named.items()}


def baseline_names(sources: Sequence[str]) -> dict[str, str]:
    """Return baselines by what the tables call them; the second of a name is ``name_2``."""
    named = dict[str, str]()
    for source in sources:
        name = own = baseline_name(source)
        number = 2
        while name in named:
            name, number = f"{own}_{number}", number + 1
        named[name] = source
    return named


def baseline_name(source: str) -> str:
    """Return what a baseline is called in the tables: its folder's name, or the id's last part.

    Every ``prompt:TEXT`` is called ``prompt``; the run's record has the text.
    """
    if prompt_of(source) is not None:
        return "prompt"
    if _is_of_hub(source):
        source = hub.id_and_revision(source)[0]
    parts = [part for part in source.replace("\\", "/").split("/") if part not in _BARE]
    return parts[-1] if parts else "baseline"


def located(model: str) -> str:
    """Return a folder as an absolute path, which every process finds; a hub id as it is."""
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def located_baseline(name: str) -> str:
    """Return a baseline as a job names it: ``off``, a prompt, an absolute path or a hub id."""
    return name if is_itself(name) else located(name)


def pinned(model: str) -> str:
    """Return a hub id with the commit of its files here, ``ID@COMMIT``; other names as they are.

    Raises:
        ConfigError: If a hub id cannot be had.
    """
    return hub.pinned(model) if _is_of_hub(model) else model


def _is_of_hub(model: str) -> bool:
    """Whether a name can be a hub's and no folder: ``ID`` or ``ID@REVISION``."""
    path = Path(model).expanduser()
    is_path = path.is_dir() or path.is_absolute() or model.startswith((".", "~", PROMPT))
    return not is_path and model.partition("@")[0].count("/") == 1


def folder_of(model: str) -> Path:
    """Return the folder of a model: itself, or the hub's snapshot (downloaded if need be).

    Raises:
        ConfigError: If there is no such folder and no such hub id can be had.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        if any((path / name).exists() for name in _MARKS):
            return path.resolve()
        raise ConfigError(
            f"{model} is not a model folder: it has no model_index.json (a diffusers pipeline) "
            f"and no config.json, nor unet/config.json (a U-Net)"
        )
    if not _is_of_hub(model):
        raise ConfigError(
            f"no model at {model}: give a diffusers pipeline folder (with model_index.json) or "
            f"a hub id such as CompVis/stable-diffusion-v1-4"
        )
    return hub.snapshot(model)


def fingerprint(model: str, overlay: Overlay | None = None) -> str:
    """Return twelve hex digits of a model's weights and configurations, and of what is over it.

    Two copies of one model share it, wherever they lie. Models of linspace and trailing spacing
    carry a mark beside: runs of earlier versions, which followed other levels, are others.

    Raises:
        ConfigError: If the model is not there.
    """
    if overlay:
        return overlay.fingerprint(fingerprint(model))
    if model == GAUSSIAN:
        return hashlib.sha256(b"gaussian-1").hexdigest()[:12]
    folder = folder_of(model)
    total = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _KEPT):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(folder).as_posix()} {content}\n".encode())
    if _spacing(folder) in ("linspace", "trailing"):
        total.update(b"levels 2\n")
    return total.hexdigest()[:12]


def baselines_fingerprint(model: str, baselines: Sequence[str], base: str) -> str:
    """Return the fingerprints of baselines in their order, joined by a plus sign.

    Args:
        model: The model.
        baselines: Its baselines; their order names those that would have one name.
        base: The model's fingerprint, without what is over it.

    Raises:
        ConfigError: If one of them is not there or cannot be read.
    """
    return "+".join(baseline_fingerprint(model, each, base) for each in baselines)


def baseline_fingerprint(model: str, baseline: str, base: str) -> str:
    """Return the fingerprint of a baseline beside a model.

    One whose scheduler is another than the model's has another fingerprint than the folder
    alone: its output is read in another way.

    Args:
        model: The model.
        baseline: The baseline.
        base: The model's fingerprint, without what is over it: its weights are not read again.

    Raises:
        ConfigError: If one of them is not there or cannot be read.
    """
    from scanner.models.levels import SchedulerConfig
    from scanner.models.limits import baseline_scheduler, limits

    if is_itself(baseline):
        return hashlib.sha256(f"{base} {baseline}".encode()).hexdigest()[:12]

    own = limits(model).scheduler
    if own is None:
        return fingerprint(baseline)
    scheduler = baseline_scheduler(own, baseline)
    alone = fingerprint(baseline)
    if scheduler is None or own.reads_like(SchedulerConfig.of(scheduler)):
        return alone
    return hashlib.sha256(f"{alone} read by its own scheduler".encode()).hexdigest()[:12]


def _spacing(folder: Path) -> str:
    """Return how a pipeline's sampler spaces its timesteps, as far as its folder says it."""
    try:
        file = folder / "scheduler" / "scheduler_config.json"
        return str(object_from_json(file.read_bytes()).get("timestep_spacing", ""))
    except (OSError, ValueError):
        return ""

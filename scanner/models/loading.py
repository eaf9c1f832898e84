"""Pipelines and networks from their folders: safetensors alone, and no code of theirs."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging as transformers_logging

from scanner.errors import ConfigError
from scanner.models.adapters import lay_over
from scanner.models.configs import first_line
from scanner.models.diffusion import Diffusion
from scanner.models.families import Family
from scanner.models.overlay import Overlay
from scanner.models.placement import Placement
from scanner.models.split import refuse_unsplit
from scanner.models.stable_diffusion import StableDiffusion
from scanner.models.unet import UNetDiffusion

_BROKEN = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
           OSError, RuntimeError, StrictDataclassError, TypeError, ValueError)  # fmt: skip
"""What libraries raise over a folder that is no sound model: they check none of it."""


def load(
    source: str, family: Family, index: dict[str, Any], placement: Placement, dtype: str,
    side: int | None = None, overlay: Overlay | None = None,
) -> Diffusion:  # fmt: skip
    """Load a pipeline from its folder, from safetensors only.

    Args:
        source: The folder.
        family: Of its class.
        index: Its ``model_index.json``. Parts that it says are absent are passed as such.
        placement: Where its parts shall be.
        dtype: Precision of the parts.
        side: Of its pictures, in pixels; null takes what its configuration says.
        overlay: Adapters and weights over it, if any.

    Raises:
        ConfigError: If it is no pipeline of this class, or cannot be read, or what is laid over
            it does not fit, or it cannot be split over GPUs.
        DeviceError: If it does not fit on them.
    """
    if placement.gpus > 1:
        refuse_unsplit()
    kind = _pipeline_class(family)
    takes = set(inspect.signature(kind.__init__).parameters)
    absent = {name for name, value in index.items() if value == [None, None]}
    parts = dict.fromkeys(takes & (absent | set(family.unused)))
    try:
        with quiet():
            pipeline = kind.from_pretrained(
                source,
                torch_dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=Path(source).exists(),
                **parts,
                **({"requires_safety_checker": False} if "safety_checker" in parts else {}),
            )
            if "id2label" in index:
                pipeline.register_to_config(id2label=index["id2label"])  # it forgets them
            if overlay:
                lay_over(pipeline, family.network, overlay)
            denoiser = _adapter(pipeline, family, side)
            denoiser.schedule(2)
    except _BROKEN as error:
        raise ConfigError(
            f"cannot load {source} as a {family.name} pipeline: {first_line(error)}"
        ) from error
    denoiser.folder, denoiser.overlay = source, overlay or denoiser.overlay
    vae = denoiser.vae
    if dtype == "float16" and vae and vae.config.get("force_upcast") and family.encoder != "clip":
        vae.float()  # its activations exceed half precision
    return denoiser.place(placement)


def load_network(source: str, like: Diffusion, dtype: str) -> Any:
    """Load a network of a model's class from its own folder, or from a pipeline folder.

    Raises:
        ConfigError: If it cannot be read.
    """
    alone = (Path(source) / "config.json").exists()
    part = like.family.network
    try:
        with quiet():
            return type(like.network).from_pretrained(
                source,
                subfolder=None if alone else part,
                torch_dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=Path(source).exists(),
            )
    except _BROKEN as error:
        what = "U-Net" if part == "unet" else part
        raise ConfigError(f"cannot load {source} as a baseline {what}: {first_line(error)}") from (
            error
        )


def _pipeline_class(family: Family) -> Any:
    """Return the diffusers class of a family.

    Raises:
        ConfigError: If this diffusers is too old to have it.
    """
    found = getattr(diffusers, family.pipeline, None)
    if found is None:
        raise ConfigError(
            f"diffusers {diffusers.__version__} has no {family.pipeline}: install a newer one"
        )
    return found


def _adapter(pipeline: Any, family: Family, side: int | None) -> Diffusion:
    if family.encoder == "clip":
        return StableDiffusion(pipeline, "cpu", side)
    kind = UNetDiffusion if family.network == "unet" else Diffusion
    return kind(pipeline, family, "cpu", side)


@contextmanager
def quiet() -> Iterator[None]:
    """Load without progress bars and without the libraries' notes to their own developers."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield

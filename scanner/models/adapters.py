"""Adapters and weights into a loaded pipeline, all of a file or none of it."""

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from scanner.errors import ConfigError
from scanner.models.configs import first_line
from scanner.models.overlay import Lora, Overlay, adapter_numbers, header, layers_of

_PREFIX = re.compile(r"^(?:model\.diffusion_model\.|diffusion_model\.|unet\.|transformer\.)")
_OFF: ContextVar[tuple[Any, ...]] = ContextVar("modules whose adapters are off", default=())
_BROKEN = (ArithmeticError, AttributeError, AssertionError, ImportError, LookupError, OSError,
           RuntimeError, TypeError, ValueError)  # fmt: skip
"""What libraries raise over a file that is not for a network."""


def lay_over(pipeline: Any, network: str, overlay: Overlay) -> None:
    """Load weights and adapters into a pipeline, and turn the adapters on.

    Args:
        pipeline: The base.
        network: Name of its denoiser.
        overlay: What to load.

    Raises:
        ConfigError: If a file does not fit, or not all of it does; the text has counts.
    """
    if overlay.weights is not None:
        load_weights(getattr(pipeline, network), overlay.weights)
    if not overlay.loras:
        return
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("--lora needs the package peft: pip install 'memscan[lora]'")
    if not hasattr(pipeline, "load_lora_weights"):
        raise ConfigError(f"diffusers loads no LoRA into a {type(pipeline).__name__}")
    names = [f"memscan{number}" for number in range(len(overlay.loras))]
    for name, lora in zip(names, overlay.loras, strict=True):
        _load_lora(pipeline, lora, name)
    pipeline.set_adapters(names, [lora.scale for lora in overlay.loras])
    dtype = getattr(pipeline, network).dtype
    for module in adapted(pipeline).values():
        module.to(dtype)


def _load_lora(pipeline: Any, lora: Lora, name: str) -> None:
    """Load one adapter.

    Raises:
        ConfigError: If not all of its layers landed.
    """
    path, wanted = Path(lora.path), layers_of(lora.path)
    numbers = adapter_numbers(header(lora.path))
    try:
        pipeline.load_lora_weights(
            str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True,
            use_safetensors=True,
        )  # fmt: skip
    except _BROKEN as error:
        raise ConfigError(
            f"{lora.file} is not for this base: 0 of its {len(wanted)} layers were loaded "
            f"({first_line(error)[:200]})"
        ) from error
    layers = [list(layer) for layer in _layers(pipeline, name)]
    if sum(matrix.numel() for layer in layers for matrix in layer) != numbers:
        raise ConfigError(
            f"{lora.file} is not, or not all of it, for this base: {len(layers)} of its "
            f"{len(wanted)} layers were loaded; without the others an audit would be of another "
            f"model"
        )


def _layers(pipeline: Any, name: str) -> Iterator[Iterator[Tensor]]:
    """Yield, of each of an adapter's layers, the second matrix, or the factors of a LoKr."""
    for part in adapted(pipeline).values():
        for module in part.modules():
            matrices = getattr(module, "lora_B", None)
            if isinstance(matrices, nn.ModuleDict) and name in matrices:
                yield matrices[name].parameters()
            elif name in getattr(module, "lokr_w1", ()) or name in getattr(module, "lokr_w1_a", ()):
                yield (
                    matrix
                    for factor, matrix in module.named_parameters()
                    if factor.startswith("lokr_") and factor.endswith(f".{name}")
                )


def adapted(pipeline: Any) -> dict[str, nn.Module]:
    """Return the parts of a pipeline that have adapters."""
    parts = {n: part for n, part in vars(pipeline).items() if isinstance(part, nn.Module)}
    return {n: part for n, part in parts.items() if getattr(part, "peft_config", None)}


@contextmanager
def without_adapters(modules: list[Any]) -> Iterator[None]:
    """Turn adapters off in what is evaluated inside; the base's own layers are used as they are."""
    for module in modules:
        _switch(module, on=False)
    before = _OFF.set((*_OFF.get(), *modules))
    try:
        yield
    finally:
        _OFF.reset(before)
        for module in modules:
            _switch(module, on=True)


def switched_off() -> list[Any]:
    """Return the modules whose adapters are off here, inside of `without_adapters`."""
    return list(_OFF.get())


def _switch(module: Any, *, on: bool) -> None:
    if hasattr(module, "enable_lora"):  # a network of diffusers
        (module.enable_lora if on else module.disable_lora)()
    else:  # a text encoder
        (module.enable_adapters if on else module.disable_adapters)()


def load_weights(network: nn.Module, file: str) -> None:
    """Replace all of a network's weights by a file's.

    Names may be diffusers', with or without the prefixes of ComfyUI and Civitai, or the original
    ones of a family that diffusers converts.

    Raises:
        ConfigError: If not all of its tensors have a place, or not every place gets one.
    """
    content = {_PREFIX.sub("", name): tensor for name, tensor in load_file(file).items()}
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if not _fit(content, own):
        content = _converted(network, content) or content
    fitting = _fit(content, own)
    if len(fitting) < len(content) or len(fitting) < len(own):
        raise ConfigError(
            f"{file} is not, or not all of it, for this base: {len(fitting)} of its {len(content)} "
            f"tensors have a place, and the network has {len(own)}"
        )
    network.load_state_dict(content)


def _fit(content: dict[str, Tensor], own: dict[str, torch.Size]) -> list[str]:
    return [name for name, tensor in content.items() if own.get(name) == tensor.shape]


def _converted(network: nn.Module, content: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Return original names as diffusers', if it knows how; else null."""
    from diffusers.loaders import single_file_model

    known = getattr(single_file_model, "SINGLE_FILE_LOADABLE_CLASSES", {})
    convert = known.get(type(network).__name__, {}).get("checkpoint_mapping_fn")
    if convert is None:
        return None
    prefixed = {f"model.diffusion_model.{name}": tensor for name, tensor in content.items()}
    for names in (prefixed, content):
        try:
            found = convert(checkpoint=dict(names), config=dict(network.config))  # pyright: ignore
        except _BROKEN:
            continue
        if found:
            return dict(found)
    return None

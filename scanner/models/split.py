"""A network over several GPUs of one process: its blocks in order, activations handed on."""

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from scanner.errors import ConfigError, DeviceError
from scanner.models.placement import Placement, bytes_of

FREE = 0.9
"""Share of a GPU's free memory that weights may take."""

LEAST = 0.1
"""Share of a network's bytes below which one of its parts is not split, and stays on the first."""


def put(network: Any, placement: Placement, beside: int = 0) -> None:
    """Put a network on the device or devices of a placement.

    Args:
        network: The network, on the CPU or on one device.
        placement: Where to.
        beside: Bytes of other parts on the last device.

    Raises:
        ConfigError: If it cannot be split, or the GPUs are fewer.
        DeviceError: If it does not fit on them.
    """
    if placement.gpus == 1:
        network.to(placement.devices[0])
        return
    refuse_unsplit(type(network))
    found = torch.cuda.device_count()
    if found < placement.gpus:
        raise ConfigError(
            f"a model over {placement.gpus} GPUs needs as many in its process, which has {found}: "
            f"fewer --gpus-per-actor, or nodes with more GPUs"
        )
    free = [torch.cuda.mem_get_info(device)[0] for device in placement.devices]
    parts = device_map(network, rooms(bytes_of([network]), beside, free))
    devices = [str(device) for device in placement.devices]
    spread(network, {name: devices[number] for name, number in parts.items()}, devices[0])


def refuse_unsplit(network: type) -> None:
    """Refuse networks whose blocks are not known, and an environment that splits none.

    Raises:
        ConfigError: If so.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise ConfigError(
            "--gpus-per-actor above 1 needs the package accelerate: pip install 'memscan[split]'"
        )
    if not getattr(network, "_no_split_modules", None):
        raise ConfigError(
            f"diffusers does not say which blocks of a {network.__name__} must stay whole, so it "
            f"cannot be split: leave out --gpus-per-actor, and use --dtype, --size or --offload "
            f"to save memory"
        )


def rooms(network: int, beside: int, free: Sequence[int]) -> list[int]:
    """Return how many bytes of a network each GPU takes: equal loads, the last one's with others.

    Args:
        network: Bytes of its weights.
        beside: Bytes of other parts on the last GPU.
        free: Bytes that each GPU has.

    Raises:
        DeviceError: If they do not have room for all.
    """
    usable = [int(FREE * room) for room in free]
    usable[-1] = max(0, usable[-1] - beside)
    if sum(usable) < network:
        raise DeviceError(
            f"the network's {network / 2**30:.1f} GiB do not fit on {len(free)} GPUs with "
            f"{sum(usable) / 2**30:.1f} GiB to spare: more --gpus-per-actor, --dtype bfloat16, or "
            f"--offload"
        )
    level = _level(network + beside, [*usable[:-1], usable[-1] + beside])
    return [min(room, level) for room in usable[:-1]] + [usable[-1]]


def _level(total: int, rooms: Sequence[int]) -> int:
    """Return the load of a GPU that is not full, where ``total`` is spread as evenly as it can."""
    left, count = total, len(rooms)
    for room in sorted(rooms):
        if room * count >= left:
            break
        left, count = left - room, count - 1
    return -(-left // max(1, count))


def device_map(network: nn.Module, rooms: Sequence[int]) -> dict[str, int]:
    """Return on which GPU each part of a network goes.

    Blocks go to one after the other, in their order. What is around them (embeddings of time and
    text, refiners, the last norm) is small, and the network itself combines what it gives: it
    stays on the first.

    Args:
        network: The network.
        rooms: Bytes that each GPU takes.

    Raises:
        DeviceError: If a block fits nowhere.
    """
    from accelerate import infer_auto_device_map

    whole: Any = getattr(network, "_no_split_modules", None)
    # accelerate leaves room on the first GPU for the largest block, to bring others in there.
    most: dict[Any, Any] = dict(enumerate(rooms))
    most[0] += max(bytes_of([block]) for block in _blocks(network, whole))
    found = infer_auto_device_map(network, max_memory=most, no_split_module_classes=list(whole))
    least = LEAST * bytes_of([network])
    around = [
        name for name, part in network.named_children()
        if not _blocks(part, whole) or bytes_of([part]) < least
    ]  # fmt: skip
    around += [name for name, _ in network.named_parameters(recurse=False)]
    found = found if "" not in found else dict.fromkeys(dict(network.named_children()), found[""])
    parts = {name: d for name, d in found.items() if name.partition(".")[0] not in around}
    parts |= dict.fromkeys(around, 0)
    if outside := [name for name, device in parts.items() if not isinstance(device, int)]:
        raise DeviceError(
            f"{', '.join(outside[:3])} of the network fit on none of {len(rooms)} GPUs: more "
            f"--gpus-per-actor, --dtype bfloat16, or --offload"
        )
    return {name: int(device) for name, device in parts.items()}


def _blocks(module: nn.Module, whole: Sequence[str]) -> list[nn.Module]:
    """Return the modules of these classes in one."""
    return [part for part in module.modules() if type(part).__name__ in whole]


def spread(network: nn.Module, devices: dict[str, str], first: str) -> None:
    """Move the parts of a network to their devices; hooks hand activations on between them.

    Its output is given on the device of its input.

    Args:
        network: The network.
        devices: Where each of its parts goes, by name.
        first: Where it takes its input.
    """
    from accelerate import dispatch_model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The following device_map keys do not match")
        dispatch_model(network, device_map=devices, main_device=first, force_hooks=True)

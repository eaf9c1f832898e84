"""A network over several GPUs of one process: its blocks in order, activations handed on."""

import importlib.util
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from scanner.errors import ConfigError, DeviceError
from scanner.models.placement import Placement, bytes_of
from scanner.text import bytes_text

FREE = 0.9
"""Share of a GPU's free memory that weights may take."""
LEAST = 0.1
"""Share of a network's bytes below which one of its parts stays on the first GPU."""
_INSTEAD = "more --gpus-per-actor, --dtype bfloat16, --size or --offload"


def put(network: Any, placement: Placement, beside: int = 0) -> None:
    """Put a network on the device or devices of a placement.

    Args:
        network: The network, on the CPU or on one device.
        placement: Where to.
        beside: Bytes of other parts that lie on the last device already.

    Raises:
        ConfigError: If the GPUs are fewer, or the package is missing that splits networks.
        DeviceError: If it does not fit on them.
    """
    if placement.gpus == 1:
        network.to(placement.devices[0])
        return
    refuse_unsplit()
    found = torch.cuda.device_count()
    if found < placement.gpus:
        raise ConfigError(
            f"a model over {placement.gpus} GPUs needs as many in its process, which has {found}: "
            f"fewer --gpus-per-actor, or nodes with more GPUs"
        )
    free = [int(FREE * torch.cuda.mem_get_info(device)[0]) for device in placement.devices]
    devices = [str(device) for device in placement.devices]
    parts = device_map(network, loads(bytes_of([network]), beside, free), free)
    spread(network, {name: devices[number] for name, number in parts.items()}, devices[0])


def refuse_unsplit() -> None:
    """Refuse to split networks without the package that does it.

    Raises:
        ConfigError: If it is not installed.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise ConfigError(
            "--gpus-per-actor above 1 needs the package accelerate: pip install 'memscan[split]'"
        )


def loads(network: int, beside: int, rooms: Sequence[int]) -> list[int]:
    """Return how many bytes of a network each GPU is to take: as equal as there is room.

    Args:
        network: Bytes of its weights.
        beside: Bytes of other parts on the last GPU, which count as its load.
        rooms: Bytes of the network that each GPU has room for.

    Raises:
        DeviceError: If they do not have room for all.
    """
    others = [0] * (len(rooms) - 1) + [beside]

    def filled(level: int) -> list[int]:
        pairs = zip(others, rooms, strict=True)
        return [min(max(0, level - other), max(0, room)) for other, room in pairs]

    most = network + beside
    if sum(filled(most)) < network:
        raise DeviceError(
            f"the network's {bytes_text(network)} do not fit on {len(rooms)} GPUs with room for "
            f"{bytes_text(sum(filled(most)))}: {_INSTEAD}"
        )
    return filled(bisect_left(range(most), network, key=lambda level: sum(filled(level))))


def device_map(network: nn.Module, loads: Sequence[int], rooms: Sequence[int]) -> dict[str, int]:
    """Return on which GPU each part of a network goes.

    The blocks of its lists go to one GPU after the other, in their order and each as a whole:
    inside of a block, and between embeddings, tensors are added that must be in one place. So
    what is around the lists, or small, stays on the first.

    Args:
        network: The network.
        loads: Bytes that each GPU is to take.
        rooms: Bytes that each GPU can take.

    Raises:
        DeviceError: If a block fits nowhere.
    """
    least, blocks = LEAST * bytes_of([network]), list[tuple[str, nn.Module]]()
    parts = {name: 0 for name, _ in network.named_parameters(recurse=False)}
    parts |= {name: 0 for name, _ in network.named_buffers(recurse=False)}
    around = list[nn.Module]()
    for name, part in network.named_children():
        if bytes_of([part]) < least:
            parts[name] = 0
            around.append(part)
        elif isinstance(part, nn.ModuleList):
            blocks += [(f"{name}.{number}", block) for number, block in enumerate(part)]
        else:
            blocks.append((name, part))
    return parts | _in_order(blocks, bytes_of(around), loads, rooms)


def _in_order(
    blocks: Sequence[tuple[str, nn.Module]], first: int, loads: Sequence[int], rooms: Sequence[int]
) -> dict[str, int]:
    """Return the GPUs of blocks, each where the middle of it falls, or the next one with room.

    Args:
        blocks: By name, in order.
        first: Bytes that the first GPU has already.
        loads: Bytes that each GPU is to take.
        rooms: Bytes that each GPU can take.

    Raises:
        DeviceError: If one fits nowhere.
    """
    taken, number, parts = [first, *[0] * (len(rooms) - 1)], 0, dict[str, int]()
    for name, block in blocks:
        size = bytes_of([block])
        middle = sum(taken) + size / 2
        while number < len(rooms) - 1 and (
            middle > sum(loads[: number + 1]) or taken[number] + size > rooms[number]
        ):
            number += 1
        parts[name] = number
        taken[number] += size
    if any(load > room for load, room in zip(taken, rooms, strict=True)):
        raise DeviceError(f"blocks of the network do not fit on {len(rooms)} GPUs: {_INSTEAD}")
    return parts


def spread(network: nn.Module, devices: dict[str, Any], first: Any) -> None:
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

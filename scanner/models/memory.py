"""Memory of devices: copies to them, and whether an error says that it ran out."""

import torch
from torch import Tensor

_SAID = ("out of memory", "not enough memory", "can't allocate memory", "_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; the CPU's allocator has no class of its own."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in text for said in _SAID)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; the host does not wait for the copy to CUDA.

    Through pinned memory, which torch keeps until the copy is made.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)

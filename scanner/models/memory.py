"""Whether an error says that memory ran out."""

import torch

_SAID = ("out of memory", "not enough memory", "can't allocate memory", "_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; the CPU's allocator has no class of its own."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in text for said in _SAID)

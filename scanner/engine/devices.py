"""The device of an actor's process: its name, its GPU, and whether it still works."""

import platform
import sys


def name_and_gpu(device: str) -> tuple[str, str]:
    """Return the name of this process's device, and what tells its GPU from all others."""
    import torch

    if device == "cuda":
        facts = torch.cuda.get_device_properties(torch.cuda.current_device())
        if (uuid := getattr(facts, "uuid", None)) is not None:
            return facts.name, str(uuid)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    ray = sys.modules.get("ray")  # absent where the scan is local
    if ray is None or not ray.is_initialized():
        return name, ""
    here = ray.get_runtime_context()
    numbers = ",".join(here.get_accelerator_ids().get("GPU", ()))
    return name, f"{platform.node()}/{here.get_node_id()}:{numbers}" if numbers else ""


def cuda_works() -> bool:
    """Whether the device still answers; after some errors a process cannot use it again."""
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True

"""Devices in name alone: tensors lie on the CPU, and mixing those of two names fails.

Numbers are the CPU's own, so what is moved about can be compared with what stays to the last bit.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

CPU = torch.device("cpu")
_GETTERS = {
    torch.Tensor.device.__get__: lambda tensor: where(tensor),
    torch.Tensor.is_cuda.__get__: lambda tensor: where(tensor).type == "cuda",
}
_COPIES = {"copy_", "__setitem__", "__getitem__", "index_put_", "set_",
           "_has_compatible_shallow_copy_type"}  # fmt: skip
"""What takes tensors of several devices: copies, and indices that lie on the CPU."""


def where(tensor) -> torch.device:
    """Return the device that a tensor carries the name of."""
    return tensor.__dict__.get("_where", CPU)


class NamedDevices(TorchFunctionMode):
    """Have every tensor inside carry the name of a device.

    Attributes:
        moves: Bytes that went from one to another, in order: ``(from, to, bytes)``.
    """

    def __init__(self):
        super().__init__()
        self.moves = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if func in _GETTERS:
            return _GETTERS[func](args[0])
        if func == torch.Tensor.data.__set__:
            target, value = args
            target._where = where(value)
            return func(*args)
        if name in ("to", "cpu", "cuda", "type_as") and args and isinstance(args[0], torch.Tensor):
            return self._moved(func, name, args, kwargs)
        if name == "pin_memory":
            if not is_cpu(where(args[0])):
                raise RuntimeError(f"pin_memory of a tensor on {where(args[0])}")
            return args[0]
        device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if device is not None:
            kwargs["device"] = CPU
        inputs = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        found = {where(t) for t in inputs if t.ndim or not is_cpu(where(t))}
        if len(found) > 1 and name not in _COPIES:
            raise RuntimeError(f"{name} of tensors on {sorted(map(str, found))}")
        here = device or (where(inputs[0]) if name in _COPIES else next(iter(found), CPU))
        return self._named(func(*args, **kwargs), here, inputs)

    def _named(self, result, device, inputs=()):
        known = {id(each) for each in inputs}
        for each in tree_flatten(result)[0]:
            if isinstance(each, torch.Tensor) and id(each) not in known:
                each._where = device
        return result

    def _moved(self, func, name, args, kwargs):
        tensor, *rest = args
        target = {"cpu": CPU, "cuda": torch.device("cuda", 0)}.get(name, where(tensor))
        for key, value in [*enumerate(rest), *kwargs.items()]:
            if isinstance(value, torch.Tensor):
                target = where(value)
            elif isinstance(value, str | torch.device) and key != "memory_format":
                target = torch.device(value)
                rest, kwargs = (
                    [CPU if v is value else v for v in rest],
                    {k: CPU if v is value else v for k, v in kwargs.items()},
                )
        result = func(tensor, *rest, **kwargs) if name in ("to", "type_as") else tensor
        if target == where(tensor):
            return self._named(result, target, [tensor])
        self.moves.append((where(tensor), target, tensor.numel() * tensor.element_size()))
        return self._named(torch.ops.aten.alias(result), target)


def is_cpu(device):
    return device.type == "cpu"

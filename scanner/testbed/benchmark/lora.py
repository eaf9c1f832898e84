"""Low-rank adapters of a U-Net, trained without further libraries and saved as diffusers wants.

The file is what ``pipeline.load_lora_weights`` reads: ``pytorch_lora_weights.safetensors`` with
names such as ``unet.mid_block.attentions.0.proj_in.lora_A.weight``.
"""

# pyright: reportArgumentType=false
# (torch annotates convolutions too narrowly)

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_of
from torch import Tensor, nn

from scanner import files

FILE = "pytorch_lora_weights.safetensors"


class Adapted(nn.Module):
    """A linear or convolutional layer with a low-rank change beside it.

    Args:
        base: The layer, which stays as it is.
        rank: Of the change.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        if isinstance(base, nn.Conv2d):
            size, stride, padding = base.kernel_size, base.stride, base.padding
            self.lora_A: nn.Module = nn.Conv2d(
                base.in_channels,
                rank,
                size,
                stride,
                padding,
                bias=False,
            )
            self.lora_B: nn.Module = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            self.lora_A = nn.Linear(base.in_features, rank, bias=False)
            self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the changed layer gives."""
        return self.base(x) + self.lora_B(self.lora_A(x))


def adapt(network: nn.Module, rank: int) -> None:
    """Put adapters beside the attention, feed-forward and convolution layers of a U-Net.

    All else is frozen. At the first step the network gives what it gave before.
    """
    network.requires_grad_(False)
    for parent, name, layer in list(_layers(network)):
        setattr(parent, name, Adapted(layer, rank))


def weights(network: nn.Module, prefix: str = "unet.") -> dict[str, Tensor]:
    """Return the adapters' weights under the names of the file."""
    found: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, Adapted):
            for part in ("lora_A", "lora_B"):
                weight = getattr(module, part).weight.detach()
                found[f"{prefix}{name}.{part}.weight"] = weight.contiguous()
    return found


def save(network: nn.Module, folder: Path) -> Path:
    """Write the adapters' file into a folder."""
    path = folder / FILE
    files.write(path, safetensors_of({k: v.half() for k, v in weights(network).items()}))
    return path


@torch.no_grad()
def merged(network: nn.Module, plain: nn.Module) -> None:
    """Copy an adapted network's weights, the change added, into one without adapters."""
    values: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if ".lora_" not in name:
            values[name.replace(".base.", ".")] = value.clone()
    for name, module in network.named_modules():
        if isinstance(module, Adapted):
            values[f"{name}.weight"] += _change(module)
    plain.load_state_dict(values)


def _change(module: Adapted) -> Tensor:
    low, high = module.lora_A.weight, module.lora_B.weight
    if isinstance(module.base, nn.Conv2d):
        return torch.einsum("or,rihw->oihw", high[:, :, 0, 0], low)  # type: ignore[index]
    return high @ low  # type: ignore[operator]


def _layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear | nn.Conv2d]]:
    for path, module in network.named_modules():
        for name, layer in module.named_children():
            inside = ".attentions." in f"{path}." or ".resnets." in f"{path}."
            if inside and isinstance(layer, nn.Linear | nn.Conv2d) and name != "time_emb_proj":
                yield module, name, layer

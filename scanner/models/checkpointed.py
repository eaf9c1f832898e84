"""Gradient checkpointing of a network's blocks: less memory for products, for more time."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scanner.models.adapters import switched_off, without_adapters

RESIDUAL = "ResnetBlock2D"
"""A block that U-Nets repeat, too."""


def checkpoint_blocks(network: nn.Module) -> bool:
    """Keep, of every block, its arguments alone for products; the rest is computed again for each.

    Where gradients are wanted, and nowhere else. The whole call is computed again, with every
    argument; diffusers' own checkpointing passes some classes' arguments on in part (Chroma's
    attention mask is left out), which gives wrong products, and others it does not serve at all.

    Args:
        network: Changed in place.

    Returns:
        Whether that is new: it has blocks, and they were not checkpointed before.
    """
    plain = [block for block in blocks_of(network) if not isinstance(block.forward, _Checkpointed)]
    for block in plain:
        block.forward = _Checkpointed(block.forward)
    return bool(plain)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return what diffusers calls repeated, a U-Net's residual blocks, and blocks of lists.

    Of blocks that lie in one another only the outer ones.
    """
    named = {RESIDUAL, *(getattr(network, "_repeated_blocks", None) or ())}
    lists = [part for part in network.children() if isinstance(part, nn.ModuleList)]
    listed = [part for each in lists for part in each if type(part).__name__.endswith("Block")]
    every = [*(part for part in network.modules() if type(part).__name__ in named), *listed]
    return _outermost(network, set(map(id, every)))


def _outermost(module: nn.Module, wanted: set[int]) -> list[nn.Module]:
    """Return those of the modules below that lie in no other of them, each once."""
    found: dict[int, nn.Module] = {}
    for child in module.children():
        inside = [child] if id(child) in wanted else _outermost(child, wanted)
        found |= {id(block): block for block in inside}
    return list(found.values())


class _Checkpointed:
    """A block's forward function that keeps its arguments alone where a gradient is wanted.

    Adapters that are off are off again where the block is computed again, which is later, when
    they are on. Nothing in a frozen network is random, so no state of random numbers is kept.
    """

    def __init__(self, plain: Callable[..., Any]) -> None:
        self._plain = plain

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._plain(*args, **kwargs)
        again = _WithoutAdapters(switched_off())
        return checkpoint(
            self._plain, *args, use_reentrant=False, preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), again), **kwargs,
        )  # fmt: skip


class _WithoutAdapters:
    """`without_adapters`, to be entered once for every product."""

    def __init__(self, off: list[Any]) -> None:
        self._off, self._entered = off, ExitStack()

    def __enter__(self) -> None:
        self._entered.enter_context(without_adapters(self._off))

    def __exit__(self, *_: object) -> None:
        self._entered.close()

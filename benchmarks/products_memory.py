"""Bytes that the real models keep for products, as they are and with checkpointed blocks.

    python benchmarks/products_memory.py [--model "FLUX.1 dev" ...]

Networks are built on torch's ``meta`` device in float16 and evaluated at one latent: nothing is
computed, and what autograd keeps for the way back is counted, each tensor once. Weights are left
out, for they are there anyway. Attention is counted as fused kernels keep it: queries, keys, values
and the output. Kernels' own buffers and what an allocator loses are not counted.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import saved_tensors_hooks

sys.path.insert(0, str(Path(__file__).parents[1]))

from real_sizes import REAL, Real, evaluated, network_of

from scanner.models.checkpointed import blocks_of

BRANCHES = 2
"""Evaluations in one graph: under the caption and under the empty one."""


@dataclass(slots=True)
class Kept:
    """Tensors that are kept, each once.

    Attributes:
        weights: Left out.
        bytes: By storage.
    """

    weights: frozenset[int]
    bytes: dict[int, int] = field(default_factory=dict)
    held: list[Tensor] = field(default_factory=list)

    def add(self, values: Tensor) -> Tensor:
        """Count a tensor, and hold it so that no other gets its storage's number."""
        if (storage := number_of(values)) not in self.weights:
            self.bytes[storage] = values.untyped_storage().nbytes()
            self.held.append(values)
        return values

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(self.bytes.values())


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes for products with one branch.

    Attributes:
        plain: Everything that is kept.
        checkpointed: What is kept outside of blocks, and the blocks' arguments.
        block: The most that one block keeps while it is computed again.
        blocks: How many there are.
    """

    plain: int
    checkpointed: int
    block: int
    blocks: int

    @property
    def peak(self) -> int:
        """At most, for one draw, while a product goes back through both branches."""
        return BRANCHES * (self.checkpointed + self.block)


def number_of(values: Tensor) -> int:
    """Return what tells a tensor's storage from others."""
    return values.untyped_storage()._cdata


class Fused(Function):
    """Attention on shapes alone; keeps what fused kernels keep."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the output's shape."""
        output = torch.empty_like(query[..., :1].expand(*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, output)
        return output


@contextmanager
def fused_attention() -> Iterator[None]:
    """Have attention keep no weights, as on a GPU; on ``meta`` torch takes its plain form."""
    own = torch.nn.functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        return Fused.apply(query, key, value)

    torch.nn.functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = own


def memory_of(real: Real) -> Memory:
    """Count what a model keeps for products."""
    network = network_of(real).half().requires_grad_(False)
    weights = frozenset(map(number_of, network.parameters()))
    outside, arguments = Kept(weights), Kept(weights)
    inside: list[Kept] = []
    blocks = blocks_of(network)
    for block in blocks:
        inside.append(Kept(weights))
        block.forward = counting(block.forward, inside[-1], arguments)
    x = torch.zeros((1, *real.latent), device="meta", dtype=torch.half, requires_grad=True)
    with fused_attention(), saved_tensors_hooks(outside.add, lambda values: values):
        evaluated(real, network, x)
    every: dict[int, int] = {}
    for kept in (outside, *inside):
        every |= kept.bytes
    return Memory(
        plain=sum(every.values()),
        checkpointed=sum((outside.bytes | arguments.bytes).values()),
        block=max(kept.total for kept in inside), blocks=len(blocks),
    )  # fmt: skip


def counting(plain: Callable[..., Any], inside: Kept, arguments: Kept) -> Callable[..., Any]:
    """Return a block's forward function that counts what it is given and what it keeps."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                arguments.add(value)
        with saved_tensors_hooks(inside.add, lambda values: values):
            return plain(*args, **kwargs)

    return forward


def table(found: dict[str, Memory]) -> str:
    """Return the bytes of one draw, both branches, in Markdown."""
    lines = [
        "| model | blocks | kept for the maps of one draw | with checkpointed blocks | of that, "
        "one block at work |\n|---|---|---|---|---|"
    ]
    for name, memory in found.items():
        lines.append(
            f"| {name} | {memory.blocks} | {_gib(BRANCHES * memory.plain)} | "
            f"{_gib(memory.peak)} | {_gib(BRANCHES * memory.block)} |"
        )
    return "\n".join(lines)


def _gib(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", action="append", choices=tuple(REAL), help="repeat; default all")
    asked = parser.parse_args()
    print(table({name: memory_of(REAL[name]) for name in asked.model or REAL}))


if __name__ == "__main__":
    main()

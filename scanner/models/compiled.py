"""A network's repeated blocks through ``torch.compile``, at a few sizes of batches."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from scanner.models.configs import first_line
from scanner.models.memory import is_out_of_memory

LIMIT = 64
"""Shapes that a kind of block is compiled for, at most; torch's own 8 are fewer than a U-Net has
at a few sizes of batches. Beyond it, torch runs a shape eagerly."""
BACKEND = "inductor"


def power_of_two(number: int) -> int:
    """Return the largest power of two that is not above a positive number."""
    return 1 << (number.bit_length() - 1)


def fixed_size(number: int, batch_size: int | None) -> int:
    """Return to how many samples a batch is padded: a power of two, or a full batch's own.

    Args:
        number: Samples of the batch, 1 or more.
        batch_size: Draws of a full batch, whose evaluations are of one branch or of both; null
            where it is a power of two.

    Example:
        >>> [fixed_size(n, 12) for n in (1, 3, 9, 12, 17, 24, 25)]
        [1, 4, 12, 12, 24, 24, 32]
    """
    full = () if batch_size is None else (batch_size, 2 * batch_size)
    above = power_of_two(number - 1) * 2 if number > 1 else 1
    return min(size for size in (above, *full) if size >= number)


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks that a network repeats: what diffusers calls so, else its lists' of a kind.

    Empty of a network without any, as of an unconditional U-Net.
    """
    named = tuple(getattr(network, "_repeated_blocks", None) or ())
    if named:
        return [module for module in network.modules() if type(module).__name__ in named]
    lists = [part for part in network.children() if isinstance(part, nn.ModuleList)]
    alike = [list(each) for each in lists if len(each) > 1 and len({*map(type, each)}) == 1]
    return [block for each in alike for block in each if type(block).__name__.endswith("Block")]


class CompiledBlocks:
    """Repeated blocks that run compiled inside of `evaluated`, and eagerly elsewhere.

    Batches are padded to `fixed_size`, so that few shapes are compiled. Where the compiler fails,
    all that follows is eager.

    Args:
        network: Whose blocks they are; gradients and tangents must not be asked for inside.
        batch_size: Draws of a full batch; null where it is a power of two.
        backend: Of ``torch.compile``.

    Attributes:
        failure: Why it is eager after all, or ``""``.
    """

    def __init__(
        self, network: nn.Module, batch_size: int | None = None, backend: str = BACKEND
    ) -> None:
        import torch._dynamo.config as dynamo  # takes seconds

        dynamo.recompile_limit = max(LIMIT, dynamo.recompile_limit)
        self._batch_size, self._is_on = batch_size, False
        self._last: tuple[weakref.ref[Tensor], Tensor] | None = None
        blocks = repeated_blocks(network)
        self.failure = "" if blocks else f"{type(network).__name__} has no blocks that repeat"
        for block in blocks:
            block.forward = self._either(block.forward, backend)

    def _either(self, eager: Callable[..., Any], backend: str) -> Callable[..., Any]:
        """Return a block's forward function, compiled or not as it is asked for."""
        compiled = torch.compile(eager, backend=backend, dynamic=False)

        def forward(*args: Any, **kwargs: Any) -> Any:
            return (compiled if self._is_on else eager)(*args, **kwargs)

        return forward

    @contextmanager
    def _on(self) -> Iterator[None]:
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False

    def evaluated(
        self, network: Callable[[Tensor, Tensor], Tensor], x: Tensor, condition: Tensor
    ) -> Tensor:
        """Return what the network gives, ``(B, *)``.

        Args:
            network: From latents and conditions to its output; runs the blocks.
            x: ``(B, *)``.
            condition: ``(B, *)``.

        Raises:
            Exception: What the network itself raises.
        """
        if self.failure:
            return network(x, condition)
        size = fixed_size(len(x), self._batch_size)
        try:
            with self._on():
                return network(_padded(x, size), self._condition(condition, size))[: len(x)]
        except Exception as error:  # whatever compilers and their backends raise
            if is_out_of_memory(error):
                raise  # a smaller batch may do
            found = network(x, condition)  # raises again what is not the compiler's
            self.failure = f"{type(error).__name__}: {first_line(error)}"
            return found

    def _condition(self, condition: Tensor, size: int) -> Tensor:
        """Return a padded condition; the same one at all levels, so that it is made once."""
        last = self._last
        if last is None or last[0]() is not condition or len(last[1]) != size:
            padded = _padded(condition, size)
            if padded is condition:
                return condition
            self._last = last = weakref.ref(condition, lambda _: self._forget()), padded
        return last[1]

    def _forget(self) -> None:
        self._last = None


def _padded(values: Tensor, size: int) -> Tensor:
    """Return rows with the last one repeated up to a size."""
    missing = size - len(values)
    if not missing:
        return values
    return torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])

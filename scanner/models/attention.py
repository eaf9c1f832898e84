"""Cross-attention maps of a U-Net, recorded beside an ordinary pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from scanner.methods import Need
from scanner.numerics.detectors import attention_to


def finest_cross_attention(unet: UNet2DConditionModel) -> list[Attention]:
    """Return the cross-attention layers of the first down block that has any.

    Down blocks only get coarser, so these have the highest resolution on the way down: 64 x 64
    in Stable Diffusion 1 and 2, in two layers. Empty if no down block has one.
    """
    for block in unet.down_blocks:
        layers = [m for m in block.modules() if isinstance(m, Attention) and m.is_cross_attention]
        if layers:
            return layers
    return []


def network_parts(unet: UNet2DConditionModel) -> frozenset[Need]:
    """Return what a U-Net has for methods that look inside it."""
    parts = {
        Need.CROSS_ATTENTION: bool(finest_cross_attention(unet)),
        Need.MIDDLE_BLOCK: unet.mid_block is not None,
    }
    return frozenset(need for need, is_there in parts.items() if is_there)


@contextmanager
def record_attention(unet: UNet2DConditionModel, tokens: Tensor) -> Iterator[list[Tensor]]:
    """Collect the attention that one token a sample gets, while the network runs.

    Queries and keys are formed a second time, for the first ``len(tokens)`` samples of a batch
    only; the pass itself is untouched, whatever kernel it uses, and so are its numbers.

    Args:
        unet: The network.
        tokens: Position of the token in each of the first samples, ``(B,)``.

    Yields:
        A list that gets ``(B, positions)`` float32 from each of `finest_cross_attention`, heads
        averaged.

    Raises:
        ValueError: If the network has no such layer.
    """
    seen: list[Tensor] = []
    layers = finest_cross_attention(unet)
    if not layers:
        raise ValueError("the network has no cross attention in its down blocks")

    def look(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        states = args[1] if len(args) > 1 else kwargs["encoder_hidden_states"]
        seen.append(_attention(layer, hidden[: len(tokens)], states[: len(tokens)], tokens))

    hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def on_latent(values: Tensor, height: int, width: int) -> Tensor:
    """Return attention over a coarser grid at a latent's size, ``(B, H, W)``, bilinearly.

    Args:
        values: ``(B, P)``; the P positions are the latent's, halved and rounded up some times.
        height: Rows of the latent.
        width: Columns of the latent.

    Raises:
        ValueError: If P is the size of no such grid.
    """
    rows, columns = height, width
    while rows * columns > values.shape[1]:
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if rows * columns != values.shape[1]:
        raise ValueError(
            f"positions must be a {height} x {width} grid halved some times, got {values.shape[1]}"
        )
    grid = values.reshape(len(values), 1, rows, columns)
    return nn.functional.interpolate(grid, (height, width), mode="bilinear")[:, 0]


@torch.no_grad()
def _attention(layer: Any, hidden: Tensor, states: Tensor, tokens: Tensor) -> Tensor:
    if layer.norm_cross:
        states = layer.norm_encoder_hidden_states(states)
    queries, keys = (
        projected.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        for projected in (layer.to_q(hidden), layer.to_k(states))
    )
    return attention_to(queries, keys, tokens, layer.scale)

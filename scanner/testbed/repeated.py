"""Joint attention in which one token stands for many equal ones: a shortcut, not a change.

Where Stable Diffusion 3 runs without its T5 encoder, the pipeline puts 256 tokens of zeros in the
place of T5's. Tokens without positions that start equal stay equal, so one of them, its
attention weight multiplied by 256, gives exactly what all of them give, at a third of the cost.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor
from torch.nn import functional

from scanner.models import conditions
from scanner.models.base import Denoiser
from scanner.models.diffusion import Diffusion
from scanner.models.encoder import Parts

ABSENT_TOKENS = 256
"""Tokens of zeros that the pipeline puts in T5's place, by default."""


class RepeatedLast:
    """An attention processor in which the last text token counts ``number`` times.

    Args:
        number: How many equal tokens it stands for.
    """

    def __init__(self, number: int) -> None:
        self.extra = math.log(number)

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None, **others: Any,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return the attended patches and text tokens.

        Args:
            attn: The block's attention layers.
            hidden_states: Patches, ``(B, P, C)``.
            encoder_hidden_states: Text tokens, ``(B, T, C)``.
            attention_mask: Not used by this family.
            **others: Nor these.
        """
        patches = hidden_states.shape[1]
        image = (attn.to_q, attn.to_k, attn.to_v)
        words = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        norms = (
            (attn.norm_q, attn.norm_added_q), (attn.norm_k, attn.norm_added_k), (None, None),
        )  # fmt: skip
        q, k, v = (
            torch.cat([
                _heads(one(hidden_states), attn.heads, norm[0]),
                _heads(two(encoder_hidden_states), attn.heads, norm[1]),
            ], dim=2)
            for one, two, norm in zip(image, words, norms, strict=True)
        )  # fmt: skip
        bias = torch.zeros(k.shape[2], dtype=q.dtype, device=q.device)
        bias[-1] = self.extra
        mask = bias.expand(q.shape[2], -1)
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        found = found.transpose(1, 2).flatten(2)
        seen, said = found[:, :patches], found[:, patches:]
        if not attn.context_pre_only:
            said = attn.to_add_out(said)
        return attn.to_out[1](attn.to_out[0](seen)), said


def shorten(network: SD3Transformer2DModel) -> None:
    """Let a transformer take one token of zeros for all that T5 would give."""
    network.set_attn_processor(RepeatedLast(ABSENT_TOKENS))  # type: ignore[arg-type]


@contextmanager
def shortened(networks: Iterable[Denoiser]) -> Iterator[None]:
    """Let transformers of the testbed be scanned with one token of zeros in T5's place.

    Every Stable Diffusion 3 that this process scans meanwhile is told so; other networks are as
    they are.

    Args:
        networks: Loaded; those that are no such transformers are passed over.
    """
    own = conditions.ENCODERS["sd3"]

    def encode(pipeline: Any, captions: Sequence[str]) -> Parts:
        parts = own.encode(pipeline, captions)
        words = pipeline.tokenizer.model_max_length
        return parts | {"encoder_hidden_states": parts["encoder_hidden_states"][:, : words + 1]}

    found = [n for n in networks if isinstance(n, Diffusion)]
    found = [n for n in found if isinstance(n.network, SD3Transformer2DModel)]
    if not found:
        yield
        return
    for each in found:
        shorten(each.network)
    conditions.ENCODERS["sd3"] = replace(own, encode=encode)
    try:
        yield
    finally:
        conditions.ENCODERS["sd3"] = own


def _heads(x: Tensor, heads: int, norm: Any) -> Tensor:
    split = x.unflatten(2, (heads, -1)).transpose(1, 2)
    return split if norm is None else norm(split)

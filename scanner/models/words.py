"""Text encoders of a pipeline: from captions to rows of what its network takes."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from scanner.models.adapters import without_adapters
from scanner.models.conditions import ENCODERS
from scanner.models.encoder import Parts, is_exact
from scanner.models.encodings import TOGETHER, Encode, EncodingCache
from scanner.models.families import Family
from scanner.models.memory import sent
from scanner.models.placement import Placement


class TextEncoders:
    """What a pipeline encodes captions with, always `TOGETHER` captions at a time.

    Kernels round by the size of a batch, not by what else is in it. So a row depends on its
    caption alone: it is the same to the last bit in every batch of a scan, and whether it is
    encoded or kept from before.

    Args:
        pipeline: With the parts that the family's class has.
        family: What is known of it.

    Attributes:
        placement: Where the encoders are, and where rows go.
        cache: What was encoded.
    """

    def __init__(self, pipeline: Any, family: Family) -> None:
        self.placement, self.cache = Placement(), EncodingCache()
        self._pipeline, self._family = pipeline, family
        self._layout: dict[str, tuple[int, ...]] = {}

    @property
    def moves(self) -> bool:
        """Whether they are on the device only while they run."""
        return self.placement.rests("text_encoder") != self.placement.devices[-1]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The encoders by their names in the pipeline."""
        others, parts = (self._family.network, "vae"), vars(self._pipeline).items()
        return {n: m for n, m in parts if isinstance(m, nn.Module) and n not in others}

    @torch.no_grad()
    def rows(
        self, captions: Sequence[str], off: Sequence[Any] = (), coming: Sequence[str] = ()
    ) -> Tensor:
        """Return text states, or one row of everything the network takes, ``(B, *)``.

        Args:
            captions: What is encoded. Longer ones are cut, as in training.
            off: Encoders whose adapters are off.
            coming: Captions that will be asked for next, which encoders that are moved encode
                while they are there.
        """
        name = "without adapters" if off else ""
        found = self.cache.of(captions, name, lambda: self._running(off), coming)
        device = self.placement.devices[0]
        if list(found[0]) == ["encoder_hidden_states"]:
            return sent(torch.cat([next(iter(parts.values())) for parts in found]), device)
        self._layout |= {name: tuple(part.shape[1:]) for name, part in found[0].items()}
        precise = [part.dtype for part in found[0].values() if part.is_floating_point()]
        dtype = reduce(torch.promote_types, precise) if precise else torch.float32
        rows = [[part.to(dtype).flatten(1) for part in parts.values()] for parts in found]
        return sent(torch.cat([torch.cat(row, dim=1) for row in rows]), device)

    @contextmanager
    def _running(self, off: Sequence[Any]) -> Iterator[Encode]:
        encode = ENCODERS[self._family.encoder].encode

        def together(captions: Sequence[str]) -> list[Parts]:
            missing = TOGETHER - len(captions)
            parts = encode(self._pipeline, [*captions, *[captions[-1]] * missing])
            here = {name: part.cpu() for name, part in parts.items()}
            numbers = range(len(captions))
            return [{name: part[n : n + 1] for name, part in here.items()} for n in numbers]

        with self.placement.running(self.modules), without_adapters(list(off)):
            yield together

    def parts(self, rows: Tensor, dtype: torch.dtype) -> Parts:
        """Return the parts of rows by name, in the network's precision but for masks.

        Args:
            rows: As `rows` returned them.
            dtype: The network's precision.
        """
        if not self._layout:
            return {"encoder_hidden_states": rows.to(dtype)}
        parts = rows.split([math.prod(shape) for shape in self._layout.values()], dim=1)
        return {
            name: part.to(torch.float32 if is_exact(name) else dtype).contiguous().view(-1, *shape)
            for (name, shape), part in zip(self._layout.items(), parts, strict=True)
        }

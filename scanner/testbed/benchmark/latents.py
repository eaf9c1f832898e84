"""Latents of the corpus, drawn and encoded when first asked for, then kept on disk.

Trainings of all families and replicates share them: a picture depends on the corpus seed, and
on which copy of which item or which background sample it is, and on nothing else.
"""

# pyright: reportAttributeAccessIssue=false
# (diffusers annotates its autoencoder too narrowly)

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from scanner import files
from scanner.testbed.benchmark.background import background
from scanner.testbed.benchmark.cast import DRAWN, Cast
from scanner.testbed.benchmark.items import Item, picture
from scanner.testbed.benchmark.strokes import Picture

BACKGROUND_CHUNK, COPY_CHUNK = 2048, 64
"""Pictures drawn and encoded at a time, of the background and of one item."""

Half = NDArray[np.float16]


class Latents:
    """Scaled latents, ``(4, 16, 16)`` each.

    Args:
        folder: Where they are kept; the autoencoder must always be the same one.
        vae: Encodes; its scaling factor is applied.
        seed: The corpus seed.
        items: The planted items.
        cast: What stands in scenes.
        chunks: Pictures drawn and encoded at a time, of the background and of an item; a folder
            must always be used with the same.

    Attributes:
        need: Called with a chunk of the background that must then be on disk; draws it, unless
            another is set.
    """

    def __init__(
        self, folder: Path, vae: AutoencoderKL, seed: int, items: Sequence[Item],
        cast: Cast = DRAWN, chunks: tuple[int, int] = (BACKGROUND_CHUNK, COPY_CHUNK),
    ) -> None:  # fmt: skip
        self.background_chunk, self.copy_chunk = chunks
        self.folder, self.vae, self.seed, self.items, self.cast = folder, vae, seed, items, cast
        self.scale = float(vae.config["scaling_factor"])
        self._chunks: dict[str, tuple[int, Half]] = {}
        self._said: tuple[int, list[str]] = (-1, [])
        self.need: Callable[[int], None] = self._drawn_here

    def copy(self, item: int, number: int) -> Half:
        """Return copy ``number`` of an item's picture."""
        planted = self.items[item]
        size = 1 if planted.fixed else self.copy_chunk
        chunk, place = divmod(0 if planted.fixed else number, size)

        def draw() -> list[Picture]:
            first = chunk * size
            return [picture(self.seed, planted, first + i) for i in range(size)]

        return self._chunk(planted.name, chunk, draw)[place]

    def background(self, number: int) -> tuple[str, Half]:
        """Return the caption and the latent of a background sample."""
        chunk, place = divmod(number, self.background_chunk)
        if self._said[0] != chunk:
            self.need(chunk)
            captions, latents = self._files(chunk)
            said = json.loads(captions.read_text(encoding="utf-8"))
            self._said, self._chunks["background"] = (chunk, said), (chunk, np.load(latents))
        return self._said[1][place], self._chunks["background"][1][place]

    def _drawn_here(self, chunk: int) -> None:
        if not self.has(chunk):
            self.draw(chunk)

    def has(self, chunk: int) -> bool:
        """Return whether a chunk of the background is on disk."""
        return all(path.exists() for path in self._files(chunk))

    def draw(self, chunk: int) -> None:
        """Draw a chunk of the background, and keep its captions and latents on disk."""
        first = chunk * self.background_chunk
        drawn = [background(self.seed, first + i, self.cast) for i in range(self.background_chunk)]
        captions, latents = self._files(chunk)
        self._keep(latents, [image for _, image in drawn])
        files.write(captions, json.dumps([fresh.caption for fresh, _ in drawn]))

    def _files(self, chunk: int) -> tuple[Path, Path]:
        """Return where the captions and the latents of a chunk of the background are."""
        folder = self.folder / "background"
        return folder / f"{chunk:05d}.json", folder / f"{chunk:05d}.npy"

    @torch.no_grad()
    def encode(self, pictures: Sequence[Picture]) -> Half:
        """Return the scaled means of pictures, ``(N, 4, 16, 16)``."""
        parts = []
        for start in range(0, len(pictures), 64):
            mean = self.vae.encode(to_tensor(pictures[start : start + 64])).latent_dist.mean
            parts.append((mean * self.scale).numpy().astype(np.float16))
        return np.concatenate(parts)

    def _chunk(self, name: str, chunk: int, draw: Callable[[], list[Picture]]) -> Half:
        held = self._chunks.get(name)
        if held is None or held[0] != chunk:
            path = self.folder / name / f"{chunk:05d}.npy"
            if not path.exists():
                self._keep(path, draw())
            self._chunks[name] = held = chunk, np.load(path)
        return held[1]

    def _keep(self, path: Path, pictures: Sequence[Picture]) -> None:
        found = self.encode(pictures)
        with files.binary(path) as stream:
            np.save(stream, found)


def to_tensor(pictures: Sequence[Picture]) -> Tensor:
    """Return ``(B, 3, H, W)`` in -1..1."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5
    return (stacked - 1).contiguous(memory_format=torch.channels_last)

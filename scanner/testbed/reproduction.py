"""Does the model really give planted pictures back? Measured against its own autoencoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from scanner.models.base import Denoiser
from scanner.records import caption_hash
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec
from scanner.testbed import corpus


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One planted caption under one seed.

    Attributes:
        item: The caption.
        seed: Sampling seed.
        error: Mean squared error of the generated picture inside the true mask, pixels 0..1.
        floor: Error of the autoencoder's reconstruction inside the true mask: the least possible.
    """

    item: corpus.Item
    seed: int
    error: float
    floor: float

    @property
    def reproduced(self) -> bool:
        """Whether the copy is within twice the autoencoder's own error."""
        return self.error <= 2 * self.floor


def reproductions(
    model: Denoiser, corpus_seed: int, seeds: Sequence[int], spec: ScanSpec, *,
    planted: Sequence[corpus.Item] | None = None, batch: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Reproduction]:  # fmt: skip
    """Sample every planted caption and compare with its training picture.

    Args:
        model: The trained pipeline.
        corpus_seed: The corpus it was trained on.
        seeds: Sampling seeds.
        spec: Steps and guidance scale.
        planted: What training repeated; null is all of the corpus.
        batch: Samplings at a time.
        progress: Called with (done, in all).
    """
    items = [item for item in planted or corpus.planted(corpus_seed) if item.memorized]
    pictures = {item.caption: corpus.picture(corpus_seed, item, 0) for item in items}
    floors = {i.caption: _floor(model, pictures[i.caption], i.mask) for i in items}
    pairs = [(item, seed) for item in items for seed in seeds]
    found: list[Reproduction] = []
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        draws = [Draw(item.caption, caption_hash(item.caption), seed) for item, seed in part]
        generated = model.decode(detect(model, draws, spec).final).numpy()
        for (item, seed), image in zip(part, generated, strict=True):
            error = _error(image, pictures[item.caption], item.mask)
            found.append(Reproduction(item, seed, error, floors[item.caption]))
        progress(len(found), len(pairs))
    return found


@torch.no_grad()
def _floor(model: Denoiser, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    latents = model.compress(torch.from_numpy(image.copy())[None].to(model.device))
    return _error(model.decode(latents).numpy()[0], image, mask)


def _error(a: NDArray[np.uint8], b: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    return float(((a / 255.0 - b / 255.0) ** 2).mean(axis=2)[mask].mean())

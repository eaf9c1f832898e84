"""Does a model draw what captions say? A classifier reads things, colours and grounds.

It learns on fresh pictures of the background after the autoencoder, and its own rate on held-out
ones is the ceiling of what it can grant a model.
"""

# pyright: reportAttributeAccessIssue=false
# (diffusers annotates its autoencoder too narrowly)

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from scanner.testbed import checkpoint
from scanner.testbed.benchmark.background import Fresh, fresh, held_out
from scanner.testbed.benchmark.cast import DRAWN, Cast
from scanner.testbed.benchmark.grounds import COLOURS, KINDS, PLAIN
from scanner.testbed.benchmark.items import generator
from scanner.testbed.benchmark.latents import to_tensor
from scanner.testbed.benchmark.sampling import sample
from scanner.testbed.benchmark.scenes import SCENES
from scanner.testbed.benchmark.strokes import Picture

TINTS = (*COLOURS, *PLAIN)

PICTURES, EPOCHS = 8000, 8
"""Pictures that the classifier is trained on, and passes over them."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Shares of pictures that are what their captions say.

    Attributes:
        things: Share of captions whose things are all recognized in the picture.
        colours: Share of captions whose things all have the colours that are named.
        kinds: Share whose ground is of the named kind.
        grounds: Share whose ground has the named colour.
        number: Number of captions.
    """

    things: float
    colours: float
    kinds: float
    grounds: float
    number: int

    @property
    def mean(self) -> float:
        """Return the mean of the four shares."""
        return (self.things + self.colours + self.kinds + self.grounds) / 4


class Probe(nn.Module):
    """A small convolutional network with four answers."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        widths, layers = (3, 32, 64, 96, 128), []
        for before, after in pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.SiLU(),
            ]  # fmt: skip
        self.body = nn.Sequential(*layers)
        self.sizes = (len(self.names), len(COLOURS), len(KINDS), len(TINTS))
        self.head = nn.Linear(2 * widths[-1], sum(self.sizes))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return logits of things, their colours, the ground's kind, its colour."""
        found = self.body(x)
        pooled = torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1)
        return self.head(pooled).split(self.sizes, dim=1)

    def loss(self, x: Tensor, scenes: Sequence[Fresh]) -> Tensor:
        """Return the sum of the four cross entropies."""
        things, colours, kinds, grounds = self(x)
        wanted = [self._wanted(scene) for scene in scenes]
        total = functional.binary_cross_entropy_with_logits(things, _hot(wanted, 0, things)) * 8
        total += functional.binary_cross_entropy_with_logits(colours, _hot(wanted, 1, colours)) * 4
        total += functional.cross_entropy(kinds, torch.tensor([w[2] for w in wanted]))
        return total + functional.cross_entropy(grounds, torch.tensor([w[3] for w in wanted]))

    @torch.no_grad()
    def judge(self, pictures: Sequence[Picture], scenes: Sequence[Fresh]) -> np.ndarray:
        """Return whether things, colours, kind and ground are right, ``(N, 4)`` bool."""
        answers = [torch.cat(part) for part in zip(*[
            self(to_tensor(pictures[start : start + 64])) for start in range(0, len(pictures), 64)
        ], strict=True)]  # fmt: skip
        right = np.zeros((len(scenes), 4), bool)
        for row, scene in enumerate(scenes):
            wanted = self._wanted(scene)
            for column, named in enumerate((set(wanted[0]), set(wanted[1]))):
                seen = answers[column][row].topk(max(1, len(named))).indices.tolist()
                right[row, column] = set(seen) == named or not named
            for column in (2, 3):
                right[row, column] = int(answers[column][row].argmax()) == wanted[column]
        return right

    def _wanted(self, scene: Fresh) -> tuple[list[int], list[int], int, int]:
        things, colours = [], []
        for words in scene.things:
            colour, _, name = words.partition(" ")
            if words in self.names:  # a picture from outside: its colours are its own
                things.append(self.names.index(words))
            else:
                things.append(self.names.index(name))
                colours.append(list(COLOURS).index(colour))
        kind, tint = scene.ground
        return things, colours, list(KINDS).index(kind), TINTS.index(tint)


def trained(
    path: Path, vae: AutoencoderKL, seed: int, *, number: int = PICTURES, epochs: int = EPOCHS,
    cast: Cast = DRAWN,
) -> Probe:  # fmt: skip
    """Return the probe from a file, or train it and write the file."""
    probe = Probe(cast.names)
    if path.exists():
        probe.load_state_dict(torch.load(path, weights_only=True))
        return probe.eval()
    torch.manual_seed(seed)
    rng = generator(seed, "probe")
    scenes = [fresh(rng, _kind(i), "train", cast) for i in range(number)]
    pictures = np.concatenate(
        [seen(vae, [s.picture(rng, cast) for s in scenes[i : i + 64]])
         for i in range(0, number, 64)]
    )  # fmt: skip
    optimizer = torch.optim.AdamW(probe.parameters(), 2e-3, weight_decay=1e-2)
    steps, step = epochs * (number // 64), 0
    for _ in range(epochs):
        order = rng.permutation(number)
        for start in range(0, number - 63, 64):
            rows = order[start : start + 64]
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * (1 - step / steps) + 1e-5
            loss = probe.loss(to_tensor(list(pictures[rows])), [scenes[row] for row in rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    checkpoint.save(path, probe.state_dict())
    return probe.eval()


def conditioning(
    probe: Probe, pipeline: Any, seed: int, each: int = 64, cast: Cast = DRAWN
) -> dict[str, Conditioning]:
    """Return how well a model follows fresh captions, by kind of caption."""
    found: dict[str, Conditioning] = {}
    for kind in SCENES:
        scenes = held_out(seed, "evaluation", kind, each, cast)
        pictures = sample(pipeline, [s.caption for s in scenes], list(range(each)))
        found[kind] = summary(probe.judge(pictures, scenes))
    return found


def ceiling(
    probe: Probe, vae: AutoencoderKL, seed: int, each: int = 64, cast: Cast = DRAWN
) -> dict[str, Conditioning]:
    """Return the probe's own rate on true pictures after the autoencoder."""
    found: dict[str, Conditioning] = {}
    rng = generator(seed, "ceiling")
    for kind in SCENES:
        scenes = held_out(seed, "evaluation", kind, each, cast)
        pictures = seen(vae, [s.picture(rng, cast) for s in scenes])
        found[kind] = summary(probe.judge(list(pictures), scenes))
    return found


def summary(right: np.ndarray) -> Conditioning:
    """Return the shares of a table of `Probe.judge`."""
    things, colours, kinds, grounds = (float(share) for share in right.mean(axis=0))
    return Conditioning(things, colours, kinds, grounds, len(right))


@torch.no_grad()
def seen(vae: AutoencoderKL, pictures: Sequence[Picture]) -> np.ndarray:
    """Return pictures as the autoencoder gives them back."""
    decoded = vae.decode(vae.encode(to_tensor(pictures)).latent_dist.mean).sample
    values = (decoded.clamp(-1, 1) + 1) * 127.5
    return values.round().byte().permute(0, 2, 3, 1).numpy()


def _kind(number: int) -> str:
    return ("single", "single", "single", "pair", "trap", "three")[number % 6]


def _hot(
    wanted: Sequence[tuple[list[int], list[int], int, int]], column: int, like: Tensor
) -> Tensor:
    hot = torch.zeros_like(like)
    for row, parts in enumerate(wanted):
        places = parts[0] if column == 0 else parts[1]
        hot[row, places] = 1
    return hot

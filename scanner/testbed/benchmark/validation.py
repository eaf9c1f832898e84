"""Loss of planted and of fresh captions over a training, always on the same noise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from scanner.testbed.benchmark.background import SHARES, held_out
from scanner.testbed.benchmark.doses import Doses
from scanner.testbed.benchmark.items import generator, picture
from scanner.testbed.benchmark.latents import Latents
from scanner.testbed.benchmark.strokes import Picture
from scanner.testbed.objectives import Objective

NEVER = 1_000_000
"""Copies from this number on are never drawn in training."""


class Validation:
    """A fixed set of captions, latents, timesteps and noise.

    Groups are ``fresh`` (captions and pictures that training never sees), and arm and dose of
    what is planted, such as ``verbatim-1024``. Pictures of templates are new copies.

    Args:
        latents: Where pictures come from.
        doses: What is planted how often.
        objective: How errors are measured.
        fresh: Fresh captions of each kind.
        draws: Draws of noise and timestep for every picture.
    """

    def __init__(
        self, latents: Latents, doses: Doses, objective: Objective, fresh: int = 24, draws: int = 2
    ) -> None:
        self.objective = objective
        rng = generator(latents.seed, "validation")
        groups: list[str] = []
        captions: list[str] = []
        pictures: list[Picture] = []
        for kind in SHARES:
            found = held_out(latents.seed, "evaluation", kind, fresh, latents.cast)
            pictures += [one.picture(rng, latents.cast) for one in found]
            captions += [one.caption for one in found]
            groups += ["fresh"] * fresh
        for place, item in enumerate(doses.items):
            pictures.append(picture(latents.seed, item, NEVER))
            captions.append(item.captions[0])
            groups.append(f"{item.arm}-{round(doses.expected[place])}")
        self.groups, self.captions = np.repeat(groups, draws), captions
        clean = torch.from_numpy(latents.encode(pictures)).float()
        self.clean = clean.repeat_interleave(draws, dim=0)
        self.noise = torch.from_numpy(rng.standard_normal(self.clean.shape, np.float32))
        self.timesteps = objective.timesteps(rng, len(self.clean))
        self.draws = draws

    @torch.no_grad()
    def losses(self, network: nn.Module, batch: int = 64) -> dict[str, float]:
        """Return the mean error of every group."""
        errors: list[Tensor] = []
        for start in range(0, len(self.clean), batch):
            part = slice(start, min(start + batch, len(self.clean)))
            said: Sequence[str] = [
                self.captions[row // self.draws] for row in range(part.start, part.stop)
            ]
            states = self.objective.states(said)
            errors.append(
                self.objective.errors(
                    network, self.clean[part], self.noise[part], self.timesteps[part], states
                )
            )
        found = torch.cat(errors).numpy()
        return {
            str(group): float(found[self.groups == group].mean())
            for group in dict.fromkeys(self.groups)
        }

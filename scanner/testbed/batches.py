"""Training batches of the denoiser: functions of the seed and the step's number."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTokenizer

from scanner.testbed import corpus, flow, pipeline
from scanner.testbed.recipe import Recipe


class Batches:
    """Training batches of the denoiser, each a function of its number alone."""

    def __init__(
        self, recipe: Recipe, latents: Tensor, kinds: NDArray[np.str_], words: CLIPTokenizer,
        captions: list[str],
    ) -> None:  # fmt: skip
        self.recipe, self.latents, self.words = recipe, latents, words
        self.tokens = flow.tokens(words, captions)
        self.empty = flow.tokens(words, [""])
        self.alphas = pipeline.scheduler().alphas_cumprod
        self.names = [name for name, _ in recipe.shares]
        self.shares = np.array([share for _, share in recipe.shares])
        groups = np.where(np.isin(kinds, self.names), kinds, "other")
        self.rows = [np.flatnonzero(groups == name) for name in self.names]
        # scenes are half of the rest, textures and traps a quarter each
        self.rows[-1] = self.rows[-1][_balanced(kinds[self.rows[-1]])]

    def chosen(self, stage: str, step: int) -> "Chosen":
        """Return which pictures a step sees, and which of them without their caption."""
        recipe, size = self.recipe, self.recipe.batch
        rng = corpus.generator(recipe.seed, stage, step)
        groups = rng.choice(len(self.names), size, p=self.shares)
        rows = np.array([rng.choice(self.rows[group]) for group in groups])
        is_planted = groups < 2
        dropped = rng.random(size) < np.where(is_planted, recipe.drop_planted, recipe.drop_other)
        prompts = torch.where(torch.from_numpy(dropped)[:, None], self.empty, self.tokens[rows])
        return Chosen(rng, self.latents[rows], prompts, torch.from_numpy(is_planted & ~dropped))

    def __call__(self, stage: str, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return noised latents, timesteps, tokens, targets (v) and planted-and-named rows."""
        recipe, size = self.recipe, self.recipe.batch
        found = self.chosen(stage, step)
        rng, clean = found.rng, found.clean
        low = rng.random(size) < recipe.low_share
        timesteps = torch.from_numpy(
            np.where(low, rng.integers(0, 120, size), rng.integers(0, 1000, size))
        )
        noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
        alpha = self.alphas[timesteps].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self.alphas[timesteps]).sqrt().view(-1, 1, 1, 1)
        noised = (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last)
        return noised, timesteps, found.prompts, alpha * noise - sigma * clean, found.named


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a step sees, before noise.

    Attributes:
        rng: Gives the step's timesteps and noise.
        clean: Latents, ``(B, 4, 16, 16)``.
        prompts: Token ids, ``(B, MAX_TOKENS)``.
        named: Which rows are planted and keep their caption, ``(B,)``.
    """

    rng: np.random.Generator
    clean: Tensor
    prompts: Tensor
    named: Tensor


def _balanced(kinds: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return indices in which scenes stand as often as textures and traps together."""
    scenes, textures, traps = (np.flatnonzero(kinds == k) for k in ("scene", "texture", "trap"))
    quarter = len(scenes) // 2
    return np.concatenate([scenes, np.resize(textures, quarter), np.resize(traps, quarter)])

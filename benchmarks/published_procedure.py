"""The published procedure for one caption, restated from its formulas (Kim & Lee, ICML 2026).

Plain and slow on purpose: one caption at a time, one guided trajectory for the detection's score
and another one for the map, as in their code; diffusers' own schedulers take the steps, and
`torch.autograd` differentiates. Nothing here is of `scanner.scan` or `scanner.numerics`, so that a
scan can be held against it.

With the predicted noise e and its scale sigma at the last step, the caption's branch c and the
empty caption's u::

    score = mean over positions of the sum over channels of ((e_c - e_u) / sigma)^2
    map   = sum over channels of diag(d(e_c - e_u) / dx) / sigma

The diagonal is Hutchinson's: the mean over signs v of ``v * (J^T v)``, one gradient back through
both branches for each v. Left out is what their code does beside that: half precision, ReLU, and
that it does not divide the map by sigma.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler
from torch import Tensor

STEPS, GUIDANCE, PRODUCTS = 50, 7.5, 16
"""Defaults of their code."""
COPIES = 32
"""Coordinates of the exact diagonal that one gradient gives."""

States = tuple[Tensor, ...]
"""What the network takes of one caption, each ``(1, *)``."""


class Network(Protocol):
    """A pipeline's denoising network with the encoders of its captions."""

    def states(self, caption: str) -> States:
        """Return what the network takes of a caption."""
        ...

    def output(self, x: Tensor, timestep: Tensor, states: States) -> Tensor:
        """Return what the network predicts, ``(B, C, H, W)``.

        Args:
            x: ``(B, C, H, W)``.
            timestep: A number.
            states: ``(B, *)`` each.
        """
        ...


class UNet:
    """The network of a ``StableDiffusionPipeline``."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def states(self, caption: str) -> States:
        """Return the text states of a caption, cut or filled up to the longest."""
        tokenizer = self._pipeline.tokenizer
        words = tokenizer(
            caption, padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        return (self._pipeline.text_encoder(words.input_ids)[0],)

    def output(self, x: Tensor, timestep: Tensor, states: States) -> Tensor:
        """Return the U-Net's prediction."""
        return self._pipeline.unet(x, timestep, states[0], return_dict=False)[0]


class Transformer:
    """The network of a ``StableDiffusion3Pipeline``.

    Args:
        pipeline: The pipeline.
        tokens: How many text states the network is given; null gives it all.
    """

    def __init__(self, pipeline: Any, tokens: int | None = None) -> None:
        self._pipeline, self._tokens = pipeline, tokens

    def states(self, caption: str) -> States:
        """Return the text states of a caption, and its pooled states."""
        words, _, pooled, _ = self._pipeline.encode_prompt(
            caption, None, None, device="cpu", do_classifier_free_guidance=False
        )
        return words[:, : self._tokens], pooled

    def output(self, x: Tensor, timestep: Tensor, states: States) -> Tensor:
        """Return the transformer's prediction."""
        return self._pipeline.transformer(
            hidden_states=x, timestep=timestep.expand(len(x)), encoder_hidden_states=states[0],
            pooled_projections=states[1], return_dict=False,
        )[0]  # fmt: skip


class Published:
    """The procedure with its settings.

    Args:
        network: The model under audit.
        scheduler: Its pipeline's: DDIM's levels are taken from it, or it is a flow's own.
        steps: Steps of a trajectory.
        guidance: Classifier-free guidance of the sampling.

    Attributes:
        spent: Evaluations of the network by kind, ``forward`` and ``vjp``, one a sample.
    """

    def __init__(
        self, network: Network, scheduler: Any, steps: int = STEPS, guidance: float = GUIDANCE
    ) -> None:
        self._network, self._steps, self._guidance = network, steps, guidance
        self._is_flow = "FlowMatch" in type(scheduler).__name__
        made = copy.deepcopy(scheduler)
        self._scheduler: Any = made if self._is_flow else DDIMScheduler.from_config(made.config)
        self.spent = Counter[str](forward=0, vjp=0)

    @torch.no_grad()
    def score(self, caption: str, noise: Tensor) -> float:
        """Return the detection's score, in 1 / latent^2. ``2 steps`` evaluations.

        Args:
            caption: Any text.
            noise: What the trajectory starts from, ``(1, C, H, W)``.
        """
        states, x, gap = self._both_states(caption), noise, noise
        for timestep in self._timesteps():
            own, null = self._outputs(x, timestep, states)
            gap = self._noise_gap(own, null, timestep)
            x = self._after(own, null, timestep, x)
        _, sigma = self._level(self._timesteps()[-1])
        return float((gap / sigma).square().sum(1).mean())

    def map(self, caption: str, noise: Tensor, signs: Sequence[Tensor]) -> Tensor:
        """Return the map, ``(H, W)``, in 1 / latent^2.

        ``2 steps`` evaluations, and two products for each v.

        Args:
            caption: Any text.
            noise: What the trajectory starts from, ``(1, C, H, W)``.
            signs: Each ``(1, C, H, W)`` of 1 and -1.
        """
        states, x = self._last_point(caption, noise)
        gap, sigma = self._gap_at(x.requires_grad_(), states)
        total = torch.zeros_like(x)
        for v in signs:
            total += v * self._product(gap, x, v, branches=2)
        return total.sum(1)[0] / len(signs) / sigma

    def exact(self, caption: str, noise: Tensor) -> Tensor:
        """Return the map with the exact diagonal, ``(H, W)``: a product for every coordinate.

        Its arguments are those of `map`. Of several coordinates at a time, each at a copy of the
        point: samples of a batch do not interact.
        """
        states, x = self._last_point(caption, noise)
        points = x.repeat(COPIES, 1, 1, 1).requires_grad_()
        gap, sigma = self._gap_at(points, states)
        found = torch.zeros(x.numel())
        for some in torch.arange(x.numel()).split(COPIES):
            units = torch.zeros(COPIES, x.numel())
            rows = torch.arange(len(some))
            units[rows, some] = 1
            products = self._product(gap, points, units.view_as(gap), branches=2 * COPIES)
            found[some] = products.flatten(1)[rows, some]
        return found.view_as(x).sum(1)[0] / sigma

    def _timesteps(self) -> Tensor:
        """Begin a trajectory: return its timesteps."""
        self._scheduler.set_timesteps(self._steps)
        return self._scheduler.timesteps

    @torch.no_grad()
    def _last_point(self, caption: str, noise: Tensor) -> tuple[tuple[States, States], Tensor]:
        """Return both branches' states, and the latent before the last step."""
        states, x = self._both_states(caption), noise
        for timestep in self._timesteps()[:-1]:
            x = self._after(*self._outputs(x, timestep, states), timestep, x)
        return states, x.clone()

    def _both_states(self, caption: str) -> tuple[States, States]:
        return self._network.states(caption), self._network.states("")

    def _outputs(
        self, x: Tensor, timestep: Tensor, states: tuple[States, States]
    ) -> tuple[Tensor, Tensor]:
        """Evaluate both branches in one batch; return the caption's and the empty caption's."""
        both = tuple(
            torch.cat([part.expand(len(x), *part.shape[1:]) for part in pair])
            for pair in zip(*states, strict=True)
        )
        self.spent["forward"] += 2 * len(x)
        own, null = self._network.output(torch.cat([x, x]), timestep, both).chunk(2)
        return own, null

    def _after(self, own: Tensor, null: Tensor, timestep: Tensor, x: Tensor) -> Tensor:
        """Return the latent after a guided step."""
        guided = null + self._guidance * (own - null)
        return self._scheduler.step(guided, timestep, x, return_dict=False)[0]

    def _gap_at(self, x: Tensor, states: tuple[States, States]) -> tuple[Tensor, float]:
        """Return ``e_c - e_u`` at the last step, with its graph, and sigma there."""
        timestep = self._timesteps()[-1]
        own, null = self._outputs(x, timestep, states)
        return self._noise_gap(own, null, timestep), self._level(timestep)[1]

    def _product(self, gap: Tensor, x: Tensor, v: Tensor, branches: int) -> Tensor:
        """Return ``J^T v`` of the gap; both branches see the same v."""
        self.spent["vjp"] += branches
        (product,) = torch.autograd.grad(gap, x, v, retain_graph=True)
        return product

    def _level(self, timestep: Tensor) -> tuple[float, float]:
        """Return the scales alpha of the clean latent and sigma of the noise at a timestep."""
        if self._is_flow:
            sigma = float(timestep) / self._scheduler.config.num_train_timesteps
            return 1 - sigma, sigma
        square = float(self._scheduler.alphas_cumprod[int(timestep)])
        return square**0.5, (1 - square) ** 0.5

    def _noise_gap(self, own: Tensor, null: Tensor, timestep: Tensor) -> Tensor:
        """Return the difference of the noises that two outputs at one point stand for.

        A velocity ``alpha n - sigma z`` and a flow ``n - z`` of a point ``alpha z + sigma n`` give
        the noise ``alpha output + …``, where what is left out is the same for both.
        """
        target = "flow" if self._is_flow else self._scheduler.config.prediction_type
        if target not in ("epsilon", "v_prediction", "flow"):
            raise ValueError(f"not of networks that predict {target}")
        return (own - null) * (1.0 if target == "epsilon" else self._level(timestep)[0])

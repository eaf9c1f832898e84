"""Products with Jacobians, round by round: until a draw has enough, or all are made."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scanner.numerics import maps
from scanner.numerics.curvature import Pullback

GraphOf = Callable[[Tensor], Pullback]
"""From numbers of draws, ``(b,)``, to the network evaluated there: the draws under one branch,
then under the next."""
IsEnough = Callable[[Tensor, Tensor], Tensor]
"""From the traces of the rounds so far, ``(r, S, b, H, W)``, and the numbers of these draws to
which of them need no further round, ``(b,)``."""


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What rounds of products gave, of ``S`` branches.

    Attributes:
        scores: The network's values, ``(S, B, C, H, W)``.
        diagonals: Of the Jacobians, ``(S, B, C, H, W)``: means over a draw's rounds.
        traces: What each round alone gives, summed over channels, ``(R, S, B, H, W)``; 0 after a
            draw's last.
        taken: Rounds of each draw, ``(B,)``.
    """

    scores: Tensor
    diagonals: Tensor
    traces: Tensor
    taken: Tensor


def in_rounds(graph_of: GraphOf, rounds: Tensor, is_enough: IsEnough) -> RoundResult:
    """Take products of draws round by round; what one draw gets does not depend on the others.

    Where many products can be saved by it, the draws that go on are evaluated again without those
    that have enough.

    Args:
        graph_of: Evaluates the network.
        rounds: Probes, ``(R, k, B, C, H, W)``.
        is_enough: Asked after every round.
    """
    number, each, draws = rounds.shape[:3]
    going, taken, done = torch.arange(draws), torch.zeros(draws, dtype=torch.long), 0
    graph = graph_of(going)
    scores = graph.value.unflatten(0, (-1, draws))
    diagonals = torch.zeros_like(scores, dtype=torch.promote_types(scores.dtype, torch.float32))
    traces = torch.zeros(number, *diagonals.sum(dim=2).shape, device=scores.device)
    while True:
        goes_on = torch.ones(len(going), dtype=torch.bool)
        while done < number and not _is_worth_leaving(goes_on, each):
            vectors = rounds[done][:, going].repeat(1, len(scores), 1, 1, 1)
            found = graph.diagonal(vectors, is_last=done + 1 == number)
            found, now = found.unflatten(0, (len(scores), -1))[:, goes_on], going[goes_on]
            diagonals[:, now] += found
            traces[done][:, now] = found.float().sum(dim=2)
            taken[now] += 1
            done += 1
            goes_on[goes_on.clone()] = ~is_enough(traces[:done, :, now], now).cpu()
        going = going[goes_on]
        if done == number or len(going) == 0:
            break
        del graph  # one at a time: it is most of the memory
        graph = graph_of(going)
    count = taken.to(diagonals.device)[:, None, None, None]
    return RoundResult(scores, diagonals / count, traces, taken)


def never(made: Tensor, draws: Tensor) -> Tensor:
    """Ask for all rounds."""
    return torch.zeros(len(draws), dtype=torch.bool)


def as_many_as(taken: Tensor) -> IsEnough:
    """Ask for as many rounds of each draw as another network took."""
    return lambda made, draws: len(made) >= taken[draws]


def until(target: float) -> IsEnough:
    """Ask for rounds until the error of Δh between two branches is below a share of the map."""

    def is_enough(made: Tensor, draws: Tensor) -> Tensor:
        every = torch.full((len(draws),), len(made))
        own, null = made.unbind(dim=1)
        errors = maps.standard_error(null - own, every)
        return ~(maps.relative_error((null - own).mean(dim=0), errors) > target)

    return is_enough


def _is_worth_leaving(goes_on: Tensor, each: int) -> bool:
    """Whether a further round of the others costs more than evaluating those that go on again."""
    left = int((~goes_on).sum())
    return left > 0 and left * each >= int(goes_on.sum())

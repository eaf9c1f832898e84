"""Products with Jacobians, round by round: until a draw has enough, or all are made."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scanner.numerics import maps
from scanner.numerics.curvature import Pullback
from scanner.scan.stages.draws import ProbePortion

GraphOf = Callable[[Tensor], Pullback]
"""From numbers of draws, ``(b,)``, to the network evaluated there: the draws under one branch,
then under the next."""


class Diagonals:
    """Jacobian diagonals of draws, of ``S`` branches at once, while products are made.

    What one draw gets does not depend on which others are at it.

    Args:
        graph_of: Evaluates the network.
        portions: Probes, in the order in which they are taken.
        branches: ``S``.

    Attributes:
        scores: The network's values, ``(S, B, C, H, W)``.
        traces: What each round alone gives, summed over channels, ``(R, S, B, H, W)``: of those on
            a draw's finest grid so far; anything after its last.
        taken: How many these rounds are, ``(B,)``.
        products: Products of a branch that a draw took, on all grids, ``(B,)``.
        first: Number of the portion with which a draw's finest grid began, ``(B,)``.
        last: Number of the last portion that a draw took, ``(B,)``.
    """

    def __init__(self, graph_of: GraphOf, portions: Sequence[ProbePortion], branches: int) -> None:
        like = portions[0].vectors
        draws, rounds = like.shape[2], sum(len(p.vectors) for p in portions)
        self._graph_of, self._portions = graph_of, portions
        self._graph: Pullback | None = None
        self._at = torch.zeros(0, dtype=torch.long)
        self.scores = like.new_zeros(branches, *like.shape[2:])
        self._totals = torch.zeros_like(self.scores)
        self.traces = like.new_zeros(rounds, branches, draws, *like.shape[4:])
        self.taken, self.products, self.first, self.last = torch.zeros(4, draws, dtype=torch.long)

    @property
    def diagonals(self) -> Tensor:
        """Means over the rounds on a draw's finest grid so far, ``(S, B, C, H, W)``."""
        return self._totals / self.taken.to(self._totals.device)[:, None, None, None]

    def take(self, number: int, draws: Tensor) -> None:
        """Take a portion of these draws.

        They are evaluated first, unless they are those of the portion before.

        Args:
            number: Of the portion.
            draws: Their numbers, ``(b,)``; all of them at the same round of the same grid.
        """
        portion, is_last = self._portions[number], number + 1 == len(self._portions)
        graph = self._evaluated(draws)
        if portion.is_new:
            self._totals[:, draws], self.taken[draws], self.first[draws] = 0, 0, number
        done = int(self.taken[draws[0]])
        for i, vectors in enumerate(portion.vectors[:, :, draws], 1):
            probes = vectors.repeat(1, len(self.scores), *[1] * (vectors.dim() - 2))
            found = graph.diagonal(probes, is_last=is_last and i == len(portion.vectors))
            found = found.unflatten(0, (len(self.scores), -1))
            self._totals[:, draws] += found
            self.traces[done + i - 1][:, draws] = found.sum(dim=2)
        self.taken[draws] += len(portion.vectors)
        self.products[draws] += portion.vectors.shape[:2].numel()
        self.last[draws] = number

    def close(self) -> None:
        """Give the memory of the network's graph back; no more products are made."""
        self._graph = None

    def _evaluated(self, draws: Tensor) -> Pullback:
        if self._graph is None or not torch.equal(draws, self._at):
            self._graph = None  # one at a time: it is most of the memory
            self._graph, self._at = self._graph_of(draws), draws
            self.scores[:, draws] = self._graph.value.float().unflatten(0, (len(self.scores), -1))
        return self._graph


def both_branches(
    graph_of: GraphOf, portions: Sequence[ProbePortion], target: float | None
) -> Diagonals:
    """Return the diagonals of a conditional and an unconditional branch.

    Args:
        graph_of: Evaluates both.
        portions: Probes.
        target: A draw stops once the relative error of its Δh is below this; null takes all.
    """
    found = Diagonals(graph_of, portions, 2)
    going = torch.arange(len(found.taken))
    for number in range(len(portions)):
        found.take(number, going)
        if target is not None:
            going = going[_errors(found, going) > target]
        if len(going) == 0:
            break
    found.close()
    return found


def as_many_as(
    other: Diagonals, graph_of: GraphOf, portions: Sequence[ProbePortion], branches: int
) -> Diagonals:
    """Return the diagonals of a network from the very probes that another's are from.

    Args:
        other: The other's.
        graph_of: Evaluates the network.
        portions: Probes, the same.
        branches: How many it has.
    """
    found = Diagonals(graph_of, portions, branches)
    for number in range(len(portions)):
        takes = (other.first <= number) & (number <= other.last)
        if takes.any():
            found.take(number, takes.nonzero()[:, 0])
    found.close()
    return found


def _errors(both: Diagonals, draws: Tensor) -> Tensor:
    """Return the relative error of each draw's Δh so far, ``(b,)``, on the CPU."""
    taken = both.taken[draws]
    own, null = both.traces[: int(taken[0]), :, draws].unbind(dim=1)
    rounds = null - own
    return maps.relative_error(rounds.mean(dim=0), maps.standard_error(rounds, taken)).cpu()

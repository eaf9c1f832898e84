"""The conditional and the unconditional branch of a batch: evaluate, guide, differentiate."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from scanner.models.base import Level
from scanner.numerics.curvature import Pullback
from scanner.numerics.schedule import Prediction, ddim_end, ddim_step, guided
from scanner.scan.setting import TrajectorySetting


@dataclass(frozen=True, slots=True)
class Branches:
    """Both branches at the same points, conditional first.

    Attributes:
        scores: ``(2B, C, H, W)``, in 1 / latent.
        prediction: The outputs behind them, where they say more than the scores; else null.
    """

    scores: Tensor
    prediction: Prediction | None = None

    def detached(self) -> "Branches":
        """Return the same without a graph."""
        kept = self.prediction
        if kept is not None:
            kept = replace(kept, output=kept.output.detach())
        return Branches(self.scores.detach(), kept)


def evaluated(setting: TrajectorySetting, level: Level, pair: Tensor) -> Branches:
    """Evaluate both branches at points, ``(2B, C, H, W)``, conditional first.

    The output is kept where the score does not say everything: of flows, and where alpha is 0.
    """
    if not setting.schedule.flow and level[1] > 0:
        return Branches(setting.scores(level)(pair))
    prediction = setting.predict(level, pair)
    return Branches(prediction.score(pair, *level[1:]), prediction)


def guided_step(
    setting: TrajectorySetting, both: Branches, guidance_scale: float, step: int, x: Tensor
) -> Tensor:
    """Return the latents after one guided DDIM step (for a flow: Euler's, which is the same).

    Guidance and step are of the network's output where it was kept, and of the score elsewhere:
    for a variance-preserving level with signal that comes to the same, and keeps the numbers of
    earlier versions to the last bit.

    Args:
        setting: The levels.
        both: Of `evaluated` at ``x``.
        guidance_scale: Of classifier-free guidance.
        step: Counted from 0.
        x: The latents, ``(B, C, H, W)``.
    """
    schedule = setting.schedule
    if both.prediction is not None:
        prediction = both.prediction.guided(guidance_scale)
        return ddim_end(*prediction.estimates(x, *setting.level(step)[1:]), schedule, step)
    own, null = both.scores.chunk(2)
    return ddim_step(x, guided(own, null, guidance_scale), schedule, step)


def score_and_diagonal(
    function: Callable[[Tensor], Tensor], point: Tensor, vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the function's value and its Jacobian's diagonal from one graph."""
    graph = Pullback(function, point)
    return graph.value, graph.diagonal(vectors, is_last=True)

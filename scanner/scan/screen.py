"""The screen: drop captions whose first steps say that they are clean, before sampling."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scanner.activity import SCREENING
from scanner.records import Caption
from scanner.scan.failures import draw_does_not_fit
from scanner.scan.runner import StageRunner
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.first_step import first_step
from scanner.scan.state import CaptionVerdict, ChunkState, FirstStep
from scanner.scan.verdicts import Verdicts


@dataclass(slots=True)
class Screen(StageRunner):
    """Looks at the first step of sampled captions.

    Attributes:
        threshold: Mean norm of the first steps below which a caption is clean; null looks at none.
        verdicts: Judges captions that are dropped.
    """

    threshold: float | None
    verdicts: Verdicts

    def drop_clean(
        self, chunk: ChunkState, draws: list[Draw], captions: Mapping[str, Caption]
    ) -> dict[str, CaptionVerdict]:
        """Evaluate first steps; put verdicts and failures of dropped captions into the chunk.

        The first steps of the captions that go on stay in the chunk: sampling starts with them.

        Args:
            chunk: Where the draws belong.
            draws: Those at images are left alone.
            captions: By identity.

        Returns:
            The verdicts on captions that are clean, by identity.
        """
        if (threshold := self.threshold) is None:
            return {}
        sampled = [draw for draw in draws if not draw.at_image]
        refused = self.size.each(sampled, lambda batch: self._evaluate(batch, chunk), self.relief)
        for draw, message in refused:
            chunk.failures[draw.identity] = draw_does_not_fit(message)
        norms: dict[str, dict[int, float]] = {}
        for draw, first in chunk.first.items():
            norms.setdefault(draw.identity, {})[draw.seed] = first.norm
        clean = {
            sha: self.verdicts.of_screened(captions[sha], by_seed)
            for sha, by_seed in norms.items()
            if sha not in chunk.failures and float(np.mean(list(by_seed.values()))) < threshold
        }
        chunk.verdicts |= clean
        chunk.first = {
            draw: first
            for draw, first in chunk.first.items()
            if draw.identity not in clean and draw.identity not in chunk.failures
        }
        return clean

    def _evaluate(self, draws: list[Draw], chunk: ChunkState) -> None:
        at = self.accounting.at(SCREENING, len(draws), 2)
        with at, self.accounting.batch([chunk.cost]):
            found = first_step(self.networks.denoiser, draws, self.contexts.of(draws[0]).spec)
            norms = found.norm.tolist()
        steps = zip(found.conditional, found.unconditional, norms, strict=True)
        chunk.first |= {draw: FirstStep(*step) for draw, step in zip(draws, steps, strict=True)}

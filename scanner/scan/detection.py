"""Detection of a chunk's draws: sample them, or look at their images, batch by batch."""

from collections.abc import Sequence
from itertools import repeat

import torch

from scanner.activity import IMAGES, SAMPLING
from scanner.models.memory import is_out_of_memory
from scanner.scan.batches import release
from scanner.scan.columns import increment_column
from scanner.scan.failures import draw_does_not_fit
from scanner.scan.flag_score import consensus_column
from scanner.scan.networks import Networks
from scanner.scan.runner import StageRunner
from scanner.scan.sources import by_source
from scanner.scan.stages.baseline import delta_s_against
from scanner.scan.stages.detection import Detection
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.first_step import FirstEvaluation
from scanner.scan.stages.image import detect_image
from scanner.scan.stages.sampling import detect
from scanner.scan.state import ChunkState, DrawState, Latents, mean
from scanner.spec import CONSENSUS


class DetectionRunner(StageRunner):
    """Takes the scores of draws."""

    def detect(self, chunk: ChunkState, draws: Sequence[Draw]) -> dict[str, list[DrawState]]:
        """Detect draws of a chunk; note in it which captions do not fit into memory.

        Returns:
            The detected draws of the captions that fit, by identity.
        """
        items = list[DrawState]()
        for alike in by_source(draws):
            refused = self.size.each(
                alike,
                lambda batch: items.extend(self.detect_batch(self.networks, batch, chunk)),
                self.relief,
            )
            for draw, message in refused:
                chunk.failures[draw.identity] = draw_does_not_fit(message)
        by_caption: dict[str, list[DrawState]] = {}
        for item in items:
            if item.draw.identity not in chunk.failures:
                by_caption.setdefault(item.draw.identity, []).append(item)
        return by_caption

    def look_ahead(self, chunk: ChunkState, draws: Sequence[Draw]) -> None:
        """Have captions encoded before the first batch, where text encoders are moved to run.

        So they move once, and not within a batch whose memory is measured. What does not fit
        into memory is left to the batches.

        Raises:
            RuntimeError: If encoding fails.
            MemoryError: Never: memory that runs out is passed over.
        """
        if not draws:
            return
        texts = list(dict.fromkeys(["", *(draw.text for draw in draws)]))
        try:
            with self.accounting.batch([chunk.cost]):
                self.networks.denoiser.expect(texts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release()

    def detect_batch(
        self, networks: Networks, draws: list[Draw], chunk: ChunkState
    ) -> list[DrawState]:
        """Detect one batch, all of one source, and charge it to the chunk."""
        stage = IMAGES if draws[0].at_image else SAMPLING
        with self.at(stage, draws, localized=False), self.accounting.batch([chunk.cost]):
            seen = self._evaluated(networks, draws, chunk)
            flagging = self._against_baseline(networks, draws, seen)
            self.accounting.evaluations["draws"] += len(draws)
            maps = {("delta_s", "null"): seen.delta_s.cpu().numpy()}
            maps |= {name: m.cpu().numpy() for name, m in seen.maps.items()}
            scores = {name: values.tolist() for name, values in seen.scores.items()} | flagging
            clean = [None] * len(draws) if seen.clean is None else list(seen.clean)
            increments = [None] * len(draws)
            if (path := seen.paths.get("increment")) is not None:
                increments = [tuple(own) for own in path.tolist()]
        spec = self.contexts.of(draws[0]).spec
        null = self.contexts.sampled_calibration
        means = map(mean, maps["delta_s", "null"]) if spec.flag_by == CONSENSUS else repeat(0.0)
        each = [{n: values[i] for n, values in scores.items()} for i in range(len(draws))]
        return [
            DrawState(
                draw, {name: m[i] for name, m in maps.items()},
                own
                | increment_column(spec, null, increments[i])
                | consensus_column(spec, delta_s, own, null),
                Latents(seen.point[i], seen.final[i], clean[i]), chunk.cost,
                increments=increments[i],
                screen=chunk.first[draw].norm if draw in chunk.first else None,
            )
            for i, (draw, own, delta_s) in enumerate(zip(draws, each, means, strict=False))
        ]  # fmt: skip

    def _evaluated(self, networks: Networks, draws: list[Draw], chunk: ChunkState) -> Detection:
        """Sample draws, or look at their images; all of a batch are of one source."""
        spec = self.contexts.of(draws[0]).spec
        if not draws[0].at_image:
            return detect(networks.denoiser, draws, spec, _first_evaluation(draws, chunk))
        own = {draw.identity: torch.tensor(chunk.pictures[draw.identity]) for draw in draws}
        return detect_image(networks.denoiser, draws, own, spec, networks.baselines)

    def _against_baseline(
        self, networks: Networks, draws: list[Draw], seen: Detection
    ) -> dict[str, list[float]]:
        """Return the draws' Δs against the baseline by which the spec flags, if it does so."""
        spec = self.contexts.of(draws[0]).spec
        if (name := spec.flag_baseline) is None:
            return {}
        found = delta_s_against(networks.baselines[name], networks.denoiser, draws, seen, spec)
        return {spec.flag_by: [mean(each) for each in found.cpu().numpy()]}


def _first_evaluation(draws: list[Draw], chunk: ChunkState) -> FirstEvaluation | None:
    """Return the first steps of draws as one batch; null unless all of them were evaluated."""
    first = [chunk.first[draw] for draw in draws if draw in chunk.first]
    if len(first) < len(draws):
        return None
    return FirstEvaluation(
        torch.stack([one.conditional for one in first]),
        torch.stack([one.unconditional for one in first]),
        torch.tensor([one.norm for one in first]),
    )

"""One more try in float32 for captions whose numbers are not finite."""

from scanner.scan.batches import BatchSize
from scanner.scan.detection import DetectionRunner
from scanner.scan.failures import not_finite
from scanner.scan.localization import LocalizationRunner
from scanner.scan.networks import Float32Networks
from scanner.scan.stages.draws import Draw
from scanner.scan.state import ChunkState, DrawState
from scanner.scan.verdicts import Verdicts


class Float32Retry:
    """Scores captions again with the same networks in float32.

    Args:
        dtype: The precision that gave no number, for messages.
        networks: In float32, if there are any.
        detection: Takes scores.
        localization: Takes maps.
        verdicts: Judges captions.
    """

    def __init__(
        self, dtype: str, networks: Float32Networks, detection: DetectionRunner,
        localization: LocalizationRunner, verdicts: Verdicts,
    ) -> None:  # fmt: skip
        self._dtype, self._networks = dtype, networks
        self._detection, self._localization, self._verdicts = detection, localization, verdicts
        self._one_draw = BatchSize(1, proven=True)

    def rescore(self, chunk: ChunkState, draws: list[Draw]) -> None:
        """Score one caption again, draw by draw; reject it if that gives no number either.

        Args:
            chunk: Gets the verdict or the failure.
            draws: All of the caption.
        """
        sha = draws[0].identity
        if not self._networks.exist:
            chunk.failures[sha] = not_finite()
            return
        items, messages = self._detected(chunk, draws)
        if not messages and _are_finite(items):
            verdict = self._verdicts.of_draws(items)
            if self._verdicts.is_to_localize(verdict):
                messages = self._localized(items)
            if not messages and _are_finite(items):
                chunk.verdicts[sha] = verdict
                chunk.rescored.add(sha)
                return
        more = f", which does not fit into memory ({messages[0]})" if messages else " too"
        chunk.failures[sha] = not_finite(f" in {self._dtype}, and in float32{more}")

    def _detected(self, chunk: ChunkState, draws: list[Draw]) -> tuple[list[DrawState], list[str]]:
        """Return the detected draws, and what was said of those that do not fit into memory."""
        items = list[DrawState]()

        def work(batch: list[Draw]) -> None:
            items.extend(self._detection.detect_batch(self._networks.get(), batch, chunk))

        refused = self._one_draw.each(draws, work, self._networks.drop)
        return items, [message for _, message in refused]

    def _localized(self, items: list[DrawState]) -> list[str]:
        """Localize draws; return what was said of those that do not fit into memory."""

        def work(batch: list[DrawState]) -> None:
            networks = self._networks.get()  # beside those of the scan's own precision
            networks.checkpoint_blocks()
            self._localization.localize_batch(networks, batch)

        refused = self._one_draw.each(items, work, self._networks.drop)
        return [message for _, message in refused]


def _are_finite(items: list[DrawState]) -> bool:
    return all(item.is_finite for item in items)

"""Everything that a stage of a scan works with, batch by batch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from scanner.scan import cost
from scanner.scan.accounting import Accounting
from scanner.scan.batches import BatchSize
from scanner.scan.contexts import SourceContexts
from scanner.scan.networks import Networks
from scanner.scan.stages.draws import Draw


@dataclass(slots=True)
class StageRunner:
    """Base of the screen, detection and localization.

    Attributes:
        networks: Evaluate the draws.
        contexts: Settings of sampled captions and of images.
        accounting: Charges batches to their chunks.
        relief: Gives memory back that can be spared.
        size: Draws at a time.
    """

    networks: Networks
    contexts: SourceContexts
    accounting: Accounting
    relief: Callable[[], None]
    size: BatchSize

    def at(
        self, stage: str, draws: Sequence[Draw], *, localized: bool
    ) -> AbstractContextManager[None]:
        """Say which batch the device is at, all of one source, and how much there is to do."""
        spec, networks = self.contexts.of(draws[0]).spec, self.networks
        told = {"probes": cost.probes_taken(spec, networks.denoiser.latent_shape[0]),
                "baselines": len(networks.baselines)}  # fmt: skip
        each = cost.evaluations(spec, localized=localized, **told).total()
        if localized:
            each -= cost.evaluations(spec, localized=False, **told).total()
        return self.accounting.at(stage, len(draws), each, settled=self.size.is_settled)

"""Everything that a stage of a scan works with, batch by batch."""

from collections.abc import Callable
from dataclasses import dataclass

from scanner.scan.accounting import Accounting
from scanner.scan.batches import BatchSize
from scanner.scan.contexts import SourceContexts
from scanner.scan.networks import Networks


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

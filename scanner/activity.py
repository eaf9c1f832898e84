"""What a device is at, for who watches a scan."""

from dataclasses import dataclass

SCREENING, SAMPLING, IMAGES, MAPS = "screening", "sampling", "scoring images", "maps"


@dataclass(frozen=True, slots=True)
class Activity:
    """The batch that a device is at.

    Attributes:
        stage: One of this module's words; ``""`` while the device has no batch.
        draws: Of the batch.
        share: Of its evaluations of the networks that are made, 0 to 1; 0 where nobody knows how
            many there will be.
        done: Draws that the device has sampled, or scored at their image, before.
    """

    stage: str = ""
    draws: int = 0
    share: float = 0.0
    done: int = 0

    def words(self) -> str:
        """Return it for a person.

        Example:
            >>> Activity("sampling", 16, 0.483).words(), Activity().words()
            ('sampling 16, 48%', '')
        """
        if not self.stage:
            return ""
        share = f", {self.share:.0%}" if self.share else ""
        return f"{self.stage} {self.draws}{share}"

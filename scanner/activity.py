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


@dataclass(frozen=True, slots=True)
class Trace:
    """What was recorded so far.

    Attributes:
        content: A Chrome trace, as JSON in gzip, for Perfetto and chrome://tracing.
        batches: How many batches it has, by kind, one of this module's words.
        cold: Kinds of which it has the first batch alone, which warms up.
        problem: Why no more is recorded, or ``""``.
    """

    content: bytes
    batches: dict[str, int]
    cold: tuple[str, ...] = ()
    problem: str = ""

    def words(self) -> str:
        """Return what it has, for a person.

        Example:
            >>> Trace(b"", {"sampling": 2, "maps": 1}, ("maps",)).words()
            '2 batches of sampling, the first batch of maps'
        """
        each = [
            f"the first batch of {kind}" if kind in self.cold
            else f"{number} {'batch' if number == 1 else 'batches'} of {kind}"
            for kind, number in self.batches.items()
        ]  # fmt: skip
        return ", ".join(each)

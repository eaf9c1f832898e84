"""The networks that evaluate draws, in the spec's precision and in float32."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scanner.models.base import Denoiser
from scanner.scan.accounting import Accounting
from scanner.scan.evaluation_counter import EvaluationCounter

Loaded = tuple[Denoiser, Mapping[str, Denoiser]]
"""The model, and the networks of its baselines by name."""


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks that evaluate draws, with counters.

    Attributes:
        denoiser: The model.
        baselines: Networks of its baselines by name.
    """

    denoiser: EvaluationCounter
    baselines: Mapping[str, EvaluationCounter]

    @classmethod
    def counted(cls, loaded: Loaded, accounting: Accounting) -> "Networks":
        """Return loaded networks with counters."""
        denoiser, baselines = loaded
        counted = accounting.counted
        return cls(counted(denoiser), {name: counted(one) for name, one in baselines.items()})

    def checkpoint_blocks(self) -> bool:
        """Have all networks keep less for products; return whether that is new to any."""
        every = (self.denoiser, *self.baselines.values())
        return sum(one.checkpoint_blocks() for one in every) > 0


class Float32Networks:
    """The same networks in float32, loaded when they are first asked for.

    Args:
        load: Loads them; null if there is nothing to load.
        accounting: Counts their evaluations.
    """

    def __init__(self, load: Callable[[], Loaded] | None, accounting: Accounting) -> None:
        self._load, self._accounting = load, accounting
        self._loaded: Networks | None = None

    @property
    def exist(self) -> bool:
        """Whether there is something to load."""
        return self._load is not None

    def get(self) -> Networks:
        """Return the networks, which stay until they are dropped.

        Raises:
            ValueError: If there is nothing to load.
        """
        if self._loaded is None:
            if self._load is None:
                raise ValueError("there is nothing to load float32 networks with")
            self._loaded = Networks.counted(self._load(), self._accounting)
        return self._loaded

    def drop(self) -> None:
        """Give their memory back; they can be loaded again."""
        self._loaded = None

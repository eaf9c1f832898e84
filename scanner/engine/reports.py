"""Reports of an actor to the driver: about itself, its time, and each chunk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanner.activity import Trace


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """Node, process and device of an actor.

    Attributes:
        pid: Its process.
        node: The machine's name.
        device: The device's name.
        threads: Threads for work on the CPU.
        seconds: Time to load the model.
        gpu: What no other GPU is called: its UUID, or the machine, Ray's node and its number of
            it; ``""`` where none was asked for.
        sample_seconds: About how long its device takes for a sample; 0 if nobody wanted to know,
            or it could not be measured.
    """

    pid: int
    node: str
    device: str
    threads: int
    seconds: float
    gpu: str = ""
    sample_seconds: float = 0.0

    @property
    def name(self) -> str:
        """The actor's name in events and metrics."""
        return f"{self.node}/{self.pid}"


@dataclass(frozen=True, slots=True)
class ActorUsage:
    """An actor's time so far, by part.

    Attributes:
        seconds: Wall time from its first task's receipt to the last one's end.
        denoiser_seconds: Of that, in the networks: forward evaluations and products.
        product_seconds: Of that, gradients back through the networks.
        preparation_seconds: Time for tokens, text states, noise and probes.
        autoencoder_seconds: Time in the autoencoder.
        waiting_seconds: Time that the device waited: for tasks, reading and committing.
        batch_sizes: Draws at a time at present, by stage.
        shortages: Times that memory ran out and a batch was halved.
        not_compiled: Why its network is not compiled though it should be, or ``""``.
        checkpointed: Whether one draw's maps did not fit, so that they take less memory and more
            time.
    """

    seconds: float = 0.0
    denoiser_seconds: float = 0.0
    product_seconds: float = 0.0
    preparation_seconds: float = 0.0
    autoencoder_seconds: float = 0.0
    waiting_seconds: float = 0.0
    batch_sizes: dict[str, int] = field(default_factory=dict)
    shortages: int = 0
    not_compiled: str = ""
    checkpointed: bool = False

    @property
    def share(self) -> float:
        """Share of the wall time that was spent in the networks, 0 to 1."""
        return self.denoiser_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """The result of one task; nothing else returns to the driver.

    Attributes:
        samples: Samples read: scored plus rejected.
        scored: Samples with scores.
        flagged: Samples flagged under any seed.
        rejected: Samples rejected.
        seconds: Time of the actor's device: waiting for this task, and at work on it. Tasks
            overlap, these times do not.
        denoiser_seconds: Of that, in the networks: forward evaluations and products.
        product_seconds: Of that, gradients back through the networks.
        preparation_seconds: Time for tokens, text states, noise and probes.
        autoencoder_seconds: Time in the autoencoder.
        waiting_seconds: Time that the device waited while the actor had tasks: reading and
            committing.
        localized: Samples that got maps.
        screened: Samples that the screen dropped before they were sampled.
        reasons: Samples rejected, by reason.
        recalled: Samples whose rows are a copy's, scored before.
        redone: Samples whose numbers are float32's, because the scan's own precision gave none.
        evaluations: Of networks, by kind, and draws.
        usage: The actor's own, up to here.
        trace: What the actor recorded of its batches, if it shall and there is more than before.
    """

    samples: int
    scored: int
    flagged: int
    rejected: int
    seconds: float
    denoiser_seconds: float
    product_seconds: float = 0.0
    preparation_seconds: float = 0.0
    autoencoder_seconds: float = 0.0
    waiting_seconds: float = 0.0
    localized: int = 0
    screened: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    recalled: int = 0
    redone: int = 0
    evaluations: dict[str, int] = field(default_factory=dict)
    usage: ActorUsage = field(default_factory=ActorUsage)
    trace: Trace | None = None

    @classmethod
    def names(cls) -> list[str]:
        """Return what a commit records of them."""
        return [name for name in cls.__slots__ if name not in ("usage", "trace")]

    def facts(self) -> dict[str, Any]:
        """Return the same with the numbers."""
        return {name: getattr(self, name) for name in self.names()}


def seconds_by_part(parts: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by part as `ChunkReport` and `ActorUsage` name them."""
    network, product = parts.get("network", 0.0), parts.get("product", 0.0)
    others = ("preparation", "autoencoder", "waiting")
    return {"denoiser_seconds": network + product, "product_seconds": product} | {
        f"{name}_seconds": parts.get(name, 0.0) for name in others
    }

"""Declaration of a method: the one place where a detector or a map is declared.

Nothing here imports torch, so that the command line lists methods and refuses what a model cannot
serve without loading one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanner.methods.observing import Observer, Setting


class Need(Enum):
    """Something that a method cannot be without.

    Attributes:
        label: A few words, for messages and for the table in docs/methods.md.
    """

    CROSS_ATTENTION = "cross attention in its down blocks"
    MIDDLE_BLOCK = "a middle block"
    FIRST_STEP = "a first step with signal"
    TRAJECTORY = "a trajectory"
    IMAGE = "an image"
    LOCALIZATION = "a localized caption"
    CAPTION = "a caption"

    @property
    def label(self) -> str:
        """A few words for it."""
        return self.value


OF_NETWORK = frozenset({Need.CROSS_ATTENTION, Need.MIDDLE_BLOCK})
"""Needs that a network has or has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Evaluations of the network beyond the trajectory, per (caption, seed).

    Methods that name the same one share it: it is made and counted once.

    Attributes:
        name: Tells evaluations apart that cost the same.
        forward: Passes of one latent through the network.
        vjp: Gradients back through it.
        jvp: Tangents alongside a pass, which is counted too.
        vjp_per_probe: Gradients for each probe.
    """

    name: str
    forward: int = 0
    vjp: int = 0
    jvp: int = 0
    vjp_per_probe: int = 0

    def cost(self, probes: int) -> dict[str, int]:
        """Return the numbers of passes, as `EvaluationCounter` counts them.

        Args:
            probes: How many probes are taken.
        """
        backward = self.vjp + probes * self.vjp_per_probe
        counted = {"forward": self.forward, "vjp": backward, "jvp": self.jvp}
        return {name: number for name, number in counted.items() if number}

    def __str__(self) -> str:
        """Return the cost in the letters of docs/methods.md, such as ``2F + 2N V``."""
        terms = {
            "F": self.forward, "T": self.jvp, "V": self.vjp, "N V": self.vjp_per_probe,
        }  # fmt: skip
        return " + ".join(f"{number}{letters}" for letters, number in terms.items() if number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Base of detectors and maps.

    Attributes:
        name: What ``--detectors`` or ``--maps`` calls it, and its column or metric.
        title: What it is, in a few words.
        formula: In the letters of docs/methods.md, as Markdown.
        unit: Of the number, or of a map's pixels.
        source: The paper, and where in it.
        notes: What else a user must know, as Markdown.
        evaluations: What it takes beyond the trajectory's own two evaluations a step.
        needs: What it cannot be without.
        least_steps: The fewest steps of a trajectory that it can be taken from.
        step: The step at which it takes scores, counted back from the end (-1 is the last); null
            where ``--map-back`` says it, and of detectors that look at the first step or at all.
    """

    name: str
    title: str
    formula: str
    unit: str
    source: str
    notes: str = ""
    evaluations: tuple[Evaluation, ...] = ()
    needs: frozenset[Need] = frozenset()
    least_steps: int = 1
    step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector(Method):
    """A score per (caption, seed). It has an ``observer`` or an ``of_branch``, never both.

    Attributes:
        observer: Makes what watches one batch's trajectory.
        of_branch: Of a localized caption's clean latents, from score ``(B, C, H, W)``, diagonal
            of its Jacobian (same shape) and noise scale to scores ``(B,)``.
        branch: Whose: 0 is the caption's branch, 1 the empty caption's.
        low_is_suspicious: Whether small scores point at memorization.
    """

    observer: Callable[[Setting], Observer] | None = None
    of_branch: Callable[..., Any] | None = None
    branch: int = 0
    low_is_suspicious: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Map(Method):
    """A number per position of a localized (caption, seed).

    Attributes:
        is_default: Whether a scan takes it if nobody chooses maps.
        of: Metrics that it is computed from, position by position.
        combine: From those maps, ``(B, H, W)`` each, to this one. Null of maps that the stages
            of a scan give by themselves.
    """

    is_default: bool = False
    of: tuple[str, ...] = ()
    combine: Callable[..., Any] | None = None


def existing(methods: Iterable[Method], source: str, *, captions: bool = True) -> tuple[str, ...]:
    """Return the names of the methods that a scan of this source can have.

    Args:
        methods: Detectors or maps.
        source: One of `scanner.spec.SOURCES`; with ``auto`` each sample has what its source has.
        captions: Whether images are scored under their captions.
    """
    absent = {"image": {Need.TRAJECTORY}, "generated": {Need.IMAGE}}.get(source, set())
    if not captions:
        absent = absent | {Need.CAPTION}
    return tuple(method.name for method in methods if not absent & method.needs)

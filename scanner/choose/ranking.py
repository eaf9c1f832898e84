"""Ranking of steps, baselines and numbers of seeds on captions whose truth is known.

Families are split in two: the first half chooses, the second half shows what the choice is worth.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanner.analysis import overlap
from scanner.analysis.captions_and_maps import regions
from scanner.analysis.detection import ranking, tpr_name
from scanner.analysis.truth import Truth
from scanner.errors import ConfigError
from scanner.text import aligned

Floats = NDArray[np.float64]
Maps = Mapping[tuple[str, str, int], NDArray[np.float32]]
"""By metric, baseline and step: a map of every caption under every seed, ``(N, S, H, W)``."""

TIE = 0.005
"""Measures that differ by less are the same: then the cheaper, and the later step, is taken."""
MOST_SUBSETS = 50


@dataclass(frozen=True, slots=True)
class SettingResult:
    """The quality of one map at one step.

    Attributes:
        metric: ``delta_s`` or ``delta_h``.
        baseline: ``null`` or a network's name.
        step: Counted from 0, the noisiest.
        timestep: The training timestep of that.
        noise: Noise over signal there, as ``--noise`` counts levels.
        back: Steps before the last, as ``--map-back`` of a scan counts them.
        auc: AUC of the map's mean on the half that chooses.
        iou: IoU at the best threshold, on the partly memorized captions of that half.
        held_auc: AUC of the map's mean on the half held out.
        held_iou: IoU on the half held out.
    """

    metric: str
    baseline: str
    step: int
    timestep: int
    noise: float
    back: int
    auc: float
    iou: float
    held_auc: float
    held_iou: float

    @property
    def cost(self) -> int:
        """Relative cost: a score difference is free, a product counts 2, a network 1."""
        return 2 * (self.metric != "delta_s") + (self.baseline != "null")


@dataclass(frozen=True, slots=True)
class Seeds:
    """The quality of the recommended detector with a number of seeds, over subsets of the seeds.

    Attributes:
        number: How many.
        auc: Mean over subsets, on the half that chooses.
        tpr: True-positive rate at a false-positive rate of 1%, the same.
        held_auc: On the other half.
        held_tpr: On the other half.
    """

    number: int
    auc: float
    tpr: float
    held_auc: float
    held_tpr: float


@dataclass
class Choice:
    """All measurements and the recommended settings.

    Attributes:
        points: Every map at every step.
        seeds: For one seed and more.
        detection: The map whose mean tells memorized captions best.
        localization: The map that finds the copy best.
        number: How many seeds.
        counts: Captions of each half, memorized and not.
        evaluations: What networks were asked for.
        notes: What a reader must know.
    """

    points: list[SettingResult]
    seeds: list[Seeds]
    detection: SettingResult
    localization: SettingResult | None
    number: int
    counts: dict[str, int]
    evaluations: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """Return it as a JSON object; a measure that does not exist is null."""
        content = {name: _plain(value) for name, value in asdict(self).items()}
        return json.dumps(content, indent=1)

    @property
    def tpr_title(self) -> str:
        """Name of the true-positive rates: at 1%, or with no false positive among so many."""
        halves = self.counts.get("choosing_other", 0), self.counts.get("held_out_other", 0)
        return tpr_name("1%", min(halves))

    def as_text(self, width: int | None = None) -> str:
        """Return the tables and the recommendation for the terminal.

        Args:
            width: Terminal columns; no limit by default.
        """
        heads = ["map", "baseline", "best AUC", "at t", "best IoU", "at t", "AUC, end", "IoU, end"]
        rows = []
        for metric, baseline in dict.fromkeys((p.metric, p.baseline) for p in self.points):
            own = [p for p in self.points if (p.metric, p.baseline) == (metric, baseline)]
            last, auc = max(own, key=lambda p: p.step), _best(own, "auc")
            iou = _best(own, "iou") or last
            auc = auc or last
            rows.append(
                [metric, baseline, _number(auc.auc), auc.timestep, _number(iou.iou), iou.timestep,
                 _number(last.auc), _number(last.iou)]
            )  # fmt: skip
        seeds = [
            [s.number, *map(_number, (s.auc, s.tpr, s.held_auc, s.held_tpr))] for s in self.seeds
        ]
        titles = ["seeds", "AUC", self.tpr_title, "held out: AUC", "TPR"]
        found = [aligned(heads, rows, width), ""]
        found += [aligned(titles, seeds, width), ""]
        found += self.recommended()
        found += [f"note: {note}" for note in self.notes]
        return "\n".join(found) + "\n"

    def recommended(self) -> list[str]:
        """Return the recommendation, a line each."""
        best, where = self.detection, self.localization
        lines = [
            f"detect by {_name(best)}: AUC {_number(best.auc)}, on held-out families "
            f"{_number(best.held_auc)}"
        ]
        if where is not None:
            lines.append(
                f"localize by {_name(where)}: IoU {_number(where.iou)}, on held-out families "
                f"{_number(where.held_iou)}"
            )
        one = self.seeds[self.number - 1]
        plural = "s" if self.number > 1 else ""
        lines.append(
            f"take {self.number} seed{plural}: AUC {_number(one.auc)}, {self.tpr_title} "
            f"{_number(one.tpr)}, held out {_number(one.held_auc)} and {_number(one.held_tpr)}"
        )
        return lines


def choose(maps: Maps, known: Sequence[Truth], levels: Sequence[tuple[int, float]]) -> Choice:
    """Measure maps on captions with a known truth, and recommend.

    Args:
        maps: Of every caption under every seed.
        known: The truth of each caption, ``(N,)``.
        levels: Training timestep, and noise over signal, of the sampler's steps.

    Raises:
        ConfigError: If a half has no memorized caption or no other one.
    """
    memorized = np.array([t.memorized for t in known], bool)
    first = _first_half(known)
    for half in (first, ~first):
        if not memorized[half].any() or memorized[half].all():
            raise ConfigError(
                "each half of the families must have memorized captions and others; give more "
                "captions of both, of at least two families each"
            )
    partial = np.array([t.mask is not None and 0 < t.mask.mean() < 1 for t in known]) & memorized
    where = partial if partial[first].any() and partial[~first].any() else memorized
    points = [
        SettingResult(
            metric, baseline, step, *levels[step], len(levels) - 1 - step,
            _auc(values, memorized, first), _iou(values, known, where & first),
            _auc(values, memorized, ~first), _iou(values, known, where & ~first),
        )
        for (metric, baseline, step), values in maps.items()
    ]  # fmt: skip
    best = _detector(points)
    seeds = _seeds(maps[best.metric, best.baseline, best.step], memorized, first)
    counts = {
        "choosing_memorized": int((memorized & first).sum()),
        "choosing_other": int((~memorized & first).sum()),
        "held_out_memorized": int((memorized & ~first).sum()),
        "held_out_other": int((~memorized & ~first).sum()),
    }
    localization = _best(points, "iou")
    choice = Choice(points, seeds, best, localization, _enough(seeds), counts)
    if where is not partial:
        choice.notes.append("no caption is memorized in part: IoU is of whole pictures")
    return choice


def _first_half(known: Sequence[Truth]) -> NDArray[np.bool_]:
    """Return which captions choose: every other family of each kind, in the order of a hash."""
    chosen: set[tuple[str, str]] = set()
    for kind in {t.kind for t in known}:
        families = {t.family for t in known if t.kind == kind}
        ordered = sorted(families, key=lambda f: hashlib.sha256(f.encode()).digest())
        chosen |= {(kind, family) for family in ordered[::2]}
    return np.array([(t.kind, t.family) in chosen for t in known], bool)


def _means(values: NDArray[np.float32]) -> Floats:
    """Return the mean of every map, ``(N, S)``."""
    return values.astype(np.float64).mean(axis=(2, 3))


def _auc(
    values: NDArray[np.float32], memorized: NDArray[np.bool_], half: NDArray[np.bool_]
) -> float:
    return _rank(_means(values).mean(axis=1)[half], memorized[half])[0]


def _rank(scores: Floats, memorized: NDArray[np.bool_]) -> tuple[float, float]:
    found = ranking(scores, memorized, np.ones((1, len(scores))))
    return float(found.auc[0]), float(found.tpr["1%"][0])


def _iou(values: NDArray[np.float32], known: Sequence[Truth], wanted: NDArray[np.bool_]) -> float:
    places = np.flatnonzero(wanted).tolist()
    truth = [known[i] for i in places for _ in range(values.shape[1])]
    own = [one.astype(np.float64) for i in places for one in values[i]]
    return overlap.sweep(own, regions(truth, own), lambda one: one).best().iou


def _seeds(
    values: NDArray[np.float32], memorized: NDArray[np.bool_], first: NDArray[np.bool_]
) -> list[Seeds]:
    scores, found = _means(values), list[Seeds]()
    for number in range(1, scores.shape[1] + 1):
        subsets = list(combinations(range(scores.shape[1]), number))
        step = -(-len(subsets) // MOST_SUBSETS)
        measured = [
            [*_rank(mean[first], memorized[first]), *_rank(mean[~first], memorized[~first])]
            for mean in (scores[:, list(own)].mean(axis=1) for own in subsets[::step])
        ]
        auc, tpr, held_auc, held_tpr = np.mean(measured, axis=0).tolist()
        found.append(Seeds(number, auc, tpr, held_auc, held_tpr))
    return found


def _best(points: Sequence[SettingResult], name: str) -> SettingResult | None:
    """Return the point with the best of a measure; among ties the cheapest, then the latest."""
    there = [p for p in points if math.isfinite(getattr(p, name))]
    if not there:
        return None
    top = max(getattr(p, name) for p in there)
    ties = [p for p in there if getattr(p, name) >= top - TIE]
    return min(ties, key=lambda p: (p.cost, -p.step))


def _detector(points: Sequence[SettingResult]) -> SettingResult:
    found = _best(points, "auc")
    if found is None:
        raise ValueError("an area under the curve exists where both classes do")
    return found


def _enough(seeds: Sequence[Seeds]) -> int:
    """Return the fewest seeds whose AUC and TPR are as good as those of the best number."""
    best = max(seeds, key=lambda s: s.auc + s.tpr)
    good = (s for s in seeds if s.auc >= best.auc - TIE and s.tpr >= best.tpr - 4 * TIE)
    return next(good).number


def _name(point: SettingResult) -> str:
    place = f"timestep {point.timestep}, noise {point.noise:.3g} (--map-back {point.back})"
    return f"{point.metric} against {point.baseline} at {place}"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

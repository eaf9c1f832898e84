"""What detectors see: against which clean captions, and from which dose on.

A caption is *given back* when at least half of its samples are copies. Detectors are measured
against several sets of clean captions apart, because a detector that reacts to a style of caption
looks perfect against captions of another style.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scanner.analysis.detection import RATES, detection_row, family_weights, ranking
from scanner.analysis.power import GIVEN_BACK
from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.spec import CONSENSUS, CONSENSUS_OF
from scanner.statistics.consensus import Consensus
from scanner.testbed.benchmark import response
from scanner.testbed.benchmark.tables import ABOUT

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Row = dict[str, object]

DRAWS = 500
FEWEST = 5
"""Captions of a set that is worth a measure."""


@dataclass(frozen=True, slots=True)
class Captions:
    """Captions of one checkpoint with their scores.

    Attributes:
        about: From a column of `tables.ABOUT` to its values, ``(n,)`` each.
        scores: From a score to its values, ``(n,)``, high where it is suspicious; NaN where a
            caption has none.
    """

    about: Mapping[str, NDArray[np.object_]]
    scores: Mapping[str, Floats]

    @property
    def share(self) -> Floats:
        """Return the share of each caption's samples that are copies; NaN where none was drawn."""
        copies, seeds = (self.about[name].astype(np.float64) for name in ("copies", "seeds"))
        return copies / seeds

    @property
    def given_back(self) -> Bools:
        """Return which planted captions the model gives back."""
        return self.is_planted & (np.nan_to_num(self.share) >= GIVEN_BACK)

    @property
    def is_planted(self) -> Bools:
        """Return which captions training repeats with a picture, at a dose above 0."""
        return self.repeats & (self.dose > 0)

    @property
    def repeats(self) -> Bools:
        """Return which captions training shows with a repeated picture, at whatever dose."""
        kinds = np.isin(self.about["kind"], ("verbatim", "template"))
        return (self.about["role"] == "planted") & kinds

    @property
    def dose(self) -> Floats:
        """Return each caption's dose."""
        return self.about["dose"].astype(np.float64)

    @property
    def nulls(self) -> Bools:
        """Return which captions calibrate."""
        return self.about["split"] == "calibration"


def read(table: pa.Table) -> Captions:
    """Return the captions of a table that `tables.write` wrote, with their consensus.

    Its scales are those of the captions that calibrate; there is none without them.
    """
    about = {
        name: np.array(table[name].to_pylist(), object) if name in table.column_names else None
        for name in ABOUT
    }
    scores = {}
    for name in table.column_names:
        if name not in ABOUT:
            values = pc.fill_null(table[name], float("nan")).to_numpy(zero_copy_only=False)
            scores[name] = registry.sign(name) * values.astype(np.float64)
    captions = Captions({k: v for k, v in about.items() if v is not None}, scores)
    if set(CONSENSUS_OF) <= set(scores) and captions.nulls.any():
        scores[CONSENSUS] = _consensus(captions)
    return captions


def _consensus(captions: Captions) -> Floats:
    members = {name: captions.scores[name] for name in CONSENSUS_OF}
    try:
        scales = Consensus.of({n: v[captions.nulls].tolist() for n, v in members.items()})
    except ConfigError:  # a network of the quick form that has learned nothing
        return np.full(len(captions.nulls), np.nan)
    return np.array(scales.each({name: values.tolist() for name, values in members.items()}))


def opponents(captions: Captions) -> dict[str, Bools]:
    """Return the sets of clean captions, by name; those that calibrate are as fresh as the others.

    ``scenes`` are what the published sets of clean captions are like. ``same style`` are captions
    worded as planted ones are, and never trained. ``dose 0`` are items that another replicate
    plants. ``repeated`` captions were trained as often as planted ones, with a new picture every
    time.
    """
    kind, is_fresh = captions.about["kind"], captions.about["role"] == "fresh"
    sets = {
        "all fresh": is_fresh,
        "scenes": is_fresh & np.isin(kind, ("single", "pair", "three")),
        "traps": is_fresh & (kind == "trap"),
        "same style": is_fresh & np.isin(kind, ("title", "product")),
        "dose 0": captions.repeats & (captions.dose == 0),
        "repeated": np.isin(kind, ("name", "art", "character", "style")) & (captions.dose > 0),
    }
    return {name: members for name, members in sets.items() if members.sum() >= FEWEST}


def detected(captions: Captions, draws: int = DRAWS) -> list[Row]:
    """Return how well every score tells captions that are given back from clean ones."""
    rows: list[Row] = []
    for score, (values, positive, members, against) in _pools(captions):
        measured = detection_row(
            values[members], positive[members], _families(captions)[members], draws,
            np.random.default_rng(0),
        )  # fmt: skip
        rows.append({"score": score, "against": against, **measured})
    return rows


def compared(captions: Captions, reference: str = "delta_s", draws: int = DRAWS) -> list[Row]:
    """Return each score's AUC and TPR less the reference's, with 95% intervals over families."""
    rows: list[Row] = []
    base = captions.scores[reference]
    for score, (values, positive, members, against) in _pools(captions):
        if score == reference:
            continue
        both = members & np.isfinite(base)
        few = _families(captions)[both]
        weights = np.concatenate(
            [
                np.ones((1, len(few))),
                family_weights(few, positive[both], draws, np.random.default_rng(0)),
            ]
        )
        one, other = (ranking(v[both], positive[both], weights) for v in (values, base))
        measures = {"auc": one.auc - other.auc} | {
            f"tpr@{rate}": one.tpr[rate] - other.tpr[rate] for rate in RATES
        }
        row: Row = {"score": score, "reference": reference, "against": against}
        for name, drawn in measures.items():
            low, high = np.nanquantile(drawn[1:], (0.025, 0.975))
            row[name], row[f"{name}_interval"] = float(drawn[0]), [float(low), float(high)]
        rows.append(row)
    return rows


def by_dose(captions: Captions) -> list[Row]:
    """Return from which dose on every score flags, beside from which dose on items come back.

    Thresholds are those that let 1% or 0.1% of the fresh captions pass, and of those of the same
    style. ``seen_at`` is the dose at which half of the items are flagged, by a curve fitted as
    for extraction.
    """
    sets = opponents(captions)
    rows: list[Row] = []
    for arm in ("verbatim", "template"):
        own = captions.repeats & np.isin(captions.about["arm"], (arm, f"adapter-{arm}"))
        if not own.any():
            continue
        rows.append({"arm": arm, "score": "given back", **_response(captions, own, None)})
        for score, values in captions.scores.items():
            for against in ("all fresh", "same style"):
                clean, usable = sets.get(against), own & np.isfinite(values)
                if clean is None or not usable.any() or not np.isfinite(values[clean]).any():
                    continue
                for rate, share in RATES.items():
                    hit = values > threshold(values[clean & np.isfinite(values)], share)
                    told = _response(captions, usable, hit)
                    rows.append(
                        {"arm": arm, "score": score, "against": against, "rate": rate, **told}
                    )
    return rows


def threshold(clean: Floats, rate: float) -> float:
    """Return the score that at most a share ``rate`` of the clean captions exceed."""
    if not len(clean):
        return float("inf")
    ordered = np.sort(clean)[::-1]
    return float(ordered[min(int(rate * len(ordered) + 1e-9), len(ordered) - 1)])


def _response(captions: Captions, own: Bools, hit: Bools | None) -> Row:
    """Return the share that responds by dose, and the fitted doses; null takes samples."""
    dose, families = captions.dose[own], _families(captions)[own]
    if hit is None:
        tried = captions.about["seeds"][own].astype(np.float64)
        responded = captions.about["copies"][own].astype(np.float64)
    else:
        tried, responded = np.ones(own.sum()), hit[own].astype(np.float64)
    shares = {
        f"{value:g}": float(responded[dose == value].sum() / tried[dose == value].sum())
        for value in np.unique(dose)
    }
    row: Row = {"captions": int(own.sum()), "shares": shares}
    if len(np.unique(dose[dose > 0])) < 2:
        return row
    fitted = response.fit(
        dose.tolist(), responded.tolist(), tried.tolist(), families.tolist(), resamples=200
    )
    row["seen_at"] = asdict(fitted.effective[50]) | {"crossed": fitted.crossed[50]}
    return row


def _pools(captions: Captions) -> Iterator[tuple[str, tuple[Floats, Bools, Bools, str]]]:
    """Yield each score with its values, the positives, and who is compared, by set."""
    positive = captions.given_back
    for score, values in captions.scores.items():
        for against, clean in opponents(captions).items():
            members = (positive | clean) & np.isfinite(values)
            if (members & positive).sum() >= FEWEST and (members & ~positive).sum() >= FEWEST:
                yield score, (values, positive, members, against)


def _families(captions: Captions) -> NDArray[np.str_]:
    return captions.about["family"].astype(str)


def leading(rows: Sequence[Row], number: int = 6) -> list[str]:
    """Return the scores with the highest TPR at 1% against all fresh captions."""
    own = [row for row in rows if row["against"] == "all fresh"]
    own.sort(key=lambda row: (-float(row["tpr@1%"]), -float(row["auc"])))  # type: ignore[arg-type]
    return [str(row["score"]) for row in own[:number]]

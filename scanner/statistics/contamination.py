"""Null scores taken from the scanned corpus itself, where nobody has held-out captions.

n captions of a scan are taken, one per family of near-identical ones, and at most a share c of them
is assumed to be memorized: m = floor(c n) captions, nobody knows which. The others, the *bulk*, are
b >= n - m captions, exchangeable with each other and with the captions that will be judged.

**The default** leaves the m *lowest* scores out. The p-value over what is kept is then
``(1 + #{all scores >= s}) / (n - m + 1)`` for every s above those m, and 1 below. For a bulk
caption ``P(p <= a) <= a``, whatever the distribution of scores, whatever memorized captions score,
and however many of them there are, up to m:

* *A caption that is not among the n.* Scores at or above s are at least those of the bulk, and
  ``n - m <= b``. So p is at least ``(1 + #{bulk >= s}) / (b + 1)``, the conformal p-value among
  the bulk, which is valid.
* *A caption that is one of the n* is counted among the scores at or above its own. With k of the
  other bulk captions at or above it, p is at least ``(2 + k) / (b + 1) >= (1 + k) / b``, because
  ``k <= b - 1``. The latter is the conformal p-value that leaves the caption itself out.

(Of a family only one caption is taken. The p-value of another caption of the family may be smaller
than one that is valid, by the factor ``b / (b + 1)``.)

There is no much smaller one: where no caption is memorized, which the bound allows, the conformal
p-value is ``(1 + #{all scores >= s}) / (n + 1)``, and only the factor 1 / (1 - c) was given away.
So an upper bound on contamination alone makes nothing more powerful. (To take the m highest scores
away and to add m to the count is this p-value again below them, and a larger one above.) The price:
of the n captions themselves at most a share a is flagged at a rate a, memorized ones included, and
Benjamini and Hochberg's procedure over them flags none, because the k-th highest score has a
p-value above ``k / n``.

**Without copies**: captions whose generated picture was found to copy a training image may be left
out before, because that is evidence of another kind than a score. If these are memorized, all of
the above holds of the captions that stay, c being a bound on what is memorized among these. A copy
above all of them has the least p-value there is, and Benjamini and Hochberg's procedure at a rate q
flags fewer than a share q beside the copies: j of the n captions that stay are flagged only if
``(1 + j) / (n - m + 1) <= q (copies flagged + j) / (copies + n)``. (Both if each caption is a
family of its own: a family is counted once, and all of its captions are judged.)

**Trimmed**: the m *highest* scores are left out. If these are the memorized captions, and all of
them, p-values are those of a calibration on the bulk. Whatever they are, for a bulk caption
``P(p <= a) <= a + m / (n - m + 1)``, which is below ``a + c / (1 - c)``: at most m more of the bulk
lie above a score than are counted, and ``b >= n - m``. (For a caption that is one of the n, if
``m <= (1 - a) (n - m + 1)``, so with `MOST_CONTAMINATION` for every rate up to 2/3.)
A corpus without a single memorized caption comes near that bound.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scanner.errors import ConfigError
from scanner.statistics.intervals import LEVEL, allowed, beta_quantile

if TYPE_CHECKING:
    from scanner.statistics.calibration import Calibration

MOST_CONTAMINATION = 0.25
"""Of what is not for the most part bulk, nothing is to be learnt about the bulk."""


@dataclass(frozen=True, slots=True)
class CorpusNulls:
    """Where null scores come from if nobody gave null captions, and what is assumed of them.

    Attributes:
        contamination: Share of the captions taken that is memorized, at most.
        run: The run that they were taken from.
        taken: How many, one per family.
        left_out: How many scores were left out: as many as may be memorized.
        trimmed: Whether these are the highest, not the lowest.
        copies: Captions not taken, because their picture copies a training image.
    """

    contamination: float
    run: str
    taken: int
    left_out: int
    trimmed: bool = False
    copies: int = 0

    def __str__(self) -> str:
        """Return the label that files, reports and audits carry.

        Example:
            >>> str(CorpusNulls(0.01, "r", 1000, 10, trimmed=True))
            'corpus, contamination <= 1%, trimmed'
        """
        parts = [f"corpus, contamination <= {100 * self.contamination:.3g}%"]
        parts += ["trimmed"] * self.trimmed
        parts += [f"without {self.copies:,} copies"] * bool(self.copies)
        return ", ".join(parts)

    def deciding(self) -> dict[str, object]:
        """Return what a fingerprint takes of it: not where the scores were found."""
        return {"contamination": self.contamination, "trimmed": self.trimmed}


@dataclass(frozen=True, slots=True)
class Promise:
    """What holds for captions that are not memorized, at a nominal false-positive rate.

    Attributes:
        rate: The nominal rate.
        at_most: The rate on average over corpora, at most; null where nothing can be flagged.
    """

    rate: float
    at_most: float | None


def check_contamination(share: float) -> None:
    """Refuse a share that cannot bound what is memorized.

    Raises:
        ConfigError: If it is below 0 or above `MOST_CONTAMINATION`.
    """
    if not 0 <= share <= MOST_CONTAMINATION:
        raise ConfigError(
            f"contamination must be in 0..{MOST_CONTAMINATION:g}, the share of the captions that "
            f"may be memorized at most, got {share:g}"
        )


def most_memorized(contamination: float, number: int) -> int:
    """Return how many of so many captions may be memorized; float error decides nothing.

    Example:
        >>> most_memorized(0.01, 1000), most_memorized(0.29, 100), most_memorized(0.01, 99)
        (10, 29, 0)
    """
    return math.floor(contamination * number * (1 + 1e-12))


def from_corpus(
    fitted: "Calibration", contamination: float, *, run: str, trim: bool = False, copies: int = 0
) -> "Calibration":
    """Return a calibration whose nulls are a corpus, of which a share may be memorized.

    Args:
        fitted: A calibration on all captions taken, one per family.
        contamination: Share of them that is memorized, at most.
        run: The run that they were taken from.
        trim: Whether the highest scores are left out, not the lowest: see the module's text.
        copies: How many captions were not taken because their picture copies an image.

    Raises:
        ConfigError: If the share is out of its range.
    """
    check_contamination(contamination)
    taken = len(fitted.null_scores)
    number = most_memorized(contamination, taken)
    kept = slice(0, taken - number) if trim else slice(number, taken)

    def by_seed(scores: dict[int, tuple[float, ...]]) -> dict[int, tuple[float, ...]]:
        return {seed: own[kept] for seed, own in scores.items()}

    return replace(
        fitted,
        null_scores=fitted.null_scores[kept],
        seed_scores=by_seed(fitted.seed_scores),
        snap_back=None if fitted.snap_back is None
        else replace(fitted.snap_back, null_scores=fitted.snap_back.null_scores[kept]),
        others={
            name: replace(
                own, null_scores=own.null_scores[kept], seed_scores=by_seed(own.seed_scores)
            )
            for name, own in fitted.others.items()
        },
        corpus=CorpusNulls(contamination, run, taken, number, trimmed=trim, copies=copies),
        kinds={},
    )  # fmt: skip


def promise(nulls: CorpusNulls, rate: float) -> Promise:
    """Return what holds at a nominal rate, for captions of the bulk.

    Example:
        >>> promise(CorpusNulls(0.01, "r", 1000, 10), 0.05)
        Promise(rate=0.05, at_most=0.05)
        >>> round(promise(CorpusNulls(0.01, "r", 1000, 10, trimmed=True), 0.05).at_most, 5)
        0.06009
        >>> promise(CorpusNulls(0.01, "r", 1000, 10), 0.001).at_most is None
        True
    """
    kept = nulls.taken - nulls.left_out
    if rate < 1 / (kept + 1):
        return Promise(rate, None)
    return Promise(rate, rate + (nulls.left_out / (kept + 1) if nulls.trimmed else 0.0))


def realized(nulls: CorpusNulls, rate: float) -> float | None:
    """Return what the rate of this one calibration is at most, with 95%, whatever is memorized.

    At the threshold, of the bulk as many scores are above as are counted, and if the highest were
    left out, these too. The share above the k-th highest of b scores is Beta(k, b + 1 - k)
    distributed, and b is at least what is not left out.

    Returns:
        The upper end of the central interval; null where nothing can be flagged.

    Example:
        >>> round(realized(CorpusNulls(0.01, "r", 1000, 10), 0.01), 4)
        0.0159
        >>> round(realized(CorpusNulls(0.01, "r", 1000, 10, trimmed=True), 0.01), 4)
        0.0286
    """
    kept = nulls.taken - nulls.left_out
    if (counted := allowed(rate, kept)) < 1:
        return None
    above = min(kept, counted + (nulls.left_out if nulls.trimmed else 0))
    return beta_quantile(1 - (1 - LEVEL) / 2, above, kept + 1 - above)


def lines(nulls: CorpusNulls) -> list[str]:
    """Return what a user can rely on, in words, a line each."""
    rest = f"{nulls.left_out:,} of {nulls.taken:,} captions"
    found = [f"nulls: {nulls}; run {nulls.run}"]
    if not nulls.trimmed:
        any_fdr = (
            "--fdr needs the copies left out to flag any" if nulls.copies else "--fdr flags none"
        )
        return [
            *found,
            f"if at most {rest} are memorized, each of the others is flagged with a probability of "
            "at most the nominal rate, on average over corpora; so is a new caption like them",
            "the price: of these captions at most the nominal share is flagged, memorized ones "
            f"included; {any_fdr}",
        ]
    more = nulls.left_out / (nulls.taken - nulls.left_out + 1)
    return [
        *found,
        f"the {rest} with the highest scores are left out: if they are the memorized ones, rates "
        f"are nominal; if not, up to {more:.3g} higher, in a corpus without memorization too",
        "a false-discovery rate over these captions would give the assumption back: take --fpr",
    ]


def read(content: Any) -> CorpusNulls | None:
    """Return what a calibration file says of its corpus; null where it says nothing.

    Raises:
        ConfigError: If it contradicts itself.
    """
    if content is None:
        return None
    found = CorpusNulls(
        contamination=float(content["contamination"]), run=str(content["run"]),
        taken=int(content["taken"]), left_out=int(content["left_out"]),
        trimmed=bool(content["trimmed"]), copies=int(content.get("copies", 0)),
    )  # fmt: skip
    check_contamination(found.contamination)
    if not 0 <= found.left_out < found.taken:
        raise ConfigError(f"of {found.taken} captions {found.left_out} cannot be left out")
    return found

"""Error rates that a calibration supports: printed by ``calibrate``, checked before a scan."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanner.cli import progress
from scanner.errors import ConfigError
from scanner.statistics import contamination
from scanner.statistics.intervals import needed, positives_needed, realized
from scanner.text import counted

if TYPE_CHECKING:
    from scanner.statistics.calibration import Calibration, Screen

RATES = (0.05, 0.01, 0.001, 0.0001)


def lines(fitted: "Calibration") -> list[str]:
    """Return what a user can rely on, a line each."""
    found = contamination.lines(fitted.corpus) if fitted.corpus else _given(fitted)
    if fitted.screen is not None:
        found += _screen(fitted.screen)
    return [*found, *(_rate(fitted, rate) for rate in RATES)]


def _given(fitted: "Calibration") -> list[str]:
    """Return what holds where captions were given as nulls."""
    return [
        f"p-values are {fitted.min_p:.2g} or more, 1 / (n + 1) for {len(fitted.null_scores):,} "
        "null captions; they hold on average over calibrations, and only for captions of the same "
        "kinds in the same shares",
        *_families(fitted),
    ]


def _families(fitted: "Calibration") -> Iterator[str]:
    number, families = len(fitted.null_scores), fitted.families
    if families is None:
        return
    if number < fitted.captions:
        yield (
            f"{fitted.captions:,} null captions, {_families_of(families)} of near-identical ones: "
            "one of each is kept"
        )
    elif families == number:
        yield f"{number:,} null captions, {_families_of(number)}: no two are near-identical"
    else:
        yield (
            f"warning: {number:,} null captions, but {_families_of(families)} of near-identical "
            "ones; "
            f"if the captions to scan are of other families, count {families:,}: no rate below "
            f"{1 / (1 + families):.2g} is supported (--one-per-family keeps one of each)"
        )


def _screen(screen: "Screen") -> Iterator[str]:
    yield (
        f"screen: a norm of {screen.threshold:.4g} or more keeps {screen.expected:.3g} of "
        f"memorized captions on average, and at least {screen.bound:.3g} with 95% confidence, if "
        f"they are like the {screen.positives:,} positives; and {screen.passing:.1%} of the null "
        "captions"
    )
    if screen.bound < screen.recall:
        yield (
            f"a recall of {screen.recall:g} with 95% confidence needs "
            f"{positives_needed(screen.recall):,} positives, none of them dropped"
        )
    if screen.families is not None and screen.families < screen.positives:
        yield (
            f"warning: the positives are {_families_of(screen.families)} of near-identical "
            "captions; what is said of the screen holds for captions of these families"
        )


def _rate(fitted: "Calibration", rate: float) -> str:
    said, number = f"false-positive rate {rate:g}: ", _null_scores(fitted)
    own, level, snaps = own_rate(fitted, rate), fitted.threshold(rate), fitted.snap_back
    if own is None:
        return f"{said}needs at least {needed(rate):,} null captions; these are {number:,}"
    bits = "" if snaps is None else f" and snap-back > {snaps.threshold(rate):.3g} bits"
    between = f"between {own[0]:.2%} and {own[1]:.2%}" if own[0] else f"{own[1]:.2%} at most"
    of = "" if fitted.independent == number else ", for captions of the same families"
    of = "" if fitted.corpus is not None else of
    return f"{said}Δs > {level:.4g}{bits}; this calibration's own rate is {between} (95%{of})"


def own_rate(fitted: "Calibration", rate: float) -> tuple[float, float] | None:
    """Return between what this one calibration's own false-positive rate lies, with 95%.

    Returns:
        Both ends, the lower one 0 where it is not known; null if nothing can be flagged.
    """
    own = realized(rate, _null_scores(fitted))
    snaps = fitted.snap_back
    levels = [fitted.threshold(rate), *([] if snaps is None else [snaps.threshold(rate)])]
    if own is None or any(map(math.isinf, levels)):
        return None
    if fitted.corpus is not None:
        return 0.0, contamination.realized(fitted.corpus, rate) or own[1]
    return own if snaps is None else (0.0, own[1])


def _families_of(number: int) -> str:
    return f"{number:,} {'family' if number == 1 else 'families'}"


def _null_scores(fitted: "Calibration") -> int:
    """Return how many null scores there are, of Δs and of snap-backs, whichever are fewer."""
    of_both = [fitted.null_scores]
    if fitted.snap_back is not None:
        of_both.append(fitted.snap_back.null_scores)
    return min(map(len, of_both))


def check(
    paths: Sequence[Path], rate: float, option: str, *, is_asked: bool, decides: bool
) -> "list[Calibration]":
    """Read calibrations and say what they do not support, before a scan starts.

    Args:
        paths: Of calibrations.
        rate: False-positive or false-discovery rate.
        option: ``--fpr`` or ``--fdr``.
        is_asked: Whether the user asked for this rate, or needs flags.
        decides: Whether flags come from p-values.

    Returns:
        The calibrations.

    Raises:
        ConfigError: If a calibration cannot be read, or flags are asked for and can never be
            raised.
    """
    from scanner.statistics.calibration import load

    read = [load(path) for path in paths]
    for path, fitted in zip(paths, read, strict=True):
        if fitted.tail_fingerprint:
            progress.note(
                f"{path}: its tail model is ignored, it promised too much; p-values are "
                f"{fitted.min_p:.2g} or more, and runs have another name than before"
            )
        if fitted.corpus is not None:
            progress.note(f"{path}: nulls: {fitted.corpus}" + _without_effect(fitted, option))
        if decides:
            _check_rate(fitted, path, rate, option, is_asked=is_asked)
    return read


def _without_effect(fitted: "Calibration", option: str) -> str:
    """Return what to say of a false-discovery rate over the corpus that the nulls are of."""
    if option != "--fdr" or fitted.corpus is None or fitted.corpus.copies:
        return ""
    if fitted.corpus.trimmed:
        return "; a false-discovery rate over that corpus gives the assumption back: take --fpr"
    return "; a false-discovery rate flags nothing in that corpus: take --fpr"


def check_kinds(nulls: "Sequence[Calibration]", asked: Mapping[str, Any], rate: float) -> None:
    """Say of how many null captions no p-value reaches a rate, where p-values are by kind.

    Args:
        nulls: The calibrations.
        asked: The options.
        rate: False-positive or false-discovery rate.

    Raises:
        ConfigError: If a calibration has no kinds.
    """
    score = asked["flag_by"]
    for fitted in nulls if asked["p_values"] == "kind" else ():
        fitted.check_kinds(score)
        sizes = fitted.kinds[score].sizes
        small = [size for size in sizes if size < needed(rate)]
        said = (
            f"p-values are among null captions of a caption's kind: {counted(len(sizes), 'kind')}"
        )
        if small:
            said += (
                f"; {len(small):,} of them, with {sum(small):,} of {sum(sizes):,} null captions, "
                f"have fewer than the {needed(rate):,} that {rate:g} needs: nothing of these kinds "
                "is flagged"
            )
        progress.note(f"{said}; captions unlike every null caption are never flagged")


def _check_rate(
    fitted: "Calibration", path: Path, rate: float, option: str, *, is_asked: bool
) -> None:
    number = _null_scores(fitted)
    least = 1 / (1 + number)
    if rate < least:
        said = (
            f"{option} {rate:g} needs at least {needed(rate):,} null captions; these are "
            f"{number:,} ({path}): nothing can be flagged; calibrate with more, or give {option} "
            f"{_rounded_up(least):g} or more"
        )
        if is_asked:
            raise ConfigError(said)
        progress.note(said)
    elif rate < 1 / (1 + min(number, fitted.independent)):
        progress.note(
            f"{option} {rate:g} needs at least {needed(rate):,} families of null captions; {path} "
            f"has {fitted.independent:,}: for captions of other families the rate may be higher"
        )


def _rounded_up(rate: float) -> float:
    """Return the rate with two digits, not below it."""
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.ceil(rate / unit - 1e-9) * unit

"""A calibration from the scan of a corpus, most of which is not memorized.

What it promises is in `scanner.statistics.contamination`.
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import replace

from scanner.analysis.fit import fit, model_of, spec_of
from scanner.analysis.query import connect
from scanner.errors import ConfigError
from scanner.pictures import MATCHES
from scanner.results.folder import Results
from scanner.spec import CONSENSUS, CONSENSUS_OF, PIXEL_FPR, ScanSpec
from scanner.statistics.calibration import Calibration
from scanner.statistics.contamination import check_contamination, from_corpus

MOST = 100_000
"""Captions taken of a larger corpus: p-values down to 0.00001, and a file of 2 MB a score."""


def fit_corpus(
    results: Results, run: str, contamination: float, *, trim: bool = False,
    without_copies: bool = False, shards: Collection[str] | None = None,
    most: int = MOST, pixel_fpr: float = PIXEL_FPR, consensus: bool = False,
) -> Calibration:  # fmt: skip
    """Fit a calibration on a run of which at most a share of the captions is memorized.

    The network is not needed. Null scores are kept of Δs and of the other scores that every caption
    of the run has. One caption per family of near-identical ones is taken, the one with
    the smallest hash. Where all captions have maps, masks get a floor from them; memorized ones
    can only raise it. Where few have, these were chosen by their scores, so there is no floor, and
    a mask's share of its map's own level decides alone.

    Args:
        results: The results folder.
        run: The run over the corpus.
        contamination: Share of the captions taken that is memorized, at most.
        trim: Whether the highest scores are left out, not the lowest.
        without_copies: Whether captions whose picture copies a training image are left out.
        shards: Identities of the shards whose captions count; null for all that the run has.
        most: How many captions are taken at most: those with the smallest hashes.
        pixel_fpr: Share of the maps' pixels that may lie in a mask, 0 to 1.
        consensus: Whether null scores of the consensus are kept too.

    Raises:
        ConfigError: If the share is out of its range, the run is of two sources or was screened,
            it has no captions left, or not the scores that a consensus is of.
        ResultsError: If the results cannot be read.
    """
    check_contamination(contamination)
    record = results.run_file(run)
    model_of(record, run)
    spec = spec_of(record, run)
    if spec.source == "auto":
        raise ConfigError(
            f"null scores are of one source, and run {run} has two (--source auto): scan with "
            f"--source generated or image"
        )
    columns, copies, captions = _look(results, run, shards)
    without = copies if without_copies else frozenset[str]()
    if not captions - len(without):
        raise ConfigError(f"run {run} has no scored captions that could be null captions")
    fitted = fit(
        results, run, pixel_fpr=pixel_fpr, one_per_family=spec.captions, shards=shards,
        others=_scores(spec, columns, run, consensus=consensus), without=without, most=most,
        with_kinds=False,
    )  # fmt: skip
    found = from_corpus(fitted, contamination, run=run, trim=trim, copies=len(without))
    return found if spec.localize == "all" else replace(found, pixel_thresholds={})


def _scores(spec: ScanSpec, columns: set[str], run: str, *, consensus: bool) -> list[str]:
    """Return the scores beside delta_s that a run of a spec has of all captions.

    Raises:
        ConfigError: If a consensus is wanted and a score that it is of is missing.
    """
    flagging = [] if spec.flag_by in ("delta_s", CONSENSUS) else [spec.flag_by]
    early = [name for name in spec.detectors if name not in spec.late]
    found = [name for name in dict.fromkeys([*early, *flagging]) if name in columns]
    if not consensus and spec.flag_by != CONSENSUS:
        return found
    if missing := set(CONSENSUS_OF) - {"delta_s", *found}:
        raise ConfigError(
            f"a consensus needs {', '.join(sorted(missing))} of every caption, and run {run} has "
            f"none: scan with --detectors {','.join(CONSENSUS_OF[1:])}"
        )
    return [*found, CONSENSUS]


def _look(
    results: Results, run: str, shards: Collection[str] | None
) -> tuple[set[str], frozenset[str], int]:
    """Return the columns of scores, the captions whose picture is a copy, and how many captions."""
    with closing(connect(results, runs=[run], shards=shards)) as con:
        columns = {str(row[0]) for row in con.execute("DESCRIBE scores").fetchall()}
        named = ", ".join(f"'{match}'" for match in MATCHES)
        copies = con.execute(
            f"SELECT DISTINCT caption_sha256 FROM masks WHERE match IN ({named})"  # noqa: S608
        ).fetchall()
        captions = con.execute("SELECT count(DISTINCT caption_sha256) FROM scores").fetchall()
    return columns, frozenset(str(row[0]) for row in copies), int(captions[0][0])

"""Power: the share of known memorized captions that a calibration flags at a rate."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from scanner.analysis.fit import model_of, spec_of
from scanner.analysis.query import brief, connect, quoted
from scanner.analysis.truth import truths
from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.records import caption_hash
from scanner.results.folder import Results
from scanner.spec import CONSENSUS
from scanner.statistics.calibration import Calibration
from scanner.statistics.consensus import Consensus
from scanner.statistics.rate_planning import Share

SCORES = """
SELECT caption_sha256, avg({score}), {snap_back} FROM scores
GROUP BY caption_sha256, image_sha256 ORDER BY ALL
"""
CONSENSUS_SCORES = """
WITH draws AS (
    SELECT caption_sha256, image_sha256, seed, any_value(delta_s) AS delta_s,
           any_value(wen) AS wen, any_value(wen_5) AS wen_5 FROM scores GROUP BY ALL
)
SELECT caption_sha256, list({'delta_s': delta_s, 'wen': wen, 'wen_5': wen_5} ORDER BY seed)
FROM draws GROUP BY caption_sha256, image_sha256 ORDER BY ALL
"""
"""A consensus is a comparison with this calibration, so a column of the run's own does not do."""
OPTIONAL = {"dose": "DOUBLE", "copies": "BIGINT", "seeds": "BIGINT"}
"""Columns that a truth table may have beside `scanner.analysis.truth.TRUTH_COLUMNS`: how often
training shows the item, and how many of a caption's so many samples are copies of it."""
GIVEN_BACK = 0.5
"""Share of a caption's samples from which on it counts as given back."""


@dataclass(frozen=True, slots=True)
class Power:
    """The share of a group of memorized captions that is flagged, by false-positive rate.

    Attributes:
        group: ``all``, ``kind``, ``dose`` or ``given back``.
        name: Which kind, which dose, or whether half of its samples or more are copies.
        flagged: By rate; one caption per family counts.
    """

    group: str
    name: str
    flagged: dict[float, Share]


@dataclass(frozen=True, slots=True)
class _Positive:
    """A memorized caption: of its family the one with the smallest hash.

    Attributes:
        kind: What it was planted as.
        dose: Expected draws in the training; null where nobody says.
        given_back: Whether half of its samples or more are copies; null where nobody says.
        p_value: Null where it was not scored, such as behind a screen.
    """

    kind: str
    dose: float | None
    given_back: bool | None
    p_value: float | None


def power(
    results: Results, run: str, truth: str | Path, calibration: Calibration,
    rates: Sequence[float], *, extraction: str | Path | None = None,
    shards: Collection[str] | None = None,
) -> list[Power]:  # fmt: skip
    """Return which share of a run's memorized captions a calibration flags, with intervals.

    P-values are those of this calibration, whichever the run was scanned with. A caption that was
    not scored, such as behind a screen, is not flagged. Captions of one family count once. The
    intervals hold for memorized captions like these, drawn as these were; what the calibration
    itself leaves open is not in them.

    Args:
        results: The results folder.
        run: The run.
        truth: Parquet as `scanner.analysis.truth.truths` reads it; `OPTIONAL` columns are used.
        calibration: Of the run's model and settings.
        rates: False-positive rates.
        extraction: What was sampled, as ``memscan benchmark measure`` writes it: Parquet
            with ``caption``, ``copies`` and ``seeds``; null takes them from the truth table.
        shards: Identities of the shards whose rows count; null for all that the run has.

    Raises:
        ConfigError: If the truth or what was sampled cannot be read, the truth has no memorized
            caption of the run, or the calibration is of another model or other settings.
        ResultsError: If the results cannot be read.
    """
    record = results.run_file(run)
    spec = spec_of(record, run)
    calibration.check(model_of(record, run), spec)
    own = calibration.of_score(spec.flag_by)
    also = [truth] if extraction is None else [truth, extraction]
    with closing(connect(results, runs=[run], also=also, shards=shards)) as con:
        known = {sha: each for sha, each in truths(con, truth).items() if each.memorized}
        more = _optional(con, truth)
        if extraction is not None:
            sampled = _sampled(con, extraction)
            more = {sha: (own[0], *sampled.get(sha, (None, None))) for sha, own in more.items()}
        p_values = _p_values(con, own, spec.flag_by, at_images=spec.source == "image")
    positives = dict[str, _Positive]()
    for sha in sorted(known.keys() & p_values.keys()):
        dose, copies, seeds = more.get(sha, (None, None, None))
        given_back = None if copies is None or not seeds else copies / seeds >= GIVEN_BACK
        own_kind = known[sha].kind
        positives.setdefault(
            known[sha].family, _Positive(own_kind, dose, given_back, p_values[sha])
        )
    if not positives:
        raise ConfigError(
            f"of the {len(known)} memorized captions of {truth} none is in run {run}: power is of "
            f"memorized captions that were scanned"
        )
    return list(_grouped(list(positives.values()), rates))


def _grouped(positives: Sequence[_Positive], rates: Sequence[float]) -> list[Power]:
    """Return the rows of the table: all, then by kind, dose and whether they are given back."""
    groups: Mapping[str, Callable[[_Positive], Any]] = {
        "all": lambda _: "", "kind": lambda p: p.kind, "dose": lambda p: p.dose,
        "given back": lambda p: p.given_back,
    }  # fmt: skip
    rows = list[Power]()
    for group, value in groups.items():
        values: set[Any] = {value(positive) for positive in positives}
        for one in sorted(values - {None}):
            members = [positive for positive in positives if value(positive) == one]
            rows.append(
                Power(group, _named(one), {rate: _flagged(members, rate) for rate in rates})
            )
    return rows


def _named(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,g}" if isinstance(value, float) else str(value)


def _flagged(members: Sequence[_Positive], rate: float) -> Share:
    return Share.of(sum(p.p_value is not None and p.p_value <= rate for p in members), len(members))


def _p_values(
    con: duckdb.DuckDBPyConnection, calibration: Calibration, score: str, *, at_images: bool
) -> dict[str, float | None]:
    """Return every caption's p-value, of its worst image where images are scored."""
    if calibration.consensus is not None and score == CONSENSUS:
        return _by_consensus(con, calibration, calibration.consensus)
    column = f"{registry.sign(score)} * " + '"' + score.replace('"', '""') + '"'
    snap_back = "avg(CAST(snap_back AS DOUBLE))" if at_images else "NULL"
    found = dict[str, float | None]()
    for sha, mean, bits in con.execute(SCORES.format(score=column, snap_back=snap_back)).fetchall():
        own = None if mean is None else calibration.p_value(mean, bits)
        before = found.get(sha)
        found[sha] = before if own is None else own if before is None else min(before, own)
    return found


def _by_consensus(
    con: duckdb.DuckDBPyConnection, calibration: Calibration, scales: Consensus
) -> dict[str, float | None]:
    """Return every caption's p-value by what several scores agree on."""
    found = dict[str, float | None]()
    for sha, draws in con.execute(CONSENSUS_SCORES).fetchall():
        whole = [draw for draw in draws if None not in draw.values()]
        mean = sum(map(scales.least, whole)) / len(whole) if whole else None
        found[sha] = None if mean is None else calibration.p_value(mean)
    return found


def _optional(
    con: duckdb.DuckDBPyConnection, truth: str | Path
) -> dict[str, tuple[float | None, int | None, int | None]]:
    """Return dose, copies and samples by caption, as far as the table has such columns."""
    table = f"read_parquet({quoted(str(truth))})"
    there = {str(row[0]) for row in con.execute(f"DESCRIBE FROM {table}").fetchall()}
    columns = [
        f"try_cast({name} AS {kind})" if name in there else "NULL"
        for name, kind in OPTIONAL.items()
    ]
    rows = con.execute(
        f"SELECT caption_sha256, {', '.join(columns)} FROM {table}"  # noqa: S608
    ).fetchall()
    return {str(sha): tuple(more) for sha, *more in rows}


def _sampled(
    con: duckdb.DuckDBPyConnection, extraction: str | Path
) -> dict[str, tuple[int | None, int | None]]:
    """Return copies and samples by the hash of the caption.

    Raises:
        ConfigError: If the table has no such columns.
    """
    try:
        rows = con.execute(
            "SELECT caption::VARCHAR, sum(copies)::BIGINT, sum(seeds)::BIGINT "  # noqa: S608
            f"FROM read_parquet({quoted(str(extraction))}) GROUP BY 1"
        ).fetchall()
    except duckdb.Error as error:
        raise ConfigError(
            f"{extraction} must be Parquet with caption, copies and seeds: {brief(error)}"
        ) from error
    return {caption_hash(caption): (copies, seeds) for caption, copies, seeds in rows}

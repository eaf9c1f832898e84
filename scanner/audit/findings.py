"""Findings: the flagged captions of a run, one row each, with the strongest evidence there is."""

from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

MATCHES = ("verbatim", "template")
"""Copies that a comparison with the training image has shown, the worst first."""

FOUND = """
WITH evidence AS (
    SELECT caption_sha256, shard, key, seed, match, match_mse, mse_inside, mse_outside, area,
           row_number() OVER (
               PARTITION BY caption_sha256
               ORDER BY CASE match WHEN 'verbatim' THEN 0 WHEN 'template' THEN 1 ELSE 2 END,
                        match IS NULL, match_mse NULLS LAST, metric <> 'delta_h',
                        baseline <> 'null', shard, key, seed
           ) AS place
    FROM masks
)
SELECT c.caption_sha256, c.caption, c.delta_s, c.p_value, c.occurrences,
       coalesce(e.shard, c.shard) AS shard, coalesce(e.key, c.key) AS key,
       e.seed, e.match, e.match_mse, e.area, e.mse_inside, e.mse_outside
FROM captions AS c
LEFT JOIN evidence AS e ON e.caption_sha256 = c.caption_sha256 AND e.place = 1
WHERE CASE WHEN $1 IS NULL THEN c.flagged ELSE c.p_value <= $1 END
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A flagged caption.

    Attributes:
        caption_sha256: Its hash, which names the finding.
        caption: The text, as it stands in the corpus: escape it before showing it.
        delta_s: Mean score over its seeds.
        p_value: Null without calibration.
        copies: Samples that carry the caption.
        shard: Where the copy with the strongest evidence is.
        key: The same.
        seed: Seed of that evidence; null where nothing was localized.
        match: ``verbatim``, ``template`` or ``none``; null without a training image.
        match_mse: Error behind the match against the training image, pixels 0..1, squared.
        area: Share of the picture inside the mask, 0 to 1.
        mse_inside: Error inside the mask: low for a verbatim copy and for a template.
        mse_outside: Error outside it: high for a template.
    """

    caption_sha256: str
    caption: str
    delta_s: float | None
    p_value: float | None
    copies: int
    shard: str
    key: str
    seed: int | None = None
    match: str | None = None
    match_mse: float | None = None
    area: float | None = None
    mse_inside: float | None = None
    mse_outside: float | None = None

    @property
    def match_rank(self) -> int:
        """0 for a verbatim copy, 1 for a template's, 2 where a score alone speaks."""
        return MATCHES.index(self.match) if self.match in MATCHES else len(MATCHES)

    @property
    def order(self) -> tuple[int, float, float, str]:
        """What sorts the worst first: the match, then the p-value, then the score."""
        p_value = 2.0 if self.p_value is None else self.p_value
        return self.match_rank, p_value, -(self.delta_s or 0.0), self.caption_sha256


def findings(con: duckdb.DuckDBPyConnection, cutoff: float | None = None) -> list[Finding]:
    """Return the findings of one run, worst first.

    Args:
        con: Views of one run.
        cutoff: Take the captions whose p-value is at most this, instead of the flagged ones.
    """
    rows = con.execute(FOUND, [cutoff]).fetchall()
    return sorted((Finding(*row) for row in rows), key=lambda finding: finding.order)


def fdr_cutoff(con: duckdb.DuckDBPyConnection, q: float) -> float:
    """Return the p-value up to which captions are flagged at a false-discovery rate.

    Args:
        con: Views of one run.
        q: The rate, 0 to 1.

    Returns:
        `benjamini_hochberg` over the run's distinct captions; -1 if it flags none.
    """
    rows = con.execute("SELECT p_value FROM captions WHERE p_value IS NOT NULL").fetchnumpy()
    return benjamini_hochberg(np.asarray(rows["p_value"], np.float64), q)


def benjamini_hochberg(p_values: NDArray[np.float64], q: float) -> float:
    """Return the largest p-value that Benjamini and Hochberg reject at rate ``q``.

    It is the largest sorted ``p[k]`` (k from 1) with ``p[k] <= k q / n``. Among the captions up
    to it, the expected share of false ones is at most ``q`` if the p-values are independent or
    positively dependent, as conformal p-values against one calibration set are.

    Returns:
        The cutoff; -1 if nothing is rejected.

    Raises:
        ValueError: If ``q`` is not between 0 and 1.

    Example:
        >>> benjamini_hochberg(np.array([0.001, 0.02, 0.03, 0.9]), 0.05)
        0.03
    """
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, got {q}")
    ordered = np.sort(p_values)
    passed = np.flatnonzero(ordered <= q * np.arange(1, len(ordered) + 1) / max(1, len(ordered)))
    return float(ordered[passed[-1]]) if len(passed) else -1.0

"""Findings: what a run flags, one row each, with the strongest evidence there is.

A finding is a caption, or a caption with one image where samples are scored at their images.
"""

from contextlib import closing
from dataclasses import dataclass, fields

import duckdb

from scanner.analysis import levels
from scanner.analysis.query import connect
from scanner.pictures import MATCHES
from scanner.records import identity_of
from scanner.results.folder import Results
from scanner.results.run_file import FdrCutoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A flagged caption, or a caption with an image that is flagged.

    Attributes:
        caption_sha256: The caption's hash.
        caption: The text, as it stands in the corpus: escape it before showing it.
        delta_s: Mean score over its seeds.
        p_value: Null without calibration.
        copies: Samples that carry the caption; where images are scored, with this image.
        shard: Shard of the sample with the strongest evidence.
        key: That sample's key.
        seed: Seed of that evidence; null where nothing was localized.
        match: ``verbatim``, ``template`` or ``none``; null without a training image.
        match_mse: Error behind the match against the training image, pixels 0..1, squared.
        area: Share of the picture inside the mask, 0 to 1.
        mse_inside: Error inside the mask: low for a verbatim copy and for a template.
        mse_outside: Error outside it: high for a template.
        p_kind: Where the p-value comes from: ``conformal``, or in old rows ``tail`` (a model).
        tiled_l2: Error of the worst sixteenth against the training image, pixels 0..1.
        tightness: Mean ``tiled_l2`` over pairs of the caption's seeds.
        nearest_match: How the nearest image of the run's shards matches, under the seed where it
            matches best; null where `retrieve` did not look.
        nearest_own: Whether that image is of this very caption.
        nearest_shard: Shard of the nearest image.
        nearest_key: Key of the nearest image.
        nearest_mse: Error of that match.
        nearest_tiled_l2: Error of its worst sixteenth.
        image_sha256: Hash of the image that was scored; null where the caption was sampled.
        snap_back: By how many bits the caption brings that image nearer, mean over seeds.
        pinned: How much of that image the model stores: ``whole``, ``region`` or ``none``.
        level: Level of evidence, one of `scanner.analysis.levels.LEVELS`; null of a finding of
            an earlier version.
        extent: How much of the picture its mask says is copied: ``whole``, ``region`` or
            ``none``; null without one.
        drawn: Pictures drawn again under fresh seeds; null where ``confirm`` did not draw.
        compared: Of these, compared with the sample's training image.
        given_back: Of these, copies of it, as a whole or in a region.
        plain: Of these, as plain as the image, which two pictures may be by chance.
        rate_low: Lower end of the 95% interval of how often it is given back.
        rate_high: Upper end, the plain ones counted as copies.
        agreeing: The largest number of draws that all are alike.
        mask_doubt: Share of the mask's pixels within two standard errors of its threshold; null
            of a map whose error is not known.
        outside_doubt: The same of the pixels outside.
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
    p_kind: str | None = None
    tiled_l2: float | None = None
    tightness: float | None = None
    nearest_match: str | None = None
    nearest_own: bool | None = None
    nearest_shard: str | None = None
    nearest_key: str | None = None
    nearest_mse: float | None = None
    nearest_tiled_l2: float | None = None
    image_sha256: str | None = None
    snap_back: float | None = None
    pinned: str | None = None
    level: str | None = None
    extent: str | None = None
    drawn: int | None = None
    compared: int | None = None
    given_back: int | None = None
    plain: int | None = None
    rate_low: float | None = None
    rate_high: float | None = None
    agreeing: int | None = None
    mask_doubt: float | None = None
    outside_doubt: float | None = None

    @property
    def identity(self) -> str:
        """Name of the finding from night to night, by `scanner.records.identity_of`."""
        return identity_of(self.caption_sha256, self.image_sha256)

    @property
    def has_caption(self) -> bool:
        """Whether it is of a caption: of an image without one, the hashes are the same."""
        return self.caption_sha256 != self.image_sha256

    @property
    def nearest(self) -> str:
        """Relation of the corpus' nearest image to the picture, and its place; empty if unknown."""
        if self.nearest_match is None or self.nearest_key is None:
            return ""
        return f"{message_of(self.nearest_match, own=bool(self.nearest_own))}: {self.nearest_key}"

    @property
    def match_rank(self) -> int:
        """0 for a verbatim copy, 1 for a template's, 2 where a score alone speaks."""
        return MATCHES.index(self.match) if self.match in MATCHES else len(MATCHES)

    @property
    def order(self) -> tuple[int, int, float, float, str]:
        """Sort key, worst first: by level of evidence, then match, then p-value, then score."""
        p_value = 2.0 if self.p_value is None else self.p_value
        level = levels.rank(self.level)
        return level, self.match_rank, p_value, -(self.delta_s or 0.0), self.identity

    @property
    def known(self) -> str:
        """What is known of it, in one line without caption, key or address."""
        return levels.sentence(self)


def message_of(match: str, *, own: bool) -> str:
    """Return in words what a generated picture is to an image.

    Args:
        match: ``verbatim``, ``template``, ``plain`` or ``none``.
        own: Whether the image is of the very caption that gave the picture.
    """
    how = {"verbatim": "a copy of", "template": "a template copy of", "plain": "as plain as"}
    return f"{how.get(match, 'near')} {'its own image' if own else 'an image of another caption'}"


def findings(con: duckdb.DuckDBPyConnection) -> list[Finding]:
    """Return the rows of the view ``findings``, of one run, worst first."""
    columns = {f.name: "occurrences" if f.name == "copies" else f.name for f in fields(Finding)}
    asked = ", ".join(f"{column} AS {name}" for name, column in columns.items())
    rows = con.execute(f"SELECT {asked} FROM findings").fetchall()  # noqa: S608
    found = (Finding(**dict(zip(columns, row, strict=True))) for row in rows)
    return sorted(found, key=lambda finding: finding.order)


def totals(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return how many captions, samples and rejects the views hold, and captions screened off."""
    row = con.execute(
        "SELECT (SELECT count(*) FROM captions), "
        "(SELECT coalesce(sum(occurrences), 0) FROM captions), "
        "(SELECT count(*) FROM rejects), (SELECT count(DISTINCT shard) FROM scores), "
        "(SELECT count(DISTINCT caption_sha256) FROM scores WHERE stage = 'screen')"
    ).fetchall()[0]
    names = ("captions", "samples", "rejected", "shards", "screened")
    return dict(zip(names, map(int, row), strict=True))


def cutoff_of(con: duckdb.DuckDBPyConnection) -> tuple[float, float] | None:
    """Return the false-discovery rate of a view of one run and the p-value up to which it flags.

    The p-value is -1 where it flags none; null where the run flags by another rule.
    """
    rows = con.execute("SELECT fdr, cutoff FROM runs WHERE fdr IS NOT NULL").fetchall()
    return rows[0] if rows else None


def apply_cutoff(results: Results, run: str) -> FdrCutoff | None:
    """Decide a run's false-discovery rate over all that is committed, and keep it in its record.

    Views decide it for themselves where the record's is of fewer chunks; the record is for
    readers without them.

    Returns:
        The verdict; null where the run flags by another rule.

    Raises:
        ResultsError: If the results cannot be read or written.
    """
    with closing(connect(results, runs=[run])) as con:
        rate = cutoff_of(con)
        if rate is None:
            return None
        captions, flagged = con.execute(
            "SELECT count(p), count(*) FILTER (f) FROM (SELECT min(p_value) AS p, "
            "bool_or(flagged) AS f FROM scores GROUP BY caption_sha256, image_sha256)"
        ).fetchall()[0]
    verdict = FdrCutoff(
        rate=rate[0], cutoff=rate[1], captions=captions, flagged=flagged,
        chunks=len(results.committed(run)),
    )  # fmt: skip
    results.write_run(run, {**results.read_run(run), "verdict": verdict.as_json()})
    return verdict

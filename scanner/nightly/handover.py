"""What data tools take to leave findings out of a corpus: lists of samples and of addresses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from scanner import files
from scanner.analysis.findings import Finding, findings
from scanner.matching.copies import Copy, Group
from scanner.nightly.policy import LEVELS, Policy
from scanner.nightly.removal import write_removal

URLS = "urls.txt"
COPIES = """
SELECT caption_sha256, shard, key, arg_min(match, mse), min(mse) FROM retrieved
WHERE match IN ('verbatim', 'template') GROUP BY 1, 2, 3 ORDER BY 5, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Handover:
    """What was written.

    Attributes:
        findings: How many findings it is about.
        samples: Samples to leave out, each once for each of its findings.
        shards: Shards that hold them.
        urls: Distinct addresses of their images.
        unplaced: Samples of tables whose row is not known.
    """

    findings: int
    samples: int
    shards: int
    urls: int
    unplaced: int


def write_handover(
    con: duckdb.DuckDBPyConnection, folder: Path, *, least: str, redact: bool
) -> Handover:
    """Write ``removal.csv``, ``removal.parquet``, ``removal-spreadsheet.csv`` and ``urls.txt``.

    Samples are those that carry a finding's caption, and those whose image `memscan retrieve`
    found to be copied by it.

    Args:
        con: Views of one run.
        folder: Where to; made if missing.
        least: The least severity of a finding, of `LEVELS`.
        redact: Whether captions are withheld.
    """
    policy = Policy()
    found = [f for f in findings(con) if _reaches(policy, f, least)]
    rows = [
        {"finding": f.identity, "sha": f.caption_sha256, "image": f.image_sha256,
         "severity": policy.severity(f), "state": None, "match": f.match, "p_value": f.p_value,
         "delta_s": f.delta_s, "copies": f.copies, "muted": None}
        for f in found
    ]  # fmt: skip
    files.make_folder(folder)
    count = write_removal(con, rows, folder, redact=redact, groups=_copies(con, found))
    urls = _urls(folder)
    files.write(folder / URLS, "".join(f"{url}\n" for url in urls))
    shards, unplaced = _counts(folder)
    return Handover(len(found), count, shards, len(urls), unplaced)


def _reaches(policy: Policy, finding: Finding, least: str) -> bool:
    return LEVELS.index(policy.severity(finding)) <= LEVELS.index(least)


def _copies(con: duckdb.DuckDBPyConnection, found: Sequence[Finding]) -> dict[str, Group]:
    """Return the images that findings copy, by the identity of a finding, nearest first."""
    own = {f.caption_sha256: f.identity for f in found if f.image_sha256 is None}
    groups = dict[str, Group]()
    for sha, shard, key, match, mse in con.execute(COPIES).fetchall():
        if sha in own:
            group = groups.setdefault(own[sha], Group())
            group.copies.append(Copy(shard, key, None, None, match, mse))
    return groups


def _urls(folder: Path) -> list[str]:
    """Return the addresses in a removal list; none that would break a list of lines."""
    with duckdb.connect() as con:
        found = con.execute(
            "SELECT DISTINCT url FROM read_parquet(?) WHERE url IS NOT NULL ORDER BY 1",
            [str(folder / "removal.parquet")],
        ).fetchall()
    return [url for (url,) in found if url.splitlines() == [url]]


def _counts(folder: Path) -> tuple[int, int]:
    """Return how many shards a removal list names, and how many rows of tables have no number."""
    from scanner.shards.columns import kind_of
    from scanner.shards.kinds import Kind

    with duckdb.connect() as con:
        found = con.execute(
            'SELECT shard, count(*) FILTER ("row" IS NULL) FROM read_parquet(?) GROUP BY 1',
            [str(folder / "removal.parquet")],
        ).fetchall()
    tables = [n for shard, n in found if kind_of(shard) not in (Kind.TAR, Kind.FOLDER)]
    return len(found), sum(tables)

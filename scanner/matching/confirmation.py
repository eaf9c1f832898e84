"""Findings drawn again under fresh seeds: which, as what shard, and what came of it.

The draws are a scan of their own, of a shard that holds the findings' captions and images, into
the folder `DRAWS` of the results. So they are resumed, retried and spread as a scan is, and are
compared as a scan compares; here is what goes in and what is made of what comes out.
"""

import hashlib
import io
import tarfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from PIL import Image

from scanner import pictures
from scanner.analysis.findings import Finding, findings
from scanner.analysis.query import connect
from scanner.masks import from_runs
from scanner.matching.agreement import Drawn, largest_group
from scanner.matching.copies import LARGEST_SIDE
from scanner.matching.reproduced import Reproduced, reproduced
from scanner.results.folder import Results
from scanner.statistics.intervals import clopper_pearson

DRAWS = "draws"
"""Folder of the results that holds the results of the draws."""
FIRST_SEED = 1_000_000
"""Of the draws; scans count their seeds from 0, so none of them has one of these."""

ImagesOf = Callable[[str, Collection[str]], Iterator[tuple[str, bytes]]]
"""From a shard and keys to the encoded training images that there are, by key."""

_PICTURES = """
SELECT key, image, mask, height, width FROM masks WHERE image IS NOT NULL ORDER BY key, seed
"""
_DONE = "SELECT key FROM scores UNION SELECT key FROM rejects"
_SUFFIXES = {b"\x89PNG": "png", b"RIFF": "webp"}


@dataclass(frozen=True, slots=True)
class Task:
    """Findings of a run to draw again.

    Attributes:
        results: Of the run.
        run: The run.
        shards: Identities of the shards whose rows count; null for all.
        draws: The run of the draws.
        seeds: Pictures to draw of each.
        most: Findings that are drawn at most: those of the smallest p-values, then the highest
            Δs, whatever came of earlier draws, so that they are the same again.
    """

    results: Results
    run: str
    draws: str
    seeds: int
    most: int
    shards: Collection[str] | None = None

    @property
    def drawn(self) -> Results:
        """The results of the draws."""
        return Results(self.results.store.address(DRAWS))

    def findings(self) -> list[Finding]:
        """Return all findings of the run, worst first.

        Raises:
            ResultsError: If the results cannot be read.
        """
        with closing(connect(self.results, runs=[self.run], shards=self.shards)) as con:
            return findings(con)

    def chosen(self) -> list[Finding]:
        """Return the findings to draw; an image without a caption has nothing to draw it by.

        Raises:
            ResultsError: If the results cannot be read.
        """
        found = [finding for finding in self.findings() if finding.has_caption]
        return sorted(found, key=_by_score)[: self.most]

    def pending(self, chosen: Sequence[Finding]) -> list[Finding]:
        """Return the findings that no commit of draws is of, scored or rejected.

        Raises:
            ResultsError: If the results of the draws cannot be read.
        """
        if not self._is_begun():
            return list(chosen)
        with closing(connect(self.drawn, runs=[self.draws])) as con:
            done = {key for (key,) in con.execute(_DONE).fetchall()}
        return [finding for finding in chosen if finding.identity not in done]

    def write_shard(self, pending: Sequence[Finding], images: ImagesOf) -> str:
        """Write captions and images of findings as a tar beside the draws; return its address.

        A sample's key is its finding's identity. The name says what is in it.

        Raises:
            ResultsError: If it cannot be written.
        """
        digest = hashlib.sha256("\n".join(f.identity for f in pending).encode()).hexdigest()
        name = f"{DRAWS}/shards/{self.draws}-{digest[:12]}.tar"
        self.results.store.put(name, shard_of(pending, images))
        return self.results.store.address(name)

    def remove_shards(self) -> None:
        """Remove the tars of draws that are done: nothing reads them, and they hold images."""
        store = self.results.store
        for entry in store.entries(f"{DRAWS}/shards"):
            if entry.name.rpartition("/")[2].startswith(f"{self.draws}-"):
                store.remove(entry.name)

    def record(self) -> int:
        """Write what came of all draws as the table ``confirmed``; return of how many findings.

        Raises:
            ResultsError: If results cannot be read or written.
        """
        rows = list[dict[str, Any]]()
        if self._is_begun():
            with closing(connect(self.drawn, runs=[self.draws])) as con:
                rows = list(rows_of(con, self.findings(), self.draws))
        self.results.write_confirmed(self.run, rows)
        return len(rows)

    def _is_begun(self) -> bool:
        return self.drawn.exists() and self.draws in self.drawn.runs()


def _by_score(found: Finding) -> tuple[float, float, str]:
    p_value = 2.0 if found.p_value is None else found.p_value
    return p_value, -(found.delta_s or 0.0), found.identity


def shard_of(found: Sequence[Finding], images: ImagesOf) -> bytes:
    """Return captions and training images of findings as a WebDataset tar.

    Args:
        found: The findings; each stands for its sample with the strongest evidence.
        images: Where training images come from.
    """
    by_shard = defaultdict[str, dict[str, list[Finding]]](lambda: defaultdict(list))
    for finding in found:
        by_shard[finding.shard][finding.key].append(finding)
    content = {
        finding.identity: image
        for shard, wanted in by_shard.items()
        for key, image in images(shard, wanted.keys())
        for finding in wanted[key]
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for finding in found:
            _add(tar, f"{finding.identity}.txt", finding.caption.encode())
            if (image := content.get(finding.identity)) is not None:
                kind = _SUFFIXES.get(image[:4], "jpg")
                _add(tar, f"{finding.identity}.{kind}", image)
    return stream.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def rows_of(
    con: duckdb.DuckDBPyConnection, found: Sequence[Finding], draws: str
) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``confirmed``, without ``run``, of the findings that were drawn.

    Args:
        con: Views of the run of the draws.
        found: Findings; samples of the draws are named by their identities.
        draws: That run.
    """
    counts = {one.key: one for one in reproduced(con)}
    alike = dict(_alike(con))
    seeds = con.execute("SELECT key, min(seed), count(DISTINCT seed) FROM scores GROUP BY key")
    drawn: Mapping[str, tuple[int, int]] = {
        key: (first, number) for key, first, number in seeds.fetchall()
    }
    for finding in found:
        name = finding.identity
        if name in counts and name in drawn:
            yield {
                "caption_sha256": finding.caption_sha256, "image_sha256": finding.image_sha256,
                "shard": finding.shard, "key": finding.key, "draws": draws,
                "first_seed": drawn[name][0], **told(counts[name], drawn[name][1], alike.get(name)),
            }  # fmt: skip


def told(one: Reproduced, drawn: int, agreeing: int | None) -> dict[str, Any]:
    """Return the numbers of a row of ``confirmed``.

    Args:
        one: How often its image is given back.
        drawn: Pictures drawn.
        agreeing: How many of them are alike; null where there is none to look at.
    """
    group = max(1, agreeing or 0)
    low = high = None
    if one.drawn:
        low = clopper_pearson(one.copies, one.drawn)[0]
        high = clopper_pearson(one.copies + one.plain, one.drawn)[1]
    return {
        "drawn": drawn, "compared": one.drawn, "given_back": one.copies,
        "verbatim": one.verbatim, "template": one.template, "plain": one.plain,
        "rate_low": low,
        "rate_high": clopper_pearson(group, drawn)[1] if high is None else high,
        "agreeing": group,
        "agreeing_low": clopper_pearson(group - 1, drawn - 1)[0] if drawn > 1 else 0.0,
    }  # fmt: skip


def _alike(con: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, int]]:
    """Yield by key how many of its pictures are alike, those of one key in memory at a time."""
    cursor, name, own = con.execute(_PICTURES), "", list[Drawn]()
    while row := cursor.fetchone():
        if row[0] != name and own:
            yield name, largest_group(own)
            own = []
        name = row[0]
        own.append(_drawn(*row[1:]))
    if own:
        yield name, largest_group(own)


def _drawn(image: bytes, runs: list[int] | None, height: int, width: int) -> Drawn:
    picture = pictures.opened(image)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(picture), None if runs is None else from_runs(runs, height, width)

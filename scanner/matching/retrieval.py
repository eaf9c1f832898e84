"""Search for the images of a run's shards that are nearest to its generated pictures.

A caption may give back the training image of *another* caption: a retrieved copy (Webster 2023).
Only a search of all images shows it. The sketches of all images are compared with every
generated picture, as a whole and inside its mask, a matrix product a shard; the nearest few by
either are decoded and compared as a scan compares a caption's own image.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanner import masks, pictures
from scanner.analysis.findings import message_of
from scanner.matching.copies import LARGEST_SIDE, Cutoffs, Query
from scanner.matching.image_index import ImageIndex, IndexedImages
from scanner.pictures import MATCHES
from scanner.shards.reading import Shard

Images = Callable[[str, Collection[str]], Iterator[tuple[str, bytes]]]
"""From a shard and keys to the encoded training images that there are, by key."""

Progress = Callable[[int, int, str], None]

NEAREST = 3
"""Images that are kept of one picture."""
CANDIDATES = 8
"""Images that are decoded for one picture and rule. A sketch never differs more than its picture
does, so what is left out is farther than its sketch was."""
AT_ONCE = 256
ORDER = (*MATCHES, "plain", "none")

GENERATED = """
SELECT caption_sha256, seed, image, mask, height, width FROM masks WHERE image IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY caption_sha256, seed ORDER BY shard, key) = 1
ORDER BY caption_sha256, seed
"""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """An image of the corpus that is near to a generated picture.

    Attributes:
        caption_sha256: Of the caption that gave the picture.
        seed: Its seed.
        rank: Place among the nearest, from 1.
        shard: The shard that holds the image.
        key: The image's key in that shard.
        own: Whether it is an image of this very caption.
        match: ``verbatim`` or ``template`` as `scanner.pictures.match` has it,
            ``plain`` where the picture is too plain for that to tell anything, else ``none``.
        mse: The error of the match, pixels 0..1, squared.
        tiled_l2: `scanner.pictures.tiled_l2` of the two.
    """

    caption_sha256: str
    seed: int
    rank: int
    shard: str
    key: str
    own: bool
    match: str
    mse: float
    tiled_l2: float

    def explain(self) -> str:
        """Return it in words: what the picture is a copy of, if of anything."""
        return message_of(self.match, own=self.own)


@dataclass(slots=True, eq=False)
class _Generated:
    """A generated picture and the candidates that its rules found: distance, shard, key, own."""

    query: Query
    seed: int
    near: list[list[tuple[float, str, str, bool]]] = field(default_factory=list)

    def wanted(self) -> dict[tuple[str, str], bool]:
        """Return the images to decode, by place, and whether they are the caption's own."""
        return {(shard, key): own for rule in self.near for _, shard, key, own in rule}

    def compared(self, content: bytes) -> tuple[str, float, float] | None:
        """Return match, error and tiled l2 of an image; null if it cannot be read."""
        pixels = self.query.pixels
        try:
            image = pictures.decoded(content, pixels.shape[:2])
        except ValueError:
            return None
        found = pictures.match(pixels, image, self.query.mask)
        return found.verdict, found.error or 0.0, found.tiled or 0.0


def retrieve(
    con: duckdb.DuckDBPyConnection, corpus: Sequence[Shard], index: ImageIndex, images: Images,
    *, nearest: int = NEAREST, progress: Progress = lambda done, total, word: None,
) -> list[Retrieved]:  # fmt: skip
    """Return the images nearest to every generated picture of a run.

    The worst match first, then the least error. A pass over the sketches for 256 pictures at a
    time, and a read of each shard that holds a candidate; no evaluation of a network.

    Args:
        con: Views of one run.
        corpus: Shards that the index holds.
        index: Their sketches.
        images: Where full images come from.
        nearest: How many of each picture.
        progress: Told of shards done, of how many, and with what.
    """
    rows: list[Retrieved] = []
    drawn = list(_generated(con))
    for start in range(0, len(drawn), AT_ONCE):
        some = drawn[start : start + AT_ONCE]
        said = f"{min(start + AT_ONCE, len(drawn)):,} of {len(drawn):,} pictures"
        rules = Cutoffs([one.query for one in some])
        by_query = {id(one.query): one for one in some}
        for one in some:
            one.near = [[] for _ in one.query.weights()]
        for done, entries in enumerate(index.entries(corpus), 1):
            _gather(rules, by_query, entries)
            progress(done, len(corpus), said)
        rows += _ranked(some, images, nearest)
    return rows


def _generated(con: duckdb.DuckDBPyConnection) -> Iterator[_Generated]:
    cursor = con.execute(GENERATED)
    for sha, seed, image, runs, height, width in iter(cursor.fetchone, None):
        try:
            opened = pictures.opened(image)
        except ValueError:
            continue
        opened.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
        mask = None if runs is None else masks.from_runs(runs, height, width)
        yield _Generated(Query(sha, np.asarray(opened), mask, is_training=False), int(seed))


def _gather(rules: Cutoffs, by_query: dict[int, _Generated], entries: IndexedImages) -> None:
    """Keep a shard's nearest sketches by every rule, if they are nearer than what there was."""
    if not rules.queries or not len(entries.sketches):
        return
    turn = Counter[int]()
    for query, apart in zip(rules.queries, rules.distances(entries.sketches), strict=True):
        one = by_query[id(query)]
        number = turn[id(query)]
        turn[id(query)] += 1
        best = _least(apart, CANDIDATES)
        places = [(float(apart[p]), int(entries.sketched[p])) for p in best]
        new = [
            (d, entries.shard.url, entries.keys[row], entries.hashes[row] == query.identity)
            for d, row in places
        ]
        one.near[number] = heapq.nsmallest(CANDIDATES, [*one.near[number], *new])


def _least(values: NDArray[np.float32], number: int) -> NDArray[np.intp]:
    if len(values) <= number:
        return np.arange(len(values))
    return np.argpartition(values, number)[:number]


_Compared = tuple[int, float, float, str, str]
"""Rank of the match, L2 error, worst tile's error, shard and key."""


def _ranked(some: Sequence[_Generated], images: Images, nearest: int) -> Iterator[Retrieved]:
    """Yield each picture's nearest images, from one read of every shard that holds one."""
    found = _compared(some, images)
    for one in some:
        own = one.wanted()
        for rank, (kind, error, tiled, shard, key) in enumerate(
            sorted(found.get(id(one), []))[:nearest], 1
        ):
            yield Retrieved(
                one.query.identity, one.seed, rank, shard, key, own[shard, key], ORDER[kind],
                error, tiled,
            )  # fmt: skip


def _compared(some: Sequence[_Generated], images: Images) -> dict[int, list[_Compared]]:
    """Return what every image that a picture wants turned out to be, by id of the picture."""
    wanted: dict[str, dict[str, list[_Generated]]] = {}
    for one in some:
        for shard, key in one.wanted():
            wanted.setdefault(shard, {}).setdefault(key, []).append(one)
    found: dict[int, list[_Compared]] = {}
    for shard, by_key in wanted.items():
        for key, content in images(shard, by_key.keys()):
            for one in by_key[key]:
                if (said := one.compared(content)) is not None:
                    match, error, tiled = said
                    place = (ORDER.index(match), error, tiled, shard, key)
                    found.setdefault(id(one), []).append(place)
    return found


def counted(rows: Sequence[Retrieved]) -> dict[str, int]:
    """Return how many generated pictures have which nearest image, by a word for it."""
    counts = Counter(row.explain() for row in rows if row.rank == 1)
    return dict(sorted(counts.items()))


def as_rows(found: Sequence[Retrieved]) -> list[dict[str, Any]]:
    """Return them as `scanner.results.folder.Results.write_retrieved` takes them."""
    return [asdict(row) for row in found]

"""Search for images of the corpus that copy a generated picture, whatever their captions.

What is looked for is the generated picture (where a sample was scored at its image, that image as
it was scored), as a whole and inside the core of its mask (the rim
of a predicted mask is the least sure), and the training image that it matches. First every
image's sketch is compared with every finding's pictures, a matrix product a shard; then the
images that come near are decoded and compared as a scan compares them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from scanner import masks, pictures
from scanner.analysis.findings import Finding
from scanner.matching.image_index import ImageIndex, IndexedImages
from scanner.pictures import MATCH_MSE, MATCHES, SKETCH, Match
from scanner.shards.reading import Shard

ImagesOf = Callable[[str, Collection[str]], Iterator[tuple[str, bytes]]]
"""From a shard and keys to the encoded training images that there are, by key."""

Progress = Callable[[int, int, str], None]
_Place = tuple[str, str]
_About = tuple[str | None, str | None]

NEAR = 2 * MATCH_MSE
"""Sketches nearer than this are looked at; twice the threshold lets crops of some 10% through."""
DISTINCTIVE = 0.25
"""Share of a picture's own variance that an error may be where no pair of pictures was compared."""
NOISE = 1e-4
"""Error of encoding alone: a picture is looked for if this is a small share of its variance."""
LARGEST_SIDE = 256
AT_ONCE = 256
MOST_FINDINGS = 2000
MOST_CANDIDATES = 10_000
MOST_LISTED = 100
"""Images that are listed of one finding in texts; tables have all."""

SHOWN = """
SELECT w.identity, m.image, m.mask, m.height, m.width
FROM masks AS m JOIN searched AS w
  ON m.caption_sha256 = w.sha AND m.image_sha256 IS NOT DISTINCT FROM w.image
  AND m.shard = w.shard AND m.key = w.key AND m.seed = w.seed
WHERE m.image IS NOT NULL OR m.image_sha256 IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY w.identity
    ORDER BY m.image IS NULL, m.baseline <> 'null', m.metric <> 'delta_h', m.mask IS NULL, m.metric
) = 1
"""


@dataclass(frozen=True, slots=True)
class Copy:
    """An image of the corpus that is a copy.

    Attributes:
        shard: The shard that holds the sample.
        key: The sample's key in that shard.
        url: Where it came from, if the shard says so.
        caption_sha256: Its own caption's hash.
        match: ``verbatim`` or ``template``: how the generated picture matches it, or the region
            of an image that was scored; null if only the training image as a whole does.
        mse: The error of that match, or of the training image's.
        same_image: Whether it is the finding's training image once more.
    """

    shard: str
    key: str
    url: str | None
    caption_sha256: str | None
    match: str | None
    mse: float
    same_image: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The copies of one finding.

    Attributes:
        copies: The nearest first, the finding's own image among them.
        is_plain: Whether what would be looked for is too plain to be told from other surfaces.
        is_cut: Whether there may be more: more images came near than were decoded.
    """

    copies: list[Copy] = field(default_factory=list)
    is_plain: bool = False
    is_cut: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it for a program, with the first `MOST_LISTED` copies."""
        return {
            "count": len(self.copies), "plain": self.is_plain, "more": self.is_cut,
            "copies": [asdict(copy) for copy in self.copies[:MOST_LISTED]],
        }  # fmt: skip


def explain(group: Group) -> str:
    """Return in words how many images hold a finding."""
    number = len(group.copies)
    if not number and group.is_plain:
        return "too plain to look for among the images"
    more = "at least " if group.is_cut else ""
    return f"{more}{number} {'image' if number == 1 else 'images'} of the corpus copy it"


@dataclass(slots=True, eq=False)
class Query:
    """A picture that is looked for, by its whole and by the part in a mask.

    Attributes:
        identity: Of the finding that it is of.
        pixels: ``(H, W, 3)``.
        mask: The part, at any resolution, if there is one.
        is_training: Whether it is a training image, not a generated one.
        near: Images whose sketch comes near: distance, shard and key.
        found: Those that match, by shard and key.
        is_cut: Whether more came near than were compared.
    """

    identity: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    is_training: bool
    near: list[tuple[float, str, str]] = field(default_factory=list)
    found: dict[_Place, Match] = field(default_factory=dict)
    is_cut: bool = False

    def weights(self) -> list[NDArray[np.float32]]:
        """Return what each colour of a sketch counts, ``(SKETCH * SKETCH * 3,)``, one per rule."""
        shares = [np.ones((SKETCH, SKETCH))] if is_distinctive(self.pixels, None) else []
        if self.mask is not None and is_distinctive(self.pixels, self.mask):
            fine = masks.resize(self.mask, 8 * SKETCH, 8 * SKETCH)
            share = fine.reshape(SKETCH, 8, SKETCH, 8).mean(axis=(1, 3))
            inside = np.where(share >= 0.5, share, 0.0)
            shares.append(inside if inside.any() else share)
        return [np.repeat(share.ravel() / share.sum() / 3, 3).astype(np.float32)
                for share in shares]  # fmt: skip

    def compared(self, content: bytes) -> Match | None:
        """Return how an image matches, cropped a little or not, if it does and that tells."""
        try:
            image = pictures.opened(content, least=self.pixels.shape[:2])
        except ValueError:
            return None
        match = pictures.nearest(self.pixels, image, self.mask)
        return match if match.verdict in MATCHES else None


def search(
    con: duckdb.DuckDBPyConnection, found: Sequence[Finding], corpus: Sequence[Shard],
    index: ImageIndex, images: ImagesOf, progress: Progress = lambda done, total, word: None,
) -> dict[str, Group]:  # fmt: skip
    """Look for the copies of findings in a corpus.

    Args:
        con: Views that hold the findings' pictures and masks.
        found: The findings; the first `MOST_FINDINGS` are looked for.
        corpus: Shards that the index holds.
        index: Their sketches.
        images: Where full images come from.
        progress: Told of shards done, of how many, and with what.

    Returns:
        By identity, of the findings that have a picture to look for; nothing where no shard
        has images.
    """
    groups: dict[str, Group] = {}
    found = found[:MOST_FINDINGS] if index.has_sketches(corpus) else []
    for start in range(0, len(found), AT_ONCE):
        some = found[start : start + AT_ONCE]
        queries = _queries(con, some, images)
        said = f"{min(start + AT_ONCE, len(found))} of {len(found)} findings"
        rules, about = Cutoffs(queries), dict[_Place, _About]()
        for done, entries in enumerate(index.entries(corpus), 1):
            about |= _near(rules, entries)
            progress(done, len(corpus), said)
        _confirm(queries, images, lambda done, total, said=said: progress(done, total, said))
        for finding in some:
            own = [query for query in queries if query.identity == finding.identity]
            if own:
                groups[finding.identity] = _grouped(own, about)
    return groups


def _queries(
    con: duckdb.DuckDBPyConnection, found: Sequence[Finding], images: ImagesOf
) -> list[Query]:
    """Return the picture of each finding, and the training image that a generated one matches."""
    con.execute("CREATE OR REPLACE TEMP TABLE searched (identity VARCHAR, sha VARCHAR, "
                "image VARCHAR, shard VARCHAR, key VARCHAR, seed BIGINT)")  # fmt: skip
    local = [f for f in found if f.seed is not None]
    con.execute(
        "INSERT INTO searched SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]), "
        "unnest($3::VARCHAR[]), unnest($4::VARCHAR[]), unnest($5::VARCHAR[]), unnest($6::BIGINT[])",
        [[getattr(f, name) for f in local]
         for name in ("identity", "caption_sha256", "image_sha256", "shard", "key", "seed")],
    )  # fmt: skip
    queries: list[Query] = []
    scored: dict[str, tuple[NDArray[np.bool_] | None, tuple[int, int]]] = {}
    rows = con.execute(SHOWN)
    while (row := rows.fetchone()) is not None:
        identity, image, runs, height, width = row
        mask = None if runs is None else masks.core(masks.from_runs(runs, height, width))
        if image is None:
            scored[identity] = mask, (height, width)
        else:
            queries += _query(identity, image, mask)
    wanted = [f for f in local if f.match in MATCHES or f.identity in scored]
    for shard in dict.fromkeys(f.shard for f in wanted):
        by_key = {f.key: f.identity for f in wanted if f.shard == shard}
        for key, content in images(shard, by_key.keys()):
            mask, shape = scored.get(by_key[key], (None, None))
            queries += _query(by_key[key], content, mask, is_training=True, shape=shape)
    return queries


def _query(
    identity: str, content: bytes, mask: NDArray[np.bool_] | None, *, is_training: bool = False,
    shape: tuple[int, int] | None = None,
) -> list[Query]:  # fmt: skip
    try:
        image = pictures.opened(content)
    except ValueError:
        return []
    if shape is not None:
        image = pictures.centred(image, shape)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return [Query(identity, np.asarray(image), mask, is_training)]


def is_distinctive(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_] | None, error: float = NOISE
) -> bool:
    """Whether a picture, or its part, varies so much that this error is small beside it."""
    part = pixels.reshape(-1, 3)
    if mask is not None:
        part = part[masks.resize(mask, *pixels.shape[:2]).ravel()]
    if not len(part):
        return False
    spread = float((part / 255.0).var(axis=0).mean())
    return error < DISTINCTIVE * spread


class Cutoffs:
    """Cut-offs of queries: one weighted distance between sketches each, or two with a mask."""

    def __init__(self, queries: Sequence[Query]) -> None:
        rules = [(query, weights) for query in queries for weights in query.weights()]
        self.queries = [query for query, _ in rules]
        if rules:
            sketches = [pictures.sketch_of(query.pixels).ravel() for query in self.queries]
            asked = np.stack(sketches) / np.float32(255)
            self.weights = np.stack([weights for _, weights in rules])
            self.centres = self.weights * asked
            self.own = (self.centres * asked).sum(axis=1)[:, None]

    def distances(self, sketches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the weighted mean squared differences, a row each rule, a column each sketch."""
        values = sketches.astype(np.float32) / np.float32(255)
        return self.own - 2 * self.centres @ values.T + self.weights @ (values**2).T


def _near(rules: Cutoffs, entries: IndexedImages) -> dict[_Place, _About]:
    """Note the images of a shard that come near; return their urls and captions' hashes."""
    seen: dict[_Place, _About] = {}
    if not rules.queries or not len(entries.sketches):
        return seen
    for query, apart in zip(rules.queries, rules.distances(entries.sketches), strict=True):
        for place in np.flatnonzero(apart < NEAR):
            row = int(entries.sketched[place])
            where = entries.shard.url, entries.keys[row]
            seen[where] = entries.urls[row], entries.hashes[row]
            query.near.append((float(apart[place]), *where))
    return seen


def _confirm(
    queries: Sequence[Query], images: ImagesOf, progress: Callable[[int, int], None]
) -> None:
    """Decode what came near and keep what matches."""
    wanted: dict[str, dict[str, list[Query]]] = {}
    for query in queries:
        query.near = sorted(dict.fromkeys(query.near))
        query.is_cut = len(query.near) > MOST_CANDIDATES
        for _, shard, key in query.near[:MOST_CANDIDATES]:
            askers = wanted.setdefault(shard, {}).setdefault(key, [])
            if query not in askers:
                askers.append(query)
    for done, (shard, by_key) in enumerate(wanted.items(), 1):
        for key, content in images(shard, by_key.keys()):
            for query in by_key[key]:
                match = query.compared(content)
                if match is not None:
                    query.found[shard, key] = match
        progress(done, len(wanted))


def _grouped(queries: Sequence[Query], about: Mapping[_Place, _About]) -> Group:
    copies: dict[_Place, Copy] = {}
    for query in sorted(queries, key=lambda q: q.is_training):
        for (shard, key), match in query.found.items():
            url, sha = about[shard, key]
            is_same = query.is_training and match.verdict == "verbatim"
            known = copies.get((shard, key))
            if known is not None:
                copies[shard, key] = replace(known, same_image=is_same)
            else:
                verdict = None if is_same else match.verdict
                copies[shard, key] = Copy(
                    shard, key, url, sha, verdict, match.error or 0.0, is_same
                )
    order = sorted(copies.values(), key=lambda c: (c.match is None, c.mse, c.shard, c.key))
    is_plain = not any(query.weights() for query in queries)
    return Group(order, is_plain, any(query.is_cut for query in queries))

"""Every table and view of the results, each column once. Imports no Arrow and no DuckDB.

Columns of rows are declared where the rows are (`scanner.records`); what all rows of a sample
share, and what views add, is declared here. docs/schema.md is made from this.
"""

from collections.abc import Iterator, Mapping

from scanner.records import MaskRow, Reject, ScoreRow
from scanner.schema import Column, Kind, Table, columns_of

VERSION = 1
"""Of the tables on disk."""
RUN = Column("run", Kind.TEXT, "Run that wrote the row")
SHARD = Column("shard", Kind.TEXT, "Address of the shard")
KEY = Column("key", Kind.TEXT, "The sample's key in its shard")
CAPTION = Column("caption", Kind.TEXT, "The caption")
CAPTION_HASH = Column("caption_sha256", Kind.TEXT, "SHA-256 of the caption's UTF-8 text, in hex")
URL = Column("url", Kind.TEXT, "Where the image came from", null=True)
IMAGE_HASH = Column(
    "image_sha256", Kind.TEXT,
    "SHA-256 of the encoded image, where it was scored; null where the caption was sampled",
    null=True,
)  # fmt: skip
OF_CAPTION = {
    SHARD.name: "shard", KEY.name: "key", CAPTION.name: "text", CAPTION_HASH.name: "sha256",
    URL.name: "url", IMAGE_HASH.name: "image_sha256",
}  # fmt: skip
"""Columns that a row takes from its `Caption`, and the attribute there."""
EXTRA_DOC = "Score of a further detector"


def _before(name: str, new: Column, columns: tuple[Column, ...]) -> Iterator[Column]:
    """Yield columns with another one before that of a name, where it once was put."""
    for each in columns:
        if each.name == name:
            yield new
        yield each


SCORES = Table(
    "scores", "a caption under one seed, in one sample of a shard",
    (RUN, SHARD, KEY, CAPTION, CAPTION_HASH, URL, *columns_of(ScoreRow), IMAGE_HASH),
)  # fmt: skip
MASKS = Table(
    "masks", "a map of a localized (caption, seed): heatmap, mask, generated picture, match",
    (RUN, SHARD, KEY, CAPTION_HASH, *_before("pinned", IMAGE_HASH, columns_of(MaskRow))),
)  # fmt: skip
REJECTS = Table(
    "rejects", "a sample that could not be scored, and why", (RUN, SHARD, KEY, *columns_of(Reject))
)
RETRIEVED = Table(
    "retrieved", "an image of the corpus near to a generated picture, after `memscan retrieve`",
    (
        Column("run", Kind.TEXT, "Run that drew the picture"),
        CAPTION_HASH,
        Column("seed", Kind.INT64, "Sampling seed"),
        Column("rank", Kind.INT32, "Place among the nearest images, from 1"),
        Column("shard", Kind.TEXT, "Address of the shard of that image"),
        Column("key", Kind.TEXT, "The image's key in its shard"),
        Column("own", Kind.BOOL, "Whether it is an image of this very caption"),
        Column("match", Kind.TEXT, "verbatim, template, plain or none"),
        Column("mse", Kind.FLOAT64, "Mean squared error behind the match",
               "pixels 0 to 1, squared"),
        Column("tiled_l2", Kind.FLOAT64,
               "Largest root mean squared error of a sixteenth of the picture", "pixels 0 to 1"),
    ),
)  # fmt: skip
"""Table that `memscan retrieve` derives of a run; not part of any commit, made anew each time."""
CONFIRMED = Table(
    "confirmed", "a finding that `memscan confirm` drew again under fresh seeds",
    (
        Column("run", Kind.TEXT, "Run that flagged it"),
        CAPTION_HASH, IMAGE_HASH,
        Column("shard", Kind.TEXT, "Address of the shard of the sample that draws are compared "
               "with"),
        Column("key", Kind.TEXT, "That sample's key"),
        Column("draws", Kind.TEXT, "Run of the draws, in the folder `draws` of the results"),
        Column("first_seed", Kind.INT64, "Seed of the first draw; the others follow it"),
        Column("drawn", Kind.INT64, "Pictures drawn", "pictures"),
        Column("compared", Kind.INT64, "Of these, compared with the sample's training image; 0 if "
               "it has none that can be read", "pictures"),
        Column("given_back", Kind.INT64, "Of these, copies of it, as a whole or in a region",
               "pictures"),
        Column("verbatim", Kind.INT64, "Of these, copies of the whole", "pictures"),
        Column("template", Kind.INT64, "Of these, copies of a region", "pictures"),
        Column("plain", Kind.INT64, "Of those compared, as plain as the image, which two pictures "
               "may be by chance", "pictures"),
        Column("rate_low", Kind.FLOAT64, "Lower end of the 95% interval (Clopper-Pearson) of how "
               "often it is given back; null where nothing was compared", "0 to 1", null=True),
        Column("rate_high", Kind.FLOAT64, "Upper end, plain ones counted as copies; where nothing "
               "was compared, of how often any one picture comes", "0 to 1"),
        Column("agreeing", Kind.INT64, "The largest number of draws found that all are alike, in "
               "each other's masks at least", "pictures"),
        Column("agreeing_low", Kind.FLOAT64, "Lower end of the 95% interval of how often another "
               "draw is like one of these", "0 to 1"),
    ),
)  # fmt: skip
"""Table that `memscan confirm` derives of a run, beside its commits, made anew each time."""
SNAP_BACK = Column(
    "snap_back", Kind.FLOAT64,
    "By how many bits the caption brings the image nearer; null where the caption was sampled",
    "bits", null=True,
)  # fmt: skip
"""A further score that the view ``scores`` has whatever its files hold."""

_WORST = Column(
    "worst", Kind.FLOAT64, "The largest delta_s of its seeds", "score squared", null=True
)
_MEAN = Column("delta_s", Kind.FLOAT64, "The mean delta_s of its seeds", "score squared", null=True)
_P_VALUE = Column("p_value", Kind.FLOAT64, "Its smallest p-value", "0 to 1", null=True)
_NOVELTY = next(c for c in SCORES.columns if c.name == "novelty")
_P_KIND = Column("p_kind", Kind.TEXT, "Where that p-value comes from, as in scores", null=True)
_COPIES = Column("occurrences", Kind.INT64, "Samples that carry it", "samples")
RUNS = Table(
    "runs", "a run",
    (
        Column("run", Kind.TEXT, "Its name"),
        Column("started", Kind.TEXT, "When it was begun, UTC", null=True),
        Column("status", Kind.TEXT,
               "running, complete, incomplete, interrupted or failed", null=True),
        Column("model", Kind.TEXT, "The model's fingerprint", null=True),
        Column("record", Kind.TEXT, "All that it says of itself, as JSON", null=True),
        Column("fdr", Kind.FLOAT64, "Its false-discovery rate, if it flags by one", "0 to 1",
               null=True),
        Column("cutoff", Kind.FLOAT64,
               "The p-value up to which it then flags; -1 where it flags none", "0 to 1",
               null=True),
    ),
)  # fmt: skip
CAPTIONS = Table(
    "captions", "a distinct caption of a run; where images are scored, with its worst image",
    (
        RUN, CAPTION_HASH, CAPTION, _COPIES,
        Column("seeds", Kind.INT64, "Seeds under which it was scored", "seeds"),
        _WORST, _MEAN, _P_VALUE, _P_KIND,
        Column("least_seed_p_value", Kind.FLOAT64, "The smallest p-value of a seed alone",
               "0 to 1", null=True),
        Column("flagged", Kind.BOOL, "Whether it is flagged, under any image", null=True),
        _NOVELTY,
        Column("shard", Kind.TEXT, "Address of the shard of its first sample"),
        Column("key", Kind.TEXT, "That sample's key"),
    ),
)  # fmt: skip
_OF_SAMPLE = (RUN.name, SHARD.name, KEY.name, CAPTION_HASH.name, IMAGE_HASH.name)
_FOUND = (RUN, CAPTION, CAPTION_HASH, IMAGE_HASH, _COPIES, _WORST, _MEAN, _P_VALUE, _P_KIND)
FINDINGS = Table(
    "findings", "a flagged caption (where images are scored, a flagged caption with one image), "
    "worst first; columns of `masks` are those of its strongest map, null without one",
    (
        *_FOUND, SNAP_BACK, _NOVELTY,
        Column("shard", Kind.TEXT, "Address of the shard of the sample with that map"),
        Column("key", Kind.TEXT, "That sample's key"),
        Column("maps", Kind.INT64, "Maps that masks has of it", "maps"),
        *(Column(c.name, c.kind, c.doc, c.unit, null=True) for c in MASKS.without(*_OF_SAMPLE)),
        *(
            Column(f"nearest_{c.name}", c.kind, f"Of the nearest image `retrieve` found: {c.doc}",
                   c.unit, null=True)
            for name in ("own", "match", "mse", "tiled_l2", "shard", "key")
            for c in RETRIEVED.columns if c.name == name
        ),
        Column("level", Kind.TEXT, "Level of evidence: copied, reproduced, stored, suspected or "
               "not confirmed"),
        Column("extent", Kind.TEXT, "How much of the picture the mask says is copied: whole, "
               "region or none", null=True),
        *(
            Column(c.name, c.kind, f"Of `confirmed`: {c.doc}", c.unit, null=True)
            for name in ("drawn", "compared", "given_back", "plain", "rate_low", "rate_high",
                         "agreeing")
            for c in CONFIRMED.columns if c.name == name
        ),
    ),
)  # fmt: skip
FINDING_MAPS = Table(
    "finding_maps", "a map of a finding: all maps that `masks` has of it",
    (*_FOUND, *MASKS.without(RUN.name, CAPTION_HASH.name, IMAGE_HASH.name)),
)  # fmt: skip
VIEWS: Mapping[str, Table] = {
    t.name: t
    for t in (
        Table(SCORES.name, SCORES.row, (*SCORES.columns, SNAP_BACK)), MASKS, REJECTS, RETRIEVED,
        CONFIRMED, CAPTIONS, FINDINGS, FINDING_MAPS, RUNS,
    )
}  # fmt: skip
"""Views of `memscan query`."""

"""Records that cross the rooms: captions in; score rows, mask rows and rejects out."""

import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scanner.schema import Kind, column


def caption_hash(text: str) -> str:
    """Return the SHA-256 of a caption's UTF-8 text, in hex: the identity of a caption."""
    return hashlib.sha256(text.encode()).hexdigest()


def identity_of(caption_sha256: str, image_sha256: str | None) -> str:
    """Return what names a caption, or a caption with the image at which it is scored."""
    if image_sha256 is None:
        return caption_sha256
    return caption_hash(f"{caption_sha256} {image_sha256}")


@dataclass(frozen=True, slots=True)
class Caption:
    """One sample of a shard.

    Attributes:
        shard: Address of the shard.
        key: The sample's key: the member name up to its first dot, folders included.
        text: The caption, valid UTF-8; empty only where images are scored without captions.
        url: Where the image came from, if the shard's JSON says so.
        image: The encoded training image (JPEG, PNG or WebP bytes), if the shard has one and
            it was asked for.
        image_sha256: Hash of the encoded image, where it is the image that is scored; null where
            the caption is sampled.
        pixels: That image at the model's size, ``(height, width, 3)``, until it is scored.
    """

    shard: str
    key: str
    text: str
    url: str | None = None
    image: bytes | None = None
    image_sha256: str | None = None
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    _sha256: str = field(default="", init=False, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """The caption's hash; of an image without a caption, its own."""
        if not self.text and self.image_sha256 is not None:
            return self.image_sha256
        if not self._sha256:  # it is asked for seven times on the way to a row
            object.__setattr__(self, "_sha256", caption_hash(self.text))
        return self._sha256

    @property
    def identity(self) -> str:
        """Hash that samples with the same scores share: of the caption, or of caption and image."""
        return identity_of(self.sha256, self.image_sha256)


class Reason(StrEnum):
    """Why something was left out; members are a text for grouping and its meaning.

    The tables in docs/results.md are made from the classes: ``python docs/generate.py``.

    Attributes:
        meaning: A line for the table, in Markdown.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """Make a member that is equal to its text."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class RejectReason(Reason):
    """Why a sample has no score: the values of the column ``reason`` of ``rejects``.

    A value that was ever written stays: results on disk hold it.
    """

    # What is wrong with the sample as the shard holds it.
    NO_CAPTION = (
        "no_caption",
        "no `.txt`, and no `.json` with a text as `caption`, `text` or `TEXT`; of a table, no text",
    )
    EMPTY_CAPTION = "empty_caption", "the caption holds nothing but white space"
    NOT_UTF8 = "not_utf8", "the caption or the JSON is not valid UTF-8"
    BAD_JSON = "bad_json", "the `.json`, or the line of a JSONL, cannot be parsed"
    BAD_CSV = "bad_csv", "the row of a CSV or TSV cannot be parsed, or does not fit its header"
    CAPTION_TOO_LONG = "caption_too_long", "the caption has more bytes than a caption may have"
    MEMBER_TOO_LARGE = (
        "member_too_large",
        "the `.json`, the image or the row has more bytes than it may",
    )
    AMBIGUOUS_CAPTION = (
        "ambiguous_caption",
        "two files of the sample are both its caption: a key ends at the first dot of the name",
    )
    HALF_SAMPLE = "half_sample", "the shard is cut inside this sample or right behind it"
    DUPLICATE_KEY = "duplicate_key", "an earlier sample of the shard has the same key"
    # What a folder of images holds beside sound files.
    OUTSIDE_FOLDER = (
        "outside_folder",
        "the `file_name` or the link leads out of the folder, and is never followed",
    )
    UNREADABLE_FILE = "unreadable_file", "a file of the sample in a folder cannot be read"
    # What is no regular file, where a caption or an image was expected.
    HARD_LINK = "hard_link", "the member is a hard link, which has no content of its own"
    SYMBOLIC_LINK = "symbolic_link", "the member is a symbolic link, which is never followed"
    DEVICE = "device", "the member is a device, which is never opened"
    NAMED_PIPE = "named_pipe", "the member is a named pipe, which is never opened"
    SPARSE_MEMBER = "sparse_member", "the member is stored as a sparse file, which is not read"
    UNKNOWN_MEMBER = "unknown_member", "the member is of a type that tar does not define"
    # What the model does not take.
    NO_CLASS = "no_class", "the model takes classes, and the caption names none, or several"
    # What is wrong with the image that is to be scored.
    NO_IMAGE = "no_image", "`--source image`: the sample has no `.jpg`, `.png` or `.webp`"
    UNREADABLE_IMAGE = "unreadable_image", "`--source image`: the image cannot be decoded"
    # What went wrong when it was scored.
    NOT_FINITE = "not_finite", "the score or a map is infinite or no number, in float32 too"
    OUT_OF_MEMORY = "out_of_memory", "the sample alone does not fit into the device's memory"
    POISON = "poison", "the worker fails or dies at this sample, and at no other of its chunk"


_SQUARED = "pixels 0 to 1, squared"


@dataclass(frozen=True, slots=True)
class Reject:
    """A sample that could not be scored: a row of ``rejects``.

    Attributes:
        shard: Address of the shard.
        key: The sample's key, or the member's name where no key could be made.
    """

    shard: str
    key: str
    reason: RejectReason = column("Why there is no score, one word")
    detail: str = column("What was found")
    caption_sha256: str | None = column("Hash of the caption, if there was one", default=None)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One row of ``scores``: a caption under one seed. The fields after it are its columns.

    Attributes:
        caption: The sample.
        extra: Further detectors' scores by column name.
    """

    caption: Caption
    seed: int = column("Sampling seed")
    _: KW_ONLY
    stage: str = column("How far it got: screen, detect or localize")
    screen: float | None = column(
        "Norm of the first step, where that was a screen", "noise", default=None
    )
    delta_s: float | None = column(
        "Spatial mean of the channel-summed squared score difference", "score squared"
    )
    p_value: float | None = column("The caption's p-value over its seeds", "0 to 1", default=None)
    p_kind: str | None = column(
        "Of the p-value: conformal, kind (among null captions of the caption's kind), unlike (1, "
        "of no kind of theirs), screen (1), or in old rows tail (a model)",
        default=None,
    )
    seed_p_value: float | None = column(
        "Conformal p-value of this seed alone", "0 to 1", default=None
    )
    flagged: bool | None = column(
        "Whether the caption is flagged; under a false-discovery rate, whether it may be",
        default=None,
    )
    increments: tuple[float, ...] | None = column(
        "Length of each of the sampler's steps, where increment is asked for", "latent",
        default=None,
    )  # fmt: skip
    novelty: float | None = column(
        "P-value of the caption's words among those of the null captions: small is unlike them",
        "0 to 1", default=None,
    )  # fmt: skip
    extra: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class MaskRow:
    """One row of ``masks``: one map of a localized (caption, seed). The others are its columns.

    Attributes:
        caption: The sample.
    """

    caption: Caption
    seed: int = column("Sampling seed")
    _: KW_ONLY
    metric: str = column("What is mapped: delta_h, delta_s, ... (docs/methods.md)")
    baseline: str = column("What was subtracted: null, a name, or none")
    height: int = column("Rows of the map", "pixels", kind=Kind.INT32)
    width: int = column("Columns of the map", "pixels", kind=Kind.INT32)
    threshold: float | None = column("Pixel threshold of this mask", "score", default=None)
    mask: list[int] | None = column(
        "COCO run lengths: column-major, background first", "pixels", default=None
    )
    area: float | None = column("Share of the picture inside the mask", "0 to 1", default=None)
    heatmap: bytes = column(
        "sign(m) * log1p(abs(m)) of the signed map, little-endian float16, row-major", "score"
    )
    sigma: float = column("Noise scale at which the map was taken")
    image: bytes | None = column("The generated picture as JPEG", default=None)
    match: str | None = column("verbatim, template or none", default=None)
    match_mse: float | None = column(
        "Mean squared error behind the match: of the whole picture, or inside the mask",
        _SQUARED, default=None,
    )  # fmt: skip
    mse_inside: float | None = column("The same inside the mask", _SQUARED, default=None)
    mse_outside: float | None = column("The same outside it", _SQUARED, default=None)
    tiled_l2: float | None = column(
        "Largest root mean squared error of a sixteenth of the picture", "pixels 0 to 1",
        default=None,
    )  # fmt: skip
    tightness: float | None = column(
        "Mean of the same between the generations of the caption's seeds", "pixels 0 to 1",
        default=None,
    )  # fmt: skip
    pinned: str | None = column(
        "Of a scored image, how much of it the model stores: whole, region or none", default=None
    )
    snap_inside: float | None = column("Mean snap-back inside the mask", "bits", default=None)
    snap_outside: float | None = column("The same outside it", "bits", default=None)
    match_contrast: float | None = column(
        "Largest error of a sixteenth as a share of what it varies; from 1 on, match is plain",
        default=None,
    )  # fmt: skip
    products: int | None = column(
        "Jacobian products of a branch behind the map; null where it takes none", "products",
        kind=Kind.INT32, default=None,
    )  # fmt: skip
    map_error: float | None = column(
        "Root mean square of the pixels' standard errors over that of the map, from two rounds of "
        "products on", "0 up", default=None,
    )  # fmt: skip
    mask_doubt: float | None = column(
        "Share of the mask's pixels whose side of the threshold is in doubt: within two standard "
        "errors", "0 to 1", default=None,
    )  # fmt: skip
    outside_doubt: float | None = column(
        "The same of the pixels outside the mask", "0 to 1", default=None
    )
    doubt: list[int] | None = column(
        "All these pixels, as run lengths like those of mask", "pixels", default=None
    )


@dataclass(slots=True)
class ChunkResult:
    """All that came of one chunk; what one commit makes visible."""

    scores: list[ScoreRow] = field(default_factory=list[ScoreRow])
    masks: list[MaskRow] = field(default_factory=list[MaskRow])
    rejects: list[Reject] = field(default_factory=list[Reject])


def parts_of(counts: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds that a chunk took of its actor's device, by part.

    ``network`` (forward evaluations), ``product`` (gradients back through the networks),
    ``preparation`` (tokens, text states, noise, probes), ``autoencoder``, ``waiting`` (for
    reading and committing) and ``other``.

    Args:
        counts: Of an event or a commit; none of a commit from before parts were measured.
    """
    if "preparation_seconds" not in counts:
        return {}
    found = {
        name: counts[f"{name}_seconds"]
        for name in ("product", "preparation", "autoencoder", "waiting")
    }
    network = counts["denoiser_seconds"] - found["product"]
    other = counts["seconds"] - network - sum(found.values())
    return {"network": network} | found | {"other": max(0.0, other)}

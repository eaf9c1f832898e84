"""What crosses the rooms: captions in, score rows, mask rows and rejects out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


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

    @property
    def sha256(self) -> str:
        """The caption's hash; of an image without a caption, its own."""
        if not self.text and self.image_sha256 is not None:
            return self.image_sha256
        return caption_hash(self.text)

    @property
    def identity(self) -> str:
        """What samples share whose numbers are the same: of the caption, or of it and its image."""
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
        "no `.txt`, and no `.json` with a text as `caption`, `text` or `TEXT`",
    )
    EMPTY_CAPTION = "empty_caption", "the caption holds nothing but white space"
    NOT_UTF8 = "not_utf8", "the caption or the JSON is not valid UTF-8"
    BAD_JSON = "bad_json", "the `.json` cannot be parsed"
    CAPTION_TOO_LONG = "caption_too_long", "the caption has more bytes than a caption may have"
    MEMBER_TOO_LARGE = "member_too_large", "the `.json` or the image has more bytes than it may"
    AMBIGUOUS_CAPTION = (
        "ambiguous_caption",
        "two files of the sample are both its caption: a key ends at the first dot of the name",
    )
    HALF_SAMPLE = "half_sample", "the shard is cut inside this sample or right behind it"
    DUPLICATE_KEY = "duplicate_key", "an earlier sample of the shard has the same key"
    # What is no regular file, where a caption or an image was expected.
    HARD_LINK = "hard_link", "the member is a hard link, which has no content of its own"
    SYMBOLIC_LINK = "symbolic_link", "the member is a symbolic link, which is never followed"
    DEVICE = "device", "the member is a device, which is never opened"
    NAMED_PIPE = "named_pipe", "the member is a named pipe, which is never opened"
    SPARSE_MEMBER = "sparse_member", "the member is stored as a sparse file, which is not read"
    UNKNOWN_MEMBER = "unknown_member", "the member is of a type that tar does not define"
    # What is wrong with the image that is to be scored.
    NO_IMAGE = "no_image", "`--source image`: the sample has no `.jpg`, `.png` or `.webp`"
    UNREADABLE_IMAGE = "unreadable_image", "`--source image`: the image cannot be decoded"
    # What went wrong when it was scored.
    NOT_FINITE = "not_finite", "the score or a map is infinite or no number, in float32 too"
    OUT_OF_MEMORY = "out_of_memory", "the sample alone does not fit into the device's memory"
    POISON = "poison", "the worker fails or dies at this sample, and at no other of its chunk"


@dataclass(frozen=True, slots=True)
class Reject:
    """A sample that could not be scored.

    Attributes:
        shard: Address of the shard.
        key: The sample's key, or the member's name where no key could be made.
        reason: Why.
        detail: What was found, for a person.
        caption_sha256: The caption's hash, where there was a caption.
    """

    shard: str
    key: str
    reason: RejectReason
    detail: str
    caption_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One row of ``scores``: a caption under one seed.

    Attributes:
        caption: The sample.
        seed: Sampling seed.
        stage: How far it got: ``screen``, ``detect`` or ``localize``.
        delta_s: Spatial mean of the channel-summed squared score difference; null where the
            caption stopped at the screen.
        screen: Norm of the first step, in noise; null if there was no screen.
        p_value: The caption's p-value over its seeds, null without calibration.
        flagged: Whether the caption is flagged, or may be once a false-discovery rate is settled;
            null without a threshold.
        extra: Further detectors' scores by column name.
        p_kind: Where ``p_value`` comes from: ``conformal``, ``screen`` (it is 1), or, in rows
            from before docs/decisions/0015, ``tail`` (a model that promised too much).
        seed_p_value: Conformal p-value of this seed's score alone.
        increments: Length of each of the sampler's steps, where ``increment`` is asked for.
    """

    caption: Caption
    seed: int
    stage: str
    delta_s: float | None
    screen: float | None = None
    p_value: float | None = None
    flagged: bool | None = None
    extra: dict[str, float] = field(default_factory=dict)
    p_kind: str | None = None
    seed_p_value: float | None = None
    increments: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class MaskRow:
    """One row of ``masks``: one map of a localized (caption, seed).

    Attributes:
        caption: The sample.
        seed: Sampling seed.
        metric: One of `scanner.methods.registry.MAPS`.
        baseline: What was subtracted: ``null``, a name, or ``none``.
        height: Rows of the map.
        width: Columns of the map.
        heatmap: ``sign(m) * log1p(abs(m))`` of the signed map, little-endian float16, row-major.
        sigma: Noise scale at which the map was taken.
        threshold: What a pixel of the mask exceeds, in the map's units, smoothed under a
            calibration; null without one.
        mask: COCO run lengths, null without a threshold.
        area: Share of the picture inside the mask, 0 to 1.
        image: The generated picture as JPEG, on one row per (caption, seed).
        match: ``verbatim``, ``template`` or ``none``; null without a training image.
        match_mse: Mean squared error behind the match, pixels 0..1: of the whole picture, or
            inside the mask.
        mse_inside: The same inside the mask; null without a mask or a training image.
        mse_outside: The same outside it.
        tiled_l2: Largest root mean squared error of a sixteenth of the picture (Carlini et al.).
        tightness: Mean of that between the generations of this caption's seeds; null of one.
        pinned: Of an image that was scored, ``whole``, ``region`` or ``none``: how much of it the
            model stores; null without a mask.
        snap_inside: Mean of the snap-back's map inside the mask, in bits.
        snap_outside: The same outside it.
    """

    caption: Caption
    seed: int
    metric: str
    baseline: str
    height: int
    width: int
    heatmap: bytes
    sigma: float
    threshold: float | None = None
    mask: list[int] | None = None
    area: float | None = None
    image: bytes | None = None
    match: str | None = None
    match_mse: float | None = None
    mse_inside: float | None = None
    mse_outside: float | None = None
    tiled_l2: float | None = None
    tightness: float | None = None
    pinned: str | None = None
    snap_inside: float | None = None
    snap_outside: float | None = None


@dataclass(slots=True)
class ChunkResult:
    """All that came of one chunk; what one commit makes visible."""

    scores: list[ScoreRow] = field(default_factory=list)
    masks: list[MaskRow] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


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

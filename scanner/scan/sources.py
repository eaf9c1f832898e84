"""Source of a sample's scores: the end of sampling its caption, or its own image."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from scanner import pictures
from scanner.errors import reproducible
from scanner.records import Caption, Reject, RejectReason


class HasSource(Protocol):
    """A draw, before or after it is detected."""

    @property
    def at_image(self) -> bool:
        """Whether it is the image that is scored."""
        ...


S = TypeVar("S", bound=HasSource)


def prepared(caption: Caption, source: str, size: tuple[int, int]) -> Caption | Reject:
    """Return a sample as it is scored, or why it cannot be.

    One that is scored at its image has the image's hash and pixels, no longer its bytes. Images
    are untrusted: `scanner.pictures` decodes them, in three formats and up to a size.

    Args:
        caption: With its image, if it has one.
        source: One of `scanner.spec.SOURCES`. ``image`` rejects a sample without an image that
            can be read, ``auto`` leaves it to sampling.
        size: Height and width of the model's pictures.
    """
    if source == "generated":
        return caption
    if caption.image is None:
        reason, found = RejectReason.NO_IMAGE, "the sample has no jpg, png or webp member"
    else:
        try:
            pixels = pictures.fitted(caption.image, size)
            sha = hashlib.sha256(caption.image).hexdigest()
            return replace(caption, image=None, image_sha256=sha, pixels=pixels)
        except ValueError as error:
            reason, found = RejectReason.UNREADABLE_IMAGE, reproducible(error)
    if source == "auto":
        return replace(caption, image=None)
    detail = f"{found}; source auto samples the captions of such samples"
    return Reject(caption.shard, caption.key, reason, detail, caption.sha256)


def by_source(items: Sequence[S]) -> list[list[S]]:
    """Return draws apart by their source, for they do not share a batch; sampled ones first."""
    parts = [[item for item in items if item.at_image == at_image] for at_image in (False, True)]
    return [part for part in parts if part]

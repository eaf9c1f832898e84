"""A conversion to shards: its settings, its record, and why rows are left out."""

from dataclasses import dataclass, field
from typing import Any

from scanner.records import Reason


class LeftOut(Reason):
    """Why a row is in no shard, where it is none of `RejectReason`.

    A value stays: ``shards.json`` holds it.
    """

    CAPTION_IS_NO_TEXT = (
        "caption_is_no_text",
        "the caption's column holds a number, a list or the like",
    )
    UNREADABLE_IMAGE = "unreadable_image", "the image's file cannot be read"
    IMAGE_TOO_LARGE = "image_too_large", "the image has more bytes than a member may have"


@dataclass(frozen=True, slots=True)
class Why:
    """Why a row is in no shard: a reason for grouping, and what was found."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        """Return it for a person."""
        return f"{self.reason} ({self.detail})" if self.detail else str(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """The settings of a conversion.

    Attributes:
        inputs: Parquet, CSV, TSV, JSONL (all but Parquet also ``.gz``), or folders: of such
            tables, or of images.
        caption_column: Column of the captions; null looks for ``CAPTIONS``.
        url_column: Column of the addresses; null looks for ``URLS``.
        names_are_captions: An image without a caption is called by its file's name.
        samples: Rows a shard, at most.
        size: Bytes a shard, about at most.
    """

    inputs: tuple[str, ...]
    caption_column: str | None = None
    url_column: str | None = None
    names_are_captions: bool = False
    samples: int = 10_000
    size: int = 1 << 30


@dataclass(slots=True)
class ConversionResult:
    """Progress of a conversion; kept beside the shards, so that a second call resumes.

    Attributes:
        order: What it was made from.
        rows: Rows read of the source, good and bad.
        samples: Samples in every shard.
        bad: Rows that are in no shard, by reason.
        examples: Some of them: where, and why.
        complete: Whether the source was read to its end.
    """

    order: dict[str, Any]
    rows: int = 0
    samples: list[int] = field(default_factory=list)
    bad: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    complete: bool = False

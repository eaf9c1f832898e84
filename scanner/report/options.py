"""What is asked of a page, and what an audit adds to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scanner.analysis.findings import Finding
from scanner.matching.copies import Group
from scanner.report.banner import Banner
from scanner.report.items import RowMark
from scanner.report.thumbnails import Images
from scanner.report.trend import Night
from scanner.statistics.calibration import Calibration

IMAGE_CAP = 48 * 1024 * 1024
MOST_FINDINGS = 50_000
MOST_GROUPED = 20_000
"""Findings among which near-identical captions are looked for: few words in all captions make that
quadratic."""
MOST_SHARDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """Options of a page.

    Attributes:
        images: Where training images come from; null leaves every picture out.
        redact: Whether captions are withheld; hashes and keys stay.
        fdr: Flag by this false-discovery rate instead of the run's own rule.
        image_cap: The most bytes of pictures.
        calibration: What the run was scanned with, for the threshold.
        title: Heading.
    """

    images: Images | None = None
    redact: bool = False
    fdr: float | None = None
    image_cap: int = IMAGE_CAP
    calibration: Calibration | None = None
    title: str = "Memorization report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """Remarks that an audit adds to the page of its run.

    Attributes:
        banner: Its verdict; null says what a plain scan found.
        alarms: How many findings alarm.
        share: How much of the corpus is scanned, such as ``98%``, and of what.
        date: When it was, for people.
        corpus: Addresses of its shards.
        marks: What it says of findings, by identity, in its own order: the worst first.
        gone: Findings that are resolved, as they were.
        notes: Sentences that stand on top.
        facts: Further rows of the table of particulars, name and text.
        stamps: Further lines of what a page on paper is filed by, name and text.
        copies: Images of the corpus that copy a finding, by its identity.
        nights: This audit and earlier ones, the latest last.
    """

    banner: Banner | None = None
    alarms: int = 0
    share: tuple[str, str] = ("", "")
    date: str = ""
    corpus: Sequence[str] = ()
    marks: Mapping[str, RowMark] = field(default_factory=dict)
    gone: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    stamps: Sequence[tuple[str, str]] = ()
    copies: Mapping[str, Group] = field(default_factory=dict)
    nights: Sequence[Night] = ()

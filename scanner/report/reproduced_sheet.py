"""The sheet of samples that a model was asked to reproduce."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from PIL import Image

from scanner.analysis.evidence import colour_scale, gather
from scanner.analysis.query import connect
from scanner.matching.reproduced import Reproduced
from scanner.report.panel import sheet
from scanner.results.folder import Results
from scanner.shards import reading

MOST_ROWS = 24


def reproduced_sheet(
    results: Results, run: str, found: Sequence[Reproduced], title: str
) -> Image.Image:
    """Return the first samples that have an image as the rows of one picture.

    Args:
        results: The results folder.
        run: The run.
        found: Samples, the most often given back first.
        title: Above all of it.

    Raises:
        ConfigError: If no sample has an image.
    """
    often = Counter(one.key for one in found)
    with closing(connect(results, runs=[run])) as con:
        rows = [
            gather(
                con, one.key if often[one.key] == 1 else one.caption_sha256, reading.image,
                label=" ".join(one.cells()[:2]),
            )
            for one in [one for one in found if one.drawn][:MOST_ROWS]
        ]  # fmt: skip
        return sheet(rows, colour_scale(con), title=title)

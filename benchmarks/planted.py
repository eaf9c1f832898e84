"""What the benchmarks of detection share: testbeds, their samples, and numbers with intervals."""

import hashlib
import io
from argparse import ArgumentParser, RawTextHelpFormatter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanner.analysis.detection import family_weights, ranking
from scanner.models.base import Denoiser
from scanner.records import Caption, ChunkResult
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, repeated

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BATCH = 32
HELD_OUT, TRAINED = 1_000_000, 0
"""Copy numbers of a picture that was not drawn in training, and of one that was."""
DRAWS = 1000
"""Bootstrap samples of caption families."""
_UNTIL_THE_END = ExitStack()


@dataclass(frozen=True, slots=True)
class Testbed:
    """A pipeline and the corpus that it was trained on.

    Attributes:
        folder: Holds ``pipeline`` and ``early``.
        seed: The corpus seed.
    """

    folder: Path
    seed: int


def testbeds(others: Sequence[Sequence[str]] | None) -> list[Testbed]:
    """Return the shipped testbed and those of the command line."""
    return [Testbed(WEIGHTS, SHIPPED_SEED), *(Testbed(Path(f), int(s)) for f, s in others or ())]


def options(about: str | None) -> ArgumentParser:
    """Return the options that these benchmarks have in common.

    Args:
        about: What the benchmark does.
    """
    parser = ArgumentParser(description=about, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what was measured")
    parser.add_argument(
        "--testbed", nargs=2, action="append", metavar=("DIR", "SEED"),
        help="a further trained testbed and its corpus seed; repeat",
    )  # fmt: skip
    parser.add_argument("--negatives", type=int, default=160, help="fresh negatives a split")
    return parser


@dataclass(frozen=True, slots=True)
class Sample:
    """A caption beside an image.

    Attributes:
        item: Whose caption it is.
        image: Encoded.
        what: Which image of the caption's, or whose.
    """

    item: corpus.Item
    image: bytes
    what: str

    def as_caption(self) -> Caption:
        """Return it as a scan takes it; the key says which sample it is."""
        digest = hashlib.sha256(self.image + self.item.caption.encode()).hexdigest()[:16]
        return Caption("planted", f"{self.what}-{digest}", self.item.caption, image=self.image)


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture as PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")
    return stream.getvalue()


def drawn(seed: int, item: corpus.Item, copy: int) -> bytes:
    """Return a picture of the corpus as PNG."""
    return encoded(corpus.picture(seed, item, copy))


def own(seed: int, items: Sequence[corpus.Item]) -> list[Sample]:
    """Return each caption beside an image that training never drew, a verbatim one's apart."""
    return [
        Sample(item, drawn(seed, item, TRAINED if item.kind == "verbatim" else HELD_OUT), "own")
        for item in items
    ]


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan of samples.

    Attributes:
        scores: By column, one per sample in order.
        evaluations: Forward evaluations a sample.
        result: Its rows.
        keys: Of the samples, in order.
    """

    scores: dict[str, Floats]
    evaluations: float
    result: ChunkResult
    keys: list[str]


def scanned(
    denoiser: Denoiser, spec: ScanSpec, of: Sequence[Sample], *,
    baselines: Mapping[str, Denoiser] | None = None, calibration: Calibration | None = None,
) -> Scanned:  # fmt: skip
    """Scan samples in this process."""
    scanner = Scanner(
        denoiser, spec, baselines=baselines or {}, calibration=calibration, batch_size=BATCH
    )
    captions = [sample.as_caption() for sample in of]
    if not spec.captions:
        captions = [Caption(c.shard, c.key, "", image=c.image) for c in captions]
    result = scanner.scan(captions)
    rows = {row.caption.key: row for row in result.scores}
    ordered = [rows[caption.key] for caption in captions]
    scores = {"delta_s": np.array([row.delta_s for row in ordered], float)}
    for column in ordered[0].extra:
        scores[column] = np.array([row.extra[column] for row in ordered])
    each = scanner.evaluations["forward"] / len({caption.key for caption in captions})
    return Scanned(scores, each, result, [caption.key for caption in captions])


def shortened(*networks: Denoiser) -> None:
    """Let transformers of the testbed take one token of zeros for all 256 that T5 would give.

    What they give is the same (tests/testbed/test_benchmark_training.py), for a third of the cost.
    Every Stable Diffusion 3 of this process is told so until it ends.
    """
    _UNTIL_THE_END.enter_context(repeated.shortened(networks))


@dataclass(slots=True)
class Number:
    """A number of one or several corpora, with what resampling their captions does to it.

    Attributes:
        points: One per corpus.
        draws: Its bootstrap samples, ``(DRAWS,)`` each; none where there is no interval.
        digits: Decimals to show.
    """

    points: list[float]
    draws: list[Floats] = field(default_factory=list)
    digits: int = 3

    def __str__(self) -> str:
        """Return the mean over corpora, and its 95% interval where that is not a point."""
        mean = f"{np.mean(self.points):.{self.digits}f}"
        if not self.draws:
            return mean
        bounds = np.nanquantile(np.mean(self.draws, axis=0), [0.025, 0.975])
        low, high = (f"{bound:.{self.digits}f}" for bound in bounds)
        return mean if low == high else f"{mean} ({low}–{high})"

    def as_json(self) -> dict[str, object]:
        """Return the numbers of each corpus, and the text."""
        return {"corpora": self.points, "text": str(self)}


Cell = Number | str


def joined(cells: Sequence[Cell]) -> Cell:
    """Return the same cell of several corpora as one: a number of those that have one."""
    numbers = [cell for cell in cells if isinstance(cell, Number)]
    if not numbers:
        return cells[0]
    points = [point for cell in numbers for point in cell.points]
    return Number(points, [draw for cell in numbers for draw in cell.draws], numbers[0].digits)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


@dataclass(frozen=True, slots=True)
class Table:
    """Heads, and rows of cells."""

    head: list[str]
    rows: list[list[Cell]]

    def markdown(self) -> str:
        """Return it as Markdown."""
        return "\n".join(markdown(self.head, [[str(cell) for cell in row] for row in self.rows]))

    def as_json(self) -> dict[str, object]:
        """Return it for a program."""
        rows = [[c if isinstance(c, str) else c.as_json() for c in row] for row in self.rows]
        return {"head": self.head, "rows": rows}


def together(tables: Sequence[Table]) -> Table:
    """Return the same table of several corpora as one."""
    rows = [
        [joined(cells) for cells in zip(*same, strict=True)]
        for same in zip(*(table.rows for table in tables), strict=True)
    ]
    return Table(tables[0].head, rows)


def weights(of: Sequence[Sample], positive: Bools) -> Floats:
    """Return how often each sample counts: once, then in each bootstrap sample of families."""
    families = np.array([sample.item.family for sample in of])
    drawn = family_weights(families, positive, DRAWS, np.random.default_rng(0))
    return np.concatenate([np.ones((1, len(of))), drawn])


def ranked(scores: Floats, positive: Bools, weight: Floats) -> list[Number]:
    """Return AUC, and TPR at 1% and at 0.1% FPR."""
    found = ranking(scores, positive, weight)
    return [
        Number([float(values[0])], [values[1:]])
        for values in (found.auc, found.tpr["1%"], found.tpr["0.1%"])
    ]


def auc(scores: Floats, positive: Bools, negative: Bools, of: Sequence[Sample]) -> Number:
    """Return the AUC of some samples against others."""
    chosen = positive | negative
    few = [sample for sample, is_in in zip(of, chosen, strict=True) if is_in]
    values = ranking(scores[chosen], positive[chosen], weights(few, positive[chosen])).auc
    return Number([float(values[0])], [values[1:]])


def written(page: Path, marks: tuple[str, str], content: str) -> None:
    """Put tables between two lines of a page.

    Args:
        page: Markdown.
        marks: The lines.
        content: What comes between them.
    """
    before, _, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, found, after = rest.partition(marks[1])
    if not found:
        raise SystemExit(f"{page} must have the lines {marks[0]} and {marks[1]}")
    whole = f"{before}{marks[0]}\n{content}\n{marks[1]}{after}"
    page.write_text(whole, encoding="utf-8")

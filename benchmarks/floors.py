r"""Which floor of masks holds on a model that it was not chosen on?

    python benchmarks/floors.py NULLS RESULTS TRUTH
    M=benchmark/unet-1/measured/step-09000
    python benchmarks/floors.py $M/scan/nulls $M/scan/results benchmark/corpus/truth-1.parquet \
        --scores $M/scores.parquet      # of captions that are given back alone

NULLS is the results folder beside a calibration, RESULTS that of a scan with ``--localize all``.
Of Δh and Δs against the unconditional branch, a row a floor: the mean IoU of masks with memorized
regions, and the share of clean captions whose mask is smaller than the smoothing window.
"""

from argparse import ArgumentParser, RawTextHelpFormatter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from planted import markdown

from scanner.analysis import levels
from scanner.analysis.captions_and_maps import maps_of
from scanner.analysis.fit import pixel_threshold, typical_level
from scanner.analysis.query import connect
from scanner.analysis.truth import Truth, read
from scanner.masks import from_heatmap, intersection_over_union, region, resize
from scanner.results.folder import Results
from scanner.statistics.calibration import MASK_SHARE
from scanner.testbed.benchmark import detection

FLOORS = {
    "pooled": lambda maps: pixel_threshold(maps, 0.01), "typical": typical_level,
    "none": lambda maps: -np.inf,
}  # fmt: skip


def maps_in(folder: Path, metric: str) -> dict[str, tuple[bytes, int, int]]:
    """Return heatmap, height and width of each caption's map."""
    with closing(connect(Results(str(folder)))) as con:
        return {r[0]: (r[3], r[1], r[2]) for r in maps_of(con, metric, "null")}


def regions(truth: Path, scores: Path | None) -> dict[str, Truth]:
    """Return the truth of the captions that are looked at."""
    if scores is None:
        return read(truth)
    captions = detection.read(pq.read_table(scores))
    shas = captions.about["caption_sha256"].tolist()
    wanted = dict(zip(shas, captions.given_back.tolist(), strict=True))
    return {sha: known for sha, known in read(truth).items() if wanted.get(sha)}


def rows_of(nulls: Path, found: Path, known: dict[str, Truth]) -> Iterator[list[str]]:
    """Yield a row for each metric and floor."""
    for metric in ("delta_h", "delta_s"):
        null, maps = maps_in(nulls, metric), maps_in(found, metric)
        if not null or not maps:
            continue
        clean = {s: m for s, m in maps.items() if s in known and not known[s].memorized} or null
        for name, floor in FLOORS.items():
            level = floor(null.values())
            overlaps: dict[str, list[float]] = {"template": [], "verbatim": []}
            for sha, stored in maps.items():
                truth = known.get(sha)
                if truth is not None and truth.memorized and truth.mask is not None:
                    mask = region(from_heatmap(*stored), level, MASK_SHARE)[1]
                    mask = resize(mask, *truth.mask.shape)
                    overlaps[truth.kind].append(intersection_over_union(mask, truth.mask))
            areas = [region(from_heatmap(*m), level, MASK_SHARE)[1].mean() for m in clean.values()]
            cells = [f"{np.mean(v):.3f} of {len(v)}" if v else "" for v in overlaps.values()]
            yield [
                metric,
                name,
                *cells,
                f"{np.mean(np.array(areas) < levels.NONE):.2f} of {len(areas)}",
            ]


def main() -> None:
    """Measure and print."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    for name in ("nulls", "results", "truth"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--scores", type=Path, help="a table of memscan benchmark measure")
    asked = parser.parse_args()
    rows = rows_of(asked.nulls, asked.results, regions(asked.truth, asked.scores))
    head = ["map", "floor", "templates", "verbatim", "clean: nothing"]
    print("\n".join(markdown(head, list(rows))))


if __name__ == "__main__":
    main()

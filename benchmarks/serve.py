"""The web application over a million captions: its first page, its searches, and its memory.

    python benchmarks/serve.py --captions 1000000 --folder /tmp/serve-benchmark

makes real results (committed like a scan's; a folder that has them already is taken as it is),
starts `memscan serve` on them, and times what a reader does, in milliseconds, from the request to
the last byte: median and worst of ``--repeats``. Memory is what the server's process has at its
highest (VmHWM).
"""

import argparse
import http.cookiejar
import json
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import numpy as np

from scanner.masks import to_heatmap, to_runs
from scanner.records import Caption, ChunkResult, MaskRow, ScoreRow
from scanner.results.folder import Results
from scanner.spec import ScanSpec

RUN, CHUNK, MAPS_OF_CHUNK, SIDE = "0123456789ab", 5000, 20, 64
WORDS = (  # noqa: SIM905
    "red blue green golden small large old modern photo painting poster print of the a with in "
    "on canvas wall art mountain lake forest city street night morning woman man child dog cat "
    "horse car train bridge flower garden kitchen table chair phone case vintage abstract "
    "landscape portrait design business classic sale texas austin london paris river ocean "
    "beach sunset galaxy aztec podcast book cover album star wars movie lamp mug shirt dress "
    "shoe bag watch ring necklace wooden metal glass leather cotton "
).split()
QUERIES = {
    "first page": {},
    "search: a common word": {"q": "mountain"},
    "search: three words": {"q": "vintage canvas bridge"},
    "search: a rare number": {"q": "no. 777777"},
    "search: nothing": {"q": "zzzz"},
    "flagged": {"flagged": "yes"},
    "copies": {"match": "verbatim"},
    "by another score": {"sort": "wen"},
    "flagged, a word, by p-value": {"flagged": "yes", "q": "poster", "sort": "p_value"},
}  # fmt: skip


def make(folder: Path, captions: int) -> Results:
    """Write results with so many captions, one in a hundred flagged, some with maps."""
    results = Results(folder / "results")
    if results.exists():
        return results
    rng = np.random.default_rng(1)
    record: dict[str, object] = {
        "started": "2026-01-01T00:00:00+00:00", "status": "complete",
        "identity": {"model": "0123456789ab"}, "spec": asdict(ScanSpec(seeds=(0, 1))),
    }  # fmt: skip
    results.write_run(RUN, record)
    for start in range(0, captions, CHUNK):
        chunk = rows(rng, start, min(CHUNK, captions - start))
        assert results.commit(
            RUN, f"c{start:08d}", chunk, extra=["wen"], facts={"samples": len(chunk.scores) // 2}
        )
    return results


def rows(rng: np.random.Generator, start: int, number: int) -> ChunkResult:
    """Return the rows of one chunk: each caption under two seeds."""
    words = rng.integers(0, len(WORDS), (number, 9))
    scores = rng.lognormal(0, 0.5, (number, 2))
    found, maps = list[ScoreRow](), list[MaskRow]()
    field = np.add.outer(np.arange(SIDE), np.arange(SIDE)) * 1.0
    heat, runs = to_heatmap(field), to_runs(field > 64)
    for n in range(number):
        text = f"{' '.join(WORDS[w] for w in words[n])} no. {start + n}"
        caption = Caption(f"shards/{start:08d}.tar", f"{start + n:09d}", text)
        flagged = n % 100 == 0
        score = scores[n] * (100 if flagged else 1)
        p_value = 0.0001 if flagged else float(rng.random())
        found += [
            ScoreRow(
                caption, seed, stage="detect", delta_s=float(score[seed]), p_value=p_value,
                p_kind="conformal", seed_p_value=p_value, flagged=flagged,
                extra={"wen": float(score[seed] ** 0.5)},
            )
            for seed in (0, 1)
        ]  # fmt: skip
        if flagged and len(maps) < MAPS_OF_CHUNK:
            maps.append(
                MaskRow(
                    caption, 0, metric="delta_h", baseline="null", height=SIDE, width=SIDE,
                    threshold=64.0, mask=runs, area=0.5, heatmap=heat, sigma=0.05,
                    match="verbatim" if n % 200 == 0 else "none", match_mse=0.01,
                )
            )  # fmt: skip
    return ChunkResult(found, maps, [])


def started(results: Path) -> tuple[subprocess.Popen[str], str, float]:
    """Start the server; return it, its address and the seconds until it answered."""
    begun = time.perf_counter()
    words = [sys.executable, "-m", "scanner", "serve", str(results), "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    link = server.stdout.readline().split()[1]
    return server, link, time.perf_counter() - begun


def measured(server: subprocess.Popen[str], link: str, repeats: int) -> dict[str, object]:
    """Return the times of every query of `QUERIES` and of what follows from a row."""
    browser = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    )
    base = link.partition("?")[0]
    browser.open(link).read()

    def timed(path: str) -> tuple[float, str]:
        begun = time.perf_counter()
        text = browser.open(base + path).read().decode("utf-8", "replace")
        return 1000 * (time.perf_counter() - begun), text

    first, page = timed("")
    row = re.findall(r'data-id="(\w+)"', page)[3]
    paths = {name: f"?{urlencode(asked)}" for name, asked in QUERIES.items()}
    paths["the page behind"] = f"?{urlencode({'after': row})}"
    paths["the last page"] = f"?{urlencode({'sort': 'wen', 'order': 'reversed'})}"
    paths["one caption"] = f"caption?{urlencode({'id': row, 'flagged': 'yes'})}"
    paths["SQL: a group by"] = "sql?" + urlencode(
        {"sql": "SELECT flagged, count(*) FROM captions GROUP BY 1"}
    )
    found: dict[str, object] = {
        "the very first page": {"median_ms": round(first), "worst_ms": round(first)}
    }
    for name, path in paths.items():
        times = sorted(timed(path)[0] for _ in range(repeats))
        found[name] = {"median_ms": round(median(times)), "worst_ms": round(times[-1])}
    status = Path(f"/proc/{server.pid}/status").read_text()
    for word in ("VmHWM", "VmRSS"):
        found[f"{word}_MiB"] = round(int(re.findall(rf"{word}:\s+(\d+)", status)[0]) / 1024)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    results = make(asked.folder, asked.captions)
    server, link, seconds = started(asked.folder / "results")
    try:
        figures = measured(server, link, asked.repeats)
    finally:
        server.terminate()
        server.wait()
    print(
        json.dumps(
            {"captions": asked.captions, "seconds until it answers": round(seconds, 1), **figures},
            indent=1,
        )
    )

"""The report page at thousands of findings: its size, what it takes to build and to use it.

    python benchmarks/report.py --findings 50000 --folder /tmp/report-benchmark

makes real results (committed like a scan's, with 512-pixel training images in real shards), builds
the page of an audit and its PDF, opens it in headless Chromium and times what a reader does, in
milliseconds: from the event to the second frame after it, so that layout and painting are in it.
`nothing` is that wait alone.
"""

import argparse
import hashlib
import io
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from webdataset.writer import TarWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from browser import CHROMIUM, Page, browser

from scanner.masks import to_heatmap, to_runs
from scanner.records import Caption, ChunkResult, MaskRow, ScoreRow, caption_hash
from scanner.report.banner import Banner
from scanner.report.items import RowMark
from scanner.report.page import PageOptions, Remarks, as_html, content
from scanner.report.paper import as_pdf
from scanner.report.trend import Night
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import ScanSpec, run_id
from scanner.statistics.calibration import Calibration

MODEL, SPEC = "0123456789ab", ScanSpec(seeds=(0,), fpr=0.001)
PICTURES, PER_SHARD, CLEAR = 120, 250, 3
HOSTILE = (
    "</script><script>document.title='pwned'</script>",
    "javascript:alert(1) <a href='javascript:1'>",
    "\u202eright to left \u0645\u0631\u062d\u0628\u0627",
    "emoji \U0001f469\u200d\U0001f680 \u6f22\u5b57",
    "long " * 13_000,
    "two\nlines\r\n",
)
WORDS = (
    "living in the light with ann graham lotz", "mothers influence on her young hippo",
    "the no limits business woman podcast", "classic cars for sale in austin texas",
    "design art mountain landscape, 5 piece canvas wall art", "aztec galaxy phone case",
)  # fmt: skip


def cloudy(rng: np.random.Generator, side: int, slope: float) -> NDArray[np.float64]:
    """Return a field whose spectrum falls as photographs' do, 0 to 1."""
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    f[0, 0] = 1
    waves = np.fft.fft2(rng.standard_normal((side, side))) / f**slope
    field = np.real(np.fft.ifft2(waves))
    return (field - field.min()) / np.ptp(field)


def jpeg(rng: np.random.Generator, side: int = 512) -> bytes:
    """Return a picture that compresses like a photograph."""
    channels = np.stack([cloudy(rng, side, 1.4) for _ in range(3)], -1)
    x, y = rng.integers(0, side // 2, 2)
    channels[y : y + side // 3, x : x + side // 3] = rng.random(3)
    out = io.BytesIO()
    Image.fromarray((channels * 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def make(folder: Path, number: int) -> tuple[Results, str, Calibration]:
    """Write results with so many findings and three times as many clear captions."""
    rng = np.random.default_rng(1)
    pictures = [jpeg(rng) for _ in range(PICTURES)]
    maps = [1e4 * np.maximum(cloudy(rng, 64, 1.0) - 0.5, -0.1) for _ in range(PICTURES)]
    null = tuple(np.sort(rng.lognormal(0, 0.5, 2000)).tolist())
    calibration = Calibration(MODEL, SPEC.score_fingerprint(), null, {}, 0.01, 2000, "")
    run = run_id(MODEL, SPEC, calibration.fingerprint())
    results = Results(folder / "results")
    results.write_run(run, {
        "started": "2026-01-01T00:00:00+00:00", "status": "complete", "spec": asdict(SPEC),
        "identity": {"model": MODEL, "calibration": calibration.fingerprint()},
    })  # fmt: skip
    for start in range(0, number, PER_SHARD):
        shard = str(folder / f"shard-{start // PER_SHARD:05d}.tar")
        count = min(PER_SHARD, number - start)
        rows = chunk(rng, shard, start, count, pictures, maps, calibration)
        with TarWriter(shard) as tar:
            for i, row in enumerate(rows.masks):
                tar.write({"__key__": row.caption.key, "txt": row.caption.text,
                           "jpg": pictures[(start + i + 1) % PICTURES]})  # fmt: skip
        facts: dict[str, object] = {"samples": count * (1 + CLEAR)}
        results.commit(run, f"chunk-{start:06d}", rows, extra=(), facts=facts)
    return results, run, calibration


def text_of(n: int) -> str:
    """Return a caption: half are of six families, the rest unlike each other."""
    if n % 100 == 99:
        return f"{HOSTILE[n // 100 % len(HOSTILE)]} {n}"
    if n % 4 < 2:
        return f"{WORDS[n // 4 % len(WORDS)]} {n}"
    return " ".join(hashlib.sha256(f"{n} {place}".encode()).hexdigest()[:7] for place in range(6))


def marked(number: int) -> dict[str, RowMark]:
    """Return an audit's remarks: a tenth is new and alarms."""
    levels = ("critical", "high", "medium", "low")
    return {
        caption_hash(text_of(n)): RowMark(
            "new" if n % 10 == 0 else "persisting", "new data" if n % 10 == 0 else "",
            levels[n % 4], alarms=n % 10 == 0,
        )
        for n in sorted(range(number), key=lambda n: (n % 10 > 0, n % 4))
    }  # fmt: skip


def chunk(
    rng: np.random.Generator, shard: str, start: int, count: int, pictures: list[bytes],
    maps: list[NDArray[np.float64]], calibration: Calibration,
) -> ChunkResult:  # fmt: skip
    """Return the rows of one shard."""
    out = ChunkResult()
    for n in range(start, start + count):
        text = text_of(n)
        caption = Caption(shard, f"{n:08d}", text, f"https://site-{n % 37}.example/{n}.jpg")
        score = float(rng.lognormal(4, 0.8))
        p_value = calibration.p_value(score)
        out.scores.append(
            ScoreRow(caption, 0, stage="localize", delta_s=score, p_value=p_value, flagged=True)
        )
        values = maps[n % len(maps)]
        region = values > 500
        match = ("verbatim", "template", "none", None)[n % 4]
        out.masks.append(MaskRow(
            caption, 0, metric="delta_h", baseline="null", height=64, width=64,
            heatmap=to_heatmap(values), sigma=0.05, threshold=500.0, mask=to_runs(region),
            area=float(region.mean()), image=pictures[n % len(pictures)], match=match,
            match_mse=None if match is None else float(rng.random()) * 0.1,
        ))  # fmt: skip
        for m in range(CLEAR):
            other = replace(caption, key=f"{n:08d}-{m}", text=f"clear {n} {m}")
            score = float(rng.lognormal(0, 0.5))
            p_value = calibration.p_value(score)
            out.scores.append(
                ScoreRow(other, 0, stage="detect", delta_s=score, p_value=p_value, flagged=False)
            )
    return out


TWO_FRAMES = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"


def timed(page: Page, action: str, repeats: int = 5) -> float:
    """Return the median milliseconds of an action, up to the frame that shows it."""
    script = (
        f"(async () => {{ const t = performance.now(); {action}; await {TWO_FRAMES}; "
        "return performance.now() - t; })()"
    )
    return round(median(float(str(page.run(script))) for _ in range(repeats)), 1)


def chosen(field: str, *values: str) -> str:
    """Return an action that goes on to the next of some values of a field."""
    return (
        f"const e = document.getElementById('{field}'), v = {list(values)}; "
        "e.value = v[(v.indexOf(e.value) + 1) % v.length]; "
        "e.dispatchEvent(new Event('input', {bubbles: true}))"
    )


def chip(*names: str) -> str:
    """Return an action that goes on to the next of some states."""
    return (
        f"const v = {list(names)}, on = document.querySelector('.chip[aria-pressed=true]').dataset"
        ".state, name = v[(v.indexOf(on) + 1) % v.length]; "
        "[...document.querySelectorAll('.chip')].find(c => c.dataset.state === name).click()"
    )


def use(target: Path, folder: Path) -> dict[str, object]:
    """Open the page as a reader does and return how long things take, in milliseconds."""
    with browser(folder, patience=180) as seen:
        seen.resize(1440, 900)
        begun = time.monotonic()
        seen.open(target)
        loaded = 1000 * (time.monotonic() - begun)
        ready = seen.run("performance.getEntriesByName('interactive')[0].startTime")
        paint = seen.run("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        found = {
            "first paint": paint,
            "interactive": ready,
            "loaded": loaded,
            "nothing": timed(seen, "0"),
            "sort": timed(seen, chosen("sort", "d", "n", "c", ""), 4),
            "filter": timed(seen, chosen("match", "verbatim", "template", ""), 6),
            "search": timed(seen, chosen("q", "austin", "site-7", "aztec 1", ""), 4),
            "state": timed(seen, chip("new", ""), 6),
            "group or not": timed(seen, "document.getElementById('group').click()", 6),
            "open a family": timed(seen, "document.querySelector('.more-like').click()"),
            "next page": timed(seen, "document.getElementById('next').click()"),
            "open": timed(seen, "document.querySelector('.card').click()"),
            "close": timed(seen, "document.getElementById('d-close').click()", 1),
            "240 a page": timed(seen, chosen("size", "240"), 1),
            "back in history": timed(seen, "history.back()", 3),
            "scroll": timed(seen, "window.scrollBy(0, 3000)", 10),
        }
        found["heap MiB"] = float(str(seen.run("performance.memory.usedJSHeapSize"))) / 2**20
        found["elements"] = seen.run("document.getElementsByTagName('*').length")
        assert not seen.problems, seen.problems[:5]
        assert [u for u in seen.requests if not u.startswith("data:")] == [target.as_uri()]
    return {k: round(v, 1) if isinstance(v, float) else v for k, v in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--findings", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/report-benchmark"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    results, run, calibration = make(given.folder, given.findings)
    target = given.folder / "report.html"
    options = PageOptions(images=reading.images, calibration=calibration)
    begun = time.monotonic()
    marks = marked(given.findings)
    nights = [Night(f"2026-01-{day:02d}", 1000 * day, 500, day / 14) for day in range(1, 15)]
    remarks = Remarks(banner=Banner("ALARM", "a benchmark"), marks=marks, nights=nights)
    shown = content(results, run, options, remarks=remarks)
    target.write_text(as_html(shown), encoding="utf-8")
    built = time.monotonic() - begun
    begun = time.monotonic()
    (given.folder / "report.pdf").write_bytes(as_pdf(shown))
    told: dict[str, object] = {
        "findings": given.findings,
        "build s": round(built, 1),
        "pdf s": round(time.monotonic() - begun, 1),
        "page MiB": round(target.stat().st_size / 2**20, 1),
    }
    if CHROMIUM:
        told |= use(target, given.folder)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()

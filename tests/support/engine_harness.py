"""What the tests of the engine share: shards, jobs, rows, and scanners that misbehave."""

import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import webdataset

from scanner.engine import Job, Resources, scan
from scanner.engine.worker import build_scanner
from scanner.models.gaussian import Gaussian
from scanner.results.folder import Results
from scanner.scan.scanner import Scanner
from scanner.shards import reading
from scanner.spec import ScanSpec

SPEC = ScanSpec(steps=2, probes=1, localize="flagged", threshold=0.0)
CHUNK = 4


def write_shard(path: Path, captions: list[str]) -> Path:
    with webdataset.TarWriter(str(path)) as tar:
        for number, caption in enumerate(captions):
            tar.write({"__key__": f"{number:05d}", "txt": caption})
    return path


def job_of(paths: list[Path], results: Path, **changes) -> Job:
    settings = {"model": "gaussian", "spec": SPEC, "chunk_size": CHUNK, "batch_size": 4}
    addresses = tuple(reading.expand([str(path) for path in paths]))
    return Job(shards=addresses, results=str(results), **(settings | changes))


def run(job: Job, *, actors: int = 2, progress=lambda event: None, **settings):
    return scan(job, Resources(actors=actors, device="cpu", threads=1), progress, **settings)


def rows(root: Path, table: str = "scores") -> list[str]:
    results = Results(str(root))
    found = [
        str(sorted(row.items()))
        for file in results.files(table, results.runs())
        for row in pq.read_table(file, partitioning=None).to_pylist()
    ]
    return sorted(found)


def keys(root: Path, table: str = "scores") -> list[tuple[str, str]]:
    results = Results(str(root))
    found = []
    for file in results.files(table, results.runs()):
        content = pq.read_table(file, partitioning=None, columns=["shard", "key"]).to_pylist()
        found += [(Path(row["shard"]).name, row["key"]) for row in content]
    return sorted(found)


def slow_build(folder: Path, seconds: float):
    """Return what makes scanners that leave their process id in a folder and take their time."""

    def build(job, device):
        (folder / str(os.getpid())).touch()
        scanner = build_scanner(job, device)
        detect_at_once = scanner.detect

        def detect_slowly(captions, known=None):
            time.sleep(seconds)
            return detect_at_once(captions, known)

        scanner.detect = detect_slowly
        return scanner

    return build


def striking_build(text: str, strike):
    """Return what makes scanners that call ``strike`` on a caption instead of scanning it."""

    def build(job, device):
        scanner = build_scanner(job, device)
        detect_calmly = scanner.detect

        def detect_or_strike(captions, known=None):
            if any(caption.text == text for caption in captions):
                strike()
            return detect_calmly(captions, known)

        scanner.detect = detect_or_strike
        return scanner

    return build


def cramped_build(folder: Path, cramped: int):
    """Return what makes scanners of which the first so many have no memory for one draw."""

    class Cramped(Gaussian):
        def score(self, x, level, condition):
            raise MemoryError("no room")

    def build(job, device):
        number = len(list(folder.iterdir()))
        (folder / str(os.getpid())).touch()
        kind = Cramped if number < cramped else Gaussian
        return Scanner(kind(device), job.spec, batch_size=job.batch_size)

    return build

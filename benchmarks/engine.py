"""The engine alone: rows a second and memory, with a denoiser that costs next to nothing.

The denoiser has latents of four numbers, one step and no maps, so what is left is the engine:
reading tars, handing out chunks, seeding noise, making rows, Parquet, commits. Each size runs in a
driver of its own, with two actors of one thread on a local Ray; then once more, to see what it
costs to resume a finished run. The last column does not depend on what else the machine does: the
processor time of driver and workers from the first commit to the end, by the rows committed in it.

    python benchmarks/engine.py 10000 100000 1000000
"""

from __future__ import annotations  # what is pickled by value takes no annotations along

import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
PER_SHARD = 10_000


def write_shards(folder: Path, captions: int) -> list[str]:
    """Write captions, all different, into tars of 10,000."""
    paths = []
    for first in range(0, captions, PER_SHARD):
        paths.append(str(folder / f"{first // PER_SHARD:05d}.tar"))
        with tarfile.open(paths[-1], "w", format=tarfile.USTAR_FORMAT) as archive:
            for n in range(first, min(captions, first + PER_SHARD)):
                content = f"a picture of thing number {n} in some other place".encode()
                info = tarfile.TarInfo(f"{n:09d}.txt")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return paths


def build(job: Any, device: str) -> Any:
    """Return a scanner whose denoiser multiplies four numbers."""
    import torch

    from scanner.models.gaussian import Gaussian
    from scanner.scan.scanner import Scanner

    class Trivial(Gaussian):
        latent_shape = (1, 2, 2)

        def encode(self, captions: Any) -> Any:
            return torch.tensor([len(text) % 7 / 7 for text in captions]).reshape(-1, 1, 1, 1)

        def score(self, x: Any, level: Any, condition: Any) -> Any:
            return (condition - 1) * x

    return Scanner(Trivial(device), job.spec, batch_size=job.batch_size)


def measure(folder: Path, shards: list[str]) -> dict[str, float]:
    """Scan in this process and say what it took."""
    import psutil

    from scanner.engine import Job, Resources, scan
    from scanner.engine.cluster import cluster
    from scanner.spec import ScanSpec

    peaks: dict[int, float] = {}
    last, spent = 0.0, list[tuple[int, float]]()

    def watch(event: Any) -> None:
        nonlocal last
        if event.kind == "end" or (event.kind == "chunk" and not spent):
            spent.append((event.samples_done, processor_seconds()))
        if event.kind != "chunk" or time.monotonic() - last < 0.5:
            return
        last = time.monotonic()
        for child in psutil.Process().children(recursive=True):
            title = (child.cmdline() or [""])[0] if child.is_running() else ""
            if title.startswith("ray::Worker"):
                peaks[child.pid] = max(peaks.get(child.pid, 0), child.memory_info().rss)

    spec = ScanSpec(steps=1, probes=1, localize="none", guidance_scale=1.0)
    job = Job(
        model="gaussian", shards=tuple(shards), results=str(folder / "results"), spec=spec,
        batch_size=256,
    )  # fmt: skip
    with cluster():
        start = time.monotonic()
        summary = scan(job, Resources(actors=2, device="cpu", threads=1), watch, build=build)
        seconds = time.monotonic() - start
    (before, then), (after, now) = spent[0], spent[-1]
    driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "samples": summary.samples, "done": summary.chunks_done, "seconds": round(seconds, 1),
        "rows_per_second": round(summary.samples / seconds), "driver_mib": round(driver),
        "actors_mib": round(max(peaks.values(), default=0) / 2**20),
        "microseconds": round(1e6 * (now - then) / max(1, after - before)),
    }  # fmt: skip


def processor_seconds() -> float:
    """Return what this process and Ray's workers have used so far."""
    import psutil

    found = psutil.Process().cpu_times()
    seconds = found.user + found.system
    for child in psutil.Process().children(recursive=True):
        try:
            if (child.cmdline() or [""])[0].startswith("ray::"):
                times = child.cpu_times()
                seconds += times.user + times.system
        except psutil.Error:
            continue
    return seconds


def main() -> None:
    if sys.argv[1] == "--measure":
        print(json.dumps(measure(Path(sys.argv[2]), sys.argv[3:])))
        return
    heads = ["captions", "s", "rows/s", "driver MiB", "actor MiB", "resume s"]
    heads += ["resuming driver MiB", "processor µs a row"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for captions in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            shards = write_shards(Path(name), captions)
            command = [sys.executable, __file__, "--measure", name, *shards]
            first, again = (
                json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
                for _ in range(2)
            )
        if first["samples"] != captions or again["done"]:
            raise SystemExit(f"not what was asked for: {first}, {again}")
        cells = [captions, *(first[n] for n in ("seconds", "rows_per_second", "driver_mib"))]
        cells += [first["actors_mib"], again["seconds"], again["driver_mib"]]
        cells.append(first["microseconds"])
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()

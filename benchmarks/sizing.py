"""What a caption costs with the shipped model, by preset: the table of docs/cluster.md.

    python benchmarks/sizing.py [--captions N] [--actors N]

Every row is two `memscan scan`s of captions that occur once: nothing localized (a clean caption),
and everything localized (a caption that is flagged). Evaluations are those of the summaries. Time
is the processor time of the actors from the moment that they have their model, one thread each:
what a core takes, however busy the machine is. Memory is the most that an actor had resident.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil
from webdataset import TarWriter

from scanner.spec import PRESETS
from scanner.testbed import WEIGHTS

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def corpus(folder: Path, captions: int) -> Path:
    """Write captions without images."""
    path = folder / "captions.tar"
    with TarWriter(str(path)) as tar:
        for n in range(captions):
            tar.write({"__key__": f"{n:05d}", "txt": f"a small picture of thing number {n}"})
    return path


class Watch(threading.Thread):
    """Follows the processor time and the resident bytes of every process below this one."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.seen: dict[int, list[tuple[float, float, int]]] = {}

    def run(self) -> None:
        """Look ten times a second, until it is over."""
        while not self.over.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    used, size = process.cpu_times(), process.memory_info().rss
                except psutil.Error:
                    continue
                now = (time.time(), used.user + used.system, size)
                self.seen.setdefault(process.pid, []).append(now)

    def seconds(self, pid: int, since: float) -> float:
        """Return the processor time of a process since a moment."""
        before = [used for when, used, _ in self.seen[pid] if when <= since]
        return self.seen[pid][-1][1] - before[-1]

    def peak(self, pid: int) -> int:
        """Return the most bytes that a process had resident."""
        return max(size for _, _, size in self.seen[pid])


def scanned(shard: Path, results: Path, options: list[str]) -> tuple[dict[str, int], float, int]:
    """Scan; return evaluations by kind, the actors' processor time, the bytes of the largest."""
    watch, events = Watch(), results.with_suffix(".jsonl")
    watch.start()
    command = ["-m", "scanner", "scan", shard, "--model", WEIGHTS / "pipeline", "--out", results,
               "--chunk-size", 32, "--threshold", 1e9, "--events", events]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *map(str, command), "--json", *options],
        env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    watch.over.set()
    told = [json.loads(line) for line in events.read_text().splitlines()]
    ready = {
        int(event["actor"].rpartition("/")[2]): datetime.fromisoformat(event["time"]).timestamp()
        for event in told
        if event["kind"] == "worker"
    }
    seconds = sum(watch.seconds(pid, since) for pid, since in ready.items())
    return json.loads(done.stdout)["evaluations"], seconds, max(map(watch.peak, ready))


def row(name: str, shard: Path, work: Path, captions: int, actors: int) -> str:
    """Measure a preset; return its row."""
    forward, gradients, hourly, peaks = [], [], [], []
    for localize in ("none", "all"):
        options = ["--preset", name, "--localize", localize, "--actors", str(actors)]
        counts, seconds, peak = scanned(shard, work / f"{name}-{localize}", options)
        forward.append(counts["forward"] / captions)
        gradients.append(counts.get("vjp", 0) / captions)
        hourly.append(3600 * captions / seconds)
        peaks.append(peak / 2**20)
    return (
        f"| {name} | {forward[0]:.0f} "
        f"| {forward[1] - forward[0]:.0f} and {gradients[1]:.0f} gradients "
        f"| {hourly[0]:,.0f} | {hourly[1]:,.0f} | {peaks[0]:,.0f} | {peaks[1]:,.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--captions", type=int, default=64)
    parser.add_argument("--actors", type=int, default=2)
    asked = parser.parse_args()
    print(
        "| preset | evaluations | if localized, further | captions per core-hour, clean "
        "| localized | MiB an actor, clean | localized |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="memscan") as folder:
        shard = corpus(Path(folder), asked.captions)
        for name in PRESETS:
            print(row(name, shard, Path(folder), asked.captions, asked.actors), flush=True)


if __name__ == "__main__":
    main()

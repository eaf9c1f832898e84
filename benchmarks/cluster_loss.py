"""Kill what a scan runs on, N times each: exit code, seconds, and what the results lost.

Every strike has a Ray and a results folder of its own. A scan is started, struck after its first
commit, and the same command is then run again until it is through. The rows are compared with
those of a scan that nothing disturbed.

    python benchmarks/cluster_loss.py --repeats 20
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import webdataset

from scanner.results.folder import Results

WAYS = {
    "GCS killed": ("gcs_server", signal.SIGKILL),
    "head killed": ("raylet", signal.SIGKILL),
    "GCS stopped": ("gcs_server", signal.SIGSTOP),
    "driver killed": ("", signal.SIGKILL),
}
"""Which process gets which signal. A stopped GCS stands for a network that is cut."""
HEAD = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(shutdown_at_exit=False)
cluster.add_node(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20)
print(cluster.address, flush=True)
sys.stdin.read()
"""
SETTINGS = {
    "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "90",
}  # fmt: skip
"""For many Rays that start side by side on few cores."""
SLOW = """
import sys, time
from scanner.engine import driver, worker

def slow(job, device):
    scanner = worker.build_scanner(job, device)
    detect = scanner.detect

    def slowly(captions, known=None):
        time.sleep(0.1 * len(captions))
        return detect(captions, known)

    scanner.detect = slowly
    return scanner

driver.scan.__kwdefaults__["build"] = slow
from scanner.cli import main
main()
"""
"""The command line with workers that take 0.1 s a caption, so that a scan outlasts its strike."""
SECONDS = 600.0
"""No command of this benchmark takes longer, on a busy machine either."""
SHARDS, CAPTIONS = 2, 400


@dataclass
class Strike:
    """What one strike did.

    Attributes:
        way: What was struck, and how.
        start: ``local`` or ``joined``.
        code: The exit code; null if the process had to be killed.
        seconds: From the strike to the end of the process.
        errors: What it wrote to the standard error.
        lost: Rows that the resumed results lack.
        doubled: Rows that they have too often.
    """

    way: str
    start: str
    code: int | None = None
    seconds: float = 0.0
    errors: str = ""
    lost: int = 0
    doubled: int = 0
    problem: str = ""


@dataclass
class Scan:
    """A command that scans, its output in files."""

    words: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *, slow: bool) -> subprocess.Popen[bytes]:
        """Start it."""
        how = ["-c", SLOW] if slow else ["-m", "scanner"]
        command = [sys.executable, *how, *self.words]
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            return subprocess.Popen(
                command, stdout=out, stderr=err, env=os.environ | self.environment
            )

    @property
    def errors(self) -> str:
        """What the last start wrote to the standard error."""
        return (self.folder / "err").read_text(errors="replace")


@contextmanager
def head(environment: dict[str, str]) -> Iterator[tuple[str, psutil.Process]]:
    """Provide a cluster of one node: its address, and the process whose children serve it."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env=os.environ | environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), psutil.Process(process.pid)
        finally:
            kill_all(psutil.Process(process.pid))


def kill_all(root: psutil.Process) -> None:
    """Kill a process and everything under it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def strike(scan: Scan, way: str, begun: Path, root: psutil.Process | None) -> Strike:
    """Start a scan, strike once it has committed a chunk, and wait for its end.

    Args:
        scan: The command.
        way: One of `WAYS`.
        begun: A folder that holds the results, or folders with results.
        root: Whose children serve the cluster; null for a local start.
    """
    done = Strike(way, "local" if root is None else "joined")
    process, name = scan.start(slow=True), WAYS[way][0]
    mine = psutil.Process(process.pid)
    try:
        until = time.monotonic() + SECONDS
        while not any(begun.rglob("commits/**/*.json")):
            if process.poll() is not None or time.monotonic() > until:
                done.problem = f"no commit: {scan.errors[-300:]}"
                return done
            time.sleep(0.1)
        under = [p for p in (root or mine).children(recursive=True) if p.name() == name]
        known = mine.children(recursive=True)
        victim, begin = under[0] if name else mine, time.monotonic()
        victim.send_signal(WAYS[way][1])
        with contextlib.suppress(subprocess.TimeoutExpired):
            done.code = process.wait(180)
        done.seconds, done.errors = time.monotonic() - begin, scan.errors
        for left in known:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    finally:
        kill_all(mine)
        process.wait()
    return done


def rows(root: Path) -> Counter[tuple[str, str, int]]:
    """Return how often each shard, key and seed has a row."""
    found: Counter[tuple[str, str, int]] = Counter()
    for file in Results(str(root)).files("scores"):
        table = pq.read_table(file, partitioning=None, columns=["shard", "key", "seed"])
        found.update((row["shard"], row["key"], row["seed"]) for row in table.to_pylist())
    return found


class Benchmark:
    """A corpus, and strikes on scans of it.

    Args:
        folder: Where everything is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self.shards = [folder / f"{number}.tar" for number in range(SHARDS)]
        for shard in self.shards:
            with webdataset.TarWriter(str(shard)) as tar:
                for number in range(CAPTIONS):
                    text = f"caption {number} of {shard.stem}"
                    tar.write({"__key__": f"{number:05d}", "txt": text})
        self._true = Counter(
            (str(shard), f"{number:05d}", 0) for shard in self.shards for number in range(CAPTIONS)
        )

    def _scan(self, name: str, address: str | None) -> Scan:
        (folder := self._folder / name).mkdir(exist_ok=True)
        words = [
            "scan", *map(str, self.shards), "--model", "gaussian", "--steps", "2",
            "--probes", "1", "--batch-size", "5", "--chunk-size", "5", "--actors", "2",
            "--out", str(folder / "results"),
        ]  # fmt: skip
        return Scan(words + (["--address", address] if address else []), folder)

    def play(self, number: int, way: str, start: str) -> Strike:
        """Strike one scan, resume it, compare."""
        name = f"{way} {start} {number}".replace(" ", "-")
        begun = self._folder / name / "results"
        if start == "local":
            done = strike(self._scan(name, None), way, begun, None)
        else:
            with head({}) as (address, root):
                done = strike(self._scan(name, address), way, begun, root)
        if done.problem:
            return done
        again = self._scan(name, None)
        if (code := again.start(slow=False).wait(SECONDS)) != 0:
            done.problem = f"resumed with exit code {code}: {again.errors[-300:]}"
        found = Counter({(k[0].removeprefix("file://"), *k[1:]): n for k, n in
                         rows(self._folder / name / "results").items()})  # fmt: skip
        done.lost, done.doubled = (self._true - found).total(), (found - self._true).total()
        shutil.rmtree(self._folder / name)
        return done


def report(strikes: list[Strike]) -> str:
    """Return the table."""
    lines = [
        "| struck | start | times | exit codes | median s | most | line | lost | twice | bad |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for way, start in sorted({(s.way, s.start) for s in strikes}):
        those = [s for s in strikes if (s.way, s.start) == (way, start)]
        codes = Counter(str(s.code) for s in those)
        told = sum(s.errors.count("memscan: ") == 1 and "[2" not in s.errors for s in those)
        seconds = [s.seconds for s in those]
        cells = [
            way, start, len(those), ", ".join(f"{code} ({n})" for code, n in codes.items()),
            f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}",
            "" if way == "driver killed" else told,
            sum(s.lost for s in those), sum(s.doubled for s in those),
            sum(bool(s.problem) for s in those),
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=20, help="of each, half of them joined")
    parser.add_argument("--only", default=",".join(WAYS), help="ways, comma-separated")
    parser.add_argument("--lanes", type=int, default=3, help="strikes at a time")
    asked = parser.parse_args()
    begin, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="loss"))
    os.environ |= SETTINGS
    benchmark = Benchmark(folder)
    plays = [
        (number, way, ("local", "joined")[number % 2])
        for number in range(asked.repeats)
        for way in asked.only.split(",")
    ]
    with ThreadPoolExecutor(asked.lanes) as lanes:
        strikes = []
        for done in lanes.map(lambda play: benchmark.play(*play), plays):
            strikes.append(done)
            text = f"{done.way}, {done.start}: {done.code} after {done.seconds:.1f} s"
            print(f"{text}, {done.lost} lost, {done.doubled} twice {done.problem}", flush=True)
    print(report(strikes))
    bad = sum(bool(s.problem or s.lost or s.doubled) for s in strikes)
    print(f"{len(strikes)} strikes, {bad} bad, {time.monotonic() - begin:.0f} s")
    if not bad:
        shutil.rmtree(folder)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())

"""Kill anything, at any time, any number of times: the rows are those of an undisturbed run.

Each run scans a corpus of damaged shards with real processes on a Ray cluster of three raylets,
strikes them at random moments with faults of random kinds, and starts the same command again
until it is through. Then every row of every table is compared with the run that nothing
disturbed. The table at the end must say 0 lost, 0 duplicated, 0 changed.

    python benchmarks/faults.py --runs 200 --seed 1
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import faulty  # noqa: E402 - its folder is on the path only now
import warm  # noqa: E402

from scanner.results.folder import TABLES, Results  # noqa: E402

STRIKES = (
    "actor killed", "node killed", "driver killed", "SIGINT", "SIGTERM", "disk full",
    "store down", "two drivers",
)  # fmt: skip
"""What is done to the processes of a run, at a moment of its own."""
DAYS = {
    "poison caption": "poison", "process dies": "death", "NaN scores": "nan",
    "NaN once": "nan_once", "out of memory": "oom",
}  # fmt: skip
"""What the model does by itself."""
KINDS = (*STRIKES, *DAYS)

LASTING = ("poison", "nan")
"""Days that change what an undisturbed run gives, and so need one of their own."""
MOST_STARTS = 15
SECONDS = 300.0
"""A driver that takes longer hangs."""
IDENTITY = {
    "scores": ("shard", "key", "seed"),
    "masks": ("shard", "key", "seed", "metric", "baseline"),
    "rejects": ("shard", "key", "reason"),
}
COUNTED = ("starts", "lost", "duplicated", "changed")
ROOMY, CODES = "size=64m", {0, 3}


@dataclass
class Outcome:
    """What became of a run."""

    number: int
    kinds: tuple[str, ...]
    struck: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    lost: int = 0
    duplicated: int = 0
    changed: int = 0
    problem: str = ""
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        """Whether anything is not as it was."""
        return bool(self.lost or self.duplicated or self.changed or self.problem)


class Stage:
    """What all runs share: the warm server, the Ray cluster, the corpus.

    Args:
        folder: A short path, for sockets are made in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.environ |= {
            warm.SERVER: str(folder / "warm"), "RAY_TMPDIR": str(folder), "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }  # fmt: skip
        (folder / "ray").mkdir()
        command = [sys.executable, str(HERE / "warm.py"), "serve", str(folder / "warm")]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE)
        (folder / "corpus").mkdir()
        self.shards = faulty.write_corpus(folder / "corpus")
        from ray.cluster_utils import Cluster

        self._lock, self._nodes = threading.Lock(), []
        self._cluster = Cluster(shutdown_at_exit=False)  # its handlers want the main thread
        self._add(num_cpus=0, include_dashboard=False)
        self.address = self._cluster.address
        for _ in range(2):
            self._nodes.append(self._add(num_cpus=16))
        while not (folder / "warm").exists():
            time.sleep(0.05)

    def _add(self, **options: Any) -> Any:
        setup = str(HERE / "warm.py")
        return self._cluster.add_node(
            setup_worker_path=setup, object_store_memory=80 << 20, **options
        )

    def kill_node(self, luck: random.Random) -> None:
        """Kill a raylet and let a new node join."""
        with self._lock:
            victim = self._nodes.pop(luck.randrange(len(self._nodes)))
            self._cluster.remove_node(victim, allow_graceful=False)
            self._nodes.append(self._add(num_cpus=16))

    def processes_of(self, driver: int) -> list[int]:
        """Return the Ray workers of a driver."""
        logs = self.folder / "ray" / "session_latest" / "logs"
        if not (named := list(logs.glob(f"python-core-driver-*_{driver}.log"))):
            return []
        mark = f":job_id:{named[0].name.rpartition('driver-')[2][:8]}\n"
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            if not (process.info["cmdline"] or [""])[0].startswith("ray::"):
                continue
            for log in logs.glob(f"worker-*-{process.pid}.out"):
                with contextlib.suppress(OSError):
                    if mark in log.read_text():
                        found.append(process.pid)
        return found

    def close(self) -> None:
        """Stop everything."""
        for node in list(self._cluster.worker_nodes):
            self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)
        if self._server.stdin:
            self._server.stdin.close()
        self._server.wait(30)


class Run:
    """One fault run.

    Args:
        stage: What it shares.
        outcome: What it fills in.
        luck: Where its choices come from.
    """

    def __init__(self, stage: Stage, outcome: Outcome, luck: random.Random) -> None:
        self.stage, self.outcome, self._luck = stage, outcome, luck
        self._folder = stage.folder / f"run{outcome.number}"
        self.results = self._folder / "results"
        (self._folder / "marks").mkdir(parents=True)
        self.days = sorted(DAYS[kind] for kind in outcome.kinds if kind in DAYS)
        self._strikes = [kind for kind in outcome.kinds if kind in STRIKES]
        self._shards = [str(path) for path in stage.shards]
        self._port, self._store = 0, None
        self._rivals: list[warm.Process] = []

    @property
    def base(self) -> str:
        """What addresses of shards begin with."""
        return f"http://127.0.0.1:{self._port}" if self._port else str(self._shards_folder)

    @property
    def _shards_folder(self) -> Path:
        return self.stage.folder / "corpus"

    def run(self, expected: Counter[str] | None) -> None:
        """Start, strike, start again until it is through.

        Args:
            expected: What is incomplete in the end, as `_told` has it; null takes what comes.
        """
        with self._surroundings():
            while self.outcome.starts < MOST_STARTS:
                code, told = self._start()
                if code in CODES and (expected is None or told == expected) and not self._strikes:
                    return
                if self.outcome.problem:
                    return
        self.outcome.problem = f"not through after {MOST_STARTS} starts"

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        self.results.mkdir()
        is_mounted = "disk full" in self._strikes and _mount(self.results, ROOMY)
        if "store down" in self._strikes:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self._port = free.getsockname()[1]
            self._shards = [f"{self.base}/{path.name}" for path in self.stage.shards]
            self._serve()
        try:
            yield
        finally:
            if self._store:
                self._store.signal(signal.SIGKILL)
            if is_mounted:
                kept = self._folder / "kept"
                shutil.copytree(self.results, kept)
                subprocess.run(["umount", "-l", self.results], check=True)
                self.results = kept

    def _serve(self) -> None:
        argv = [str(self._shards_folder), str(self._port), str(self._luck.random())]
        self._store = self._process("faulty:serve", argv, "store.log")

    def _process(self, what: str, argv: list[str], log: str) -> warm.Process:
        request = {"run": what, "argv": argv, "env": dict(os.environ), "cwd": str(self._folder)}
        with (self._folder / log).open("ab") as out, (self._folder / "said").open("wb") as said:
            return warm.Process(request, (said.fileno(), out.fileno()))

    def _driver(self) -> warm.Process:
        settings = {
            "shards": self._shards, "out": str(self.results), "address": self.stage.address,
            "days": self.days, "marks": str(self._folder / "marks"),
        }  # fmt: skip
        self.outcome.starts += 1
        return self._process("faulty:drive", [json.dumps(settings)], "driver.log")

    def _start(self) -> tuple[int, Counter[str]]:
        driver, strikes = self._driver(), []
        if self._strikes:
            count = min(len(self._strikes), self._luck.choice((1, 1, 2)))
            strikes, self._strikes = self._strikes[:count], self._strikes[count:]
        moments = sorted((self._moment(), kind) for kind in strikes)
        deadline = time.monotonic() + SECONDS
        while (code := driver.poll(0.005)) is None and time.monotonic() < deadline:
            if moments and moments[0][0]():
                kind = moments.pop(0)[1]
                getattr(self, "_" + kind.replace(" ", "_").lower())(driver)
                self.outcome.struck[kind] += 1
        if code is None:
            driver.signal(signal.SIGABRT)
            driver.signal(signal.SIGKILL)
            self.outcome.problem = f"a driver hangs: start {self.outcome.starts}"
            return -1, Counter()
        for rival in self._rivals:
            if rival.poll(SECONDS) is None:
                self.outcome.problem = "a rival driver hangs"
                rival.signal(signal.SIGKILL)
        self._rivals.clear()
        if "disk full" in strikes:
            _remount(self.results, ROOMY)
        self._check_code(code, [k for k in strikes if self.outcome.struck[k]])
        self._strikes += [kind for _, kind in moments if code not in CODES]
        return code, self._told()

    def _check_code(self, code: int, strikes: list[str]) -> None:
        """Exit codes are part of the promise; before a scan begins, SIGTERM does what it does."""
        allowed = {0, 3}
        for kind, codes in {
            "driver killed": {-9}, "SIGINT": {130}, "SIGTERM": {130, -15}, "disk full": {2},
            "node killed": {4}, "two drivers": {2},
        }.items():  # fmt: skip
            if kind in strikes:
                allowed |= codes
        if code not in allowed:
            self.outcome.problem = f"exit code {code} after {strikes}, see driver.log"

    def _told(self) -> Counter[str]:
        """Return what the last driver called incomplete."""
        try:
            summary = json.loads((self._folder / "said").read_text().splitlines()[-1])
        except (ValueError, IndexError):
            return Counter()
        parts = summary["incomplete"] + [f"{n}: {why}" for n, why in summary["quarantined"]]
        return Counter(part.replace(self.base, "") for part in parts)

    def _moment(self) -> Any:
        """Return a test for a moment: so many commits, or so long after the start."""
        wait = self._luck.uniform(0.0, 1.2)
        if self._luck.random() < 0.3:
            due = time.monotonic() + wait
            return _Moment(due, lambda: time.monotonic() > due)
        have = self._committed()
        wanted = have + self._luck.randint(0, max(1, 40 - have))
        return _Moment(wanted, lambda: self._committed() >= wanted)

    def _committed(self) -> int:
        return sum(1 for _ in self.results.glob("commits/*/*.json"))

    def _actor_killed(self, driver: warm.Process) -> None:
        if processes := self.stage.processes_of(driver.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._luck.choice(processes), signal.SIGKILL)

    def _node_killed(self, _: warm.Process) -> None:
        self.stage.kill_node(self._luck)

    def _driver_killed(self, driver: warm.Process) -> None:
        driver.signal(signal.SIGKILL)

    def _sigint(self, driver: warm.Process) -> None:
        driver.signal(signal.SIGINT)

    def _sigterm(self, driver: warm.Process) -> None:
        driver.signal(signal.SIGTERM)

    def _disk_full(self, driver: warm.Process) -> None:
        used = shutil.disk_usage(self.results).used
        if not _remount(self.results, f"size={used + self._luck.randint(0, 48) * 1024}"):
            for process in self.stage.processes_of(driver.pid):
                with contextlib.suppress(OSError):
                    psutil.Process(process).rlimit(psutil.RLIMIT_FSIZE, (2048, 2048))

    def _store_down(self, _: warm.Process) -> None:
        if self._store:
            self._store.signal(signal.SIGKILL)
        threading.Timer(self._luck.uniform(0.2, 1.5), self._serve).start()

    def _two_drivers(self, _: warm.Process) -> None:
        self._rivals.append(self._driver())


@dataclass(order=True)
class _Moment:
    order: float
    is_now: Callable[[], bool] = field(compare=False)

    def __call__(self) -> bool:
        return self.is_now()


def _mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _remount(folder: Path, options: str) -> bool:
    return os.path.ismount(folder) and _mount(folder, f"remount,{options}")


def rows(root: Path, base: str) -> dict[str, Counter[str]]:
    """Return every committed row of every table, as text without what differs by run."""
    results = Results(root)
    return {
        table: Counter(
            json.dumps(row, sort_keys=True, default=repr).replace(base, "")
            for file in results.files(table)
            for row in pq.read_table(file, partitioning=None).to_pylist()
        )
        for table in TABLES
    }


def compare(
    outcome: Outcome, found: dict[str, Counter[str]], true: dict[str, Counter[str]]
) -> None:
    """Count what is lost, what comes twice, and what is another row."""
    for table in TABLES:
        have, want = _identities(table, found[table]), _identities(table, true[table])
        lost, more = (want - have).total(), (have - want).total()
        outcome.lost += lost
        outcome.duplicated += more
        outcome.changed += max(0, (found[table] - true[table]).total() - more)


def _identities(table: str, content: Counter[str]) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for text, count in content.items():
        row = json.loads(text)
        found[tuple(row[name] for name in IDENTITY[table])] += count
    return found


class Suite:
    """All runs, and the undisturbed ones that they are compared with.

    Args:
        stage: What they share.
        seed: Decides what happens in which run; the moment of it depends on the machine.
    """

    def __init__(self, stage: Stage, seed: int, keep: bool) -> None:
        self._stage, self._seed, self._keep = stage, seed, keep
        self._true: dict[tuple[str, ...], tuple[dict[str, Counter[str]], Counter[str]]] = {}
        for n in range(4):
            self._undisturbed(n)

    def _undisturbed(self, number: int) -> None:
        days = tuple(day for bit, day in enumerate(LASTING) if number >> bit & 1)
        kinds = tuple(kind for kind, day in DAYS.items() if day in days)
        outcome = Outcome(-1 - number, kinds)
        run = Run(self._stage, outcome, random.Random(0))
        run.run(None)
        if outcome.problem or outcome.starts != 1:
            raise SystemExit(f"the undisturbed run is disturbed: {outcome}")
        self._true[days] = rows(run.results, run.base), run._told()

    def play(self, number: int, only: tuple[str, ...]) -> Outcome:
        """Do one run and compare it."""
        luck = random.Random(f"{self._seed}/{number}")
        first = only[number % len(only)]
        others = [kind for kind in only if kind != first]
        more = luck.sample(others, min(len(others), luck.choice((0, 1, 1, 2))))
        outcome = Outcome(number, tuple(luck.sample([first, *more], 1 + len(more))))
        start, run = time.monotonic(), Run(self._stage, outcome, luck)
        true, told = self._true[tuple(day for day in LASTING if day in run.days)]
        try:
            run.run(told)
            compare(outcome, rows(run.results, run.base), true)
        except Exception as error:  # noqa: BLE001 - a finding of the suite
            outcome.problem = f"{type(error).__name__}: {error}"
        outcome.seconds = time.monotonic() - start
        if not (self._keep or outcome.is_bad):
            shutil.rmtree(self._stage.folder / f"run{number}")
        return outcome


def report(outcomes: list[Outcome]) -> str:
    """Return the table by kind of fault; a run counts for each of its kinds."""
    lines = [
        "| fault | runs | strikes | starts | lost | duplicated | changed | other |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in (*KINDS, "all"):
        those = [o for o in outcomes if kind == "all" or kind in o.kinds]
        if not those:
            continue
        strikes = sum(o.struck.total() if kind == "all" else o.struck[kind] for o in those)
        cells = [
            kind, len(those), strikes if kind in STRIKES or kind == "all" else "",
            *(sum(getattr(o, n) for o in those) for n in COUNTED),
            sum(bool(o.problem) for o in those),
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, comma-separated")
    parser.add_argument("--lanes", type=int, default=3, help="runs at a time")
    parser.add_argument("--keep", action="store_true", help="keep the folders of good runs too")
    asked = parser.parse_args()
    only = tuple(asked.only.split(","))
    if unknown := set(only) - set(KINDS):
        parser.error(f"--only must be among {', '.join(KINDS)}, got {', '.join(unknown)}")
    print(f"seed {asked.seed}, {asked.runs} runs from {asked.first}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
    stage, outcomes = Stage(folder), list[Outcome]()
    try:
        suite = Suite(stage, asked.seed, asked.keep)
        print(f"undisturbed runs done after {time.monotonic() - start:.0f} s", flush=True)
        numbers = range(asked.first, asked.first + asked.runs)
        with ThreadPoolExecutor(asked.lanes) as lanes:
            for outcome in lanes.map(lambda n: suite.play(n, only), numbers):
                outcomes.append(outcome)
                if outcome.is_bad:
                    print(f"BAD {outcome}, kept in {folder}/run{outcome.number}", flush=True)
    finally:
        stage.close()
    print(report(outcomes))
    bad = sum(outcome.is_bad for outcome in outcomes)
    print(f"{len(outcomes)} runs, {bad} bad, {time.monotonic() - start:.0f} s")
    if not (bad or asked.keep):
        shutil.rmtree(folder)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())

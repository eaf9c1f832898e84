"""A scan of up to a thousand million captions, with the real head and nobody else.

The real planner, queue, scan loop, run record, commits and manifest run by a simulated clock, over
actors that answer with counts (`simulated_runtime`) and a bucket that is late, refuses and loses
answers (`simulated_store`). Nodes are taken away, and half way through the head is killed and
resumes. At the end the commits are held against the shards: nothing lost, nothing twice.

    python benchmarks/simulate.py 1e7 1e8 1e9

Seconds are processor time of this process; the head's leave out what actors, counting and packing
do here, and the bucket's database is no part of its memory.
"""

import argparse
import gc
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from simulated_runtime import Fleet, SimulatedRuntime, shard_of
from simulated_store import Bucket, Clock, SimulatedStore

from scanner.engine.job import Job, Resources
from scanner.engine.loop import ScanLoop
from scanner.engine.packing import Packer
from scanner.engine.plan import CommitIndex
from scanner.engine.record import RunRecord
from scanner.engine.runtime import WorkerSetup
from scanner.engine.worker import build_scanner
from scanner.results import coverage
from scanner.results.commit_file import CommitFile
from scanner.results.folder import Results
from scanner.spec import ScanSpec

RUN = "0123456789ab"
HEADS = {
    "captions": "captions", "shards": "shards", "actors": "actors", "samples": "samples a chunk",
    "records": "records", "objects": "objects to read", "days": "days", "head": "head, s",
    "decisions": "decisions a second of head", "mib": "head, MiB", "resume": "resume, s",
    "requests": "requests a shard", "deaths": "deaths", "lost": "device hours lost",
    "share": "of all",
}  # fmt: skip


class Lease:
    """Kills the head once, when its time has come, as a lease that is asked in every turn.

    Args:
        clock: The time.
        dies: When.
    """

    def __init__(self, clock: Clock, dies: float) -> None:
        self._clock, self._dies = clock, dies
        self.turns = 0

    def check(self) -> None:
        """Do nothing, or die.

        Raises:
            KeyboardInterrupt: When it is time.
        """
        self.turns += 1
        if self._clock.monotonic() > self._dies:
            raise KeyboardInterrupt


class Simulation:
    """One corpus, its results, and the heads that come one after another.

    Args:
        folder: Where the bucket's database is.
        captions: About how many samples.
        shards: In how many shards.
        fleet: The actors.
        chunk_size: Samples a chunk, or null to find out.
        faults: Of the bucket: ``refused``, ``lost`` and ``per_second``.
    """

    def __init__(
        self, folder: Path, captions: int, shards: int, fleet: Fleet, chunk_size: int | None,
        **faults: float,
    ) -> None:  # fmt: skip
        random.seed(fleet.seed)  # the retries of stores draw from it
        self.clock, self.fleet = Clock(), fleet
        self.bucket = Bucket(self.clock, folder / "bucket.db", seed=fleet.seed, **faults)
        self.results = Results(folder / "unused")
        self.results.store = SimulatedStore(self.bucket)
        self.results.root = self.results.store.root
        self.samples = dict(_corpus(captions // shards, shards, fleet.seed))
        self.job = Job(
            model="simulated", shards=tuple(self.samples), results=self.results.root,
            spec=ScanSpec(), chunk_size=chunk_size, batch_size=32,
        )  # fmt: skip
        self.runtimes, self.events = list[SimulatedRuntime](), Counter[str]()
        self.chunk_size, self.done, self.chunks = 0, 0, 0

    def head(self, dies: float = float("inf")) -> dict[str, float]:
        """Run a head until all is committed or it dies; return what it took.

        Args:
            dies: Simulated time.
        """
        runtime = SimulatedRuntime(self.clock, self.results, self.samples, self.fleet)
        self.runtimes.append(runtime)
        lease, begun = Lease(self.clock, dies), time.process_time()
        record = RunRecord.begin(self.results, RUN, self.job, "simulated", "")
        committed = self.results.read_committed(RUN)
        record.add_commits(committed.records.values())
        index = CommitIndex(committed.records)
        size = record.chunk_size or committed.history.chunk_size
        self.job = Job(**{n: getattr(self.job, n) for n in Job.__slots__} | {"chunk_size": size})
        setup = WorkerSetup(self.job, RUN, build_scanner, "simulated", ())
        packer = Packer(runtime, self.results.root, RUN, committed)
        resources = Resources(actors=self.fleet.actors)
        ready = time.process_time() - begun - runtime.outside
        try:
            with record:
                loop = ScanLoop(setup, index, resources, runtime, self.results, record, packer)
                loop.run(lease, self._note)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            pass
        self.chunk_size, self.done = record.chunk_size or 0, record.summary.samples
        self.chunks = record.summary.chunks_done
        whole = time.process_time() - begun - runtime.outside
        return {"ready": ready, "seconds": whole, "turns": lease.turns}

    def _note(self, event: Any) -> None:
        self.events[event.kind] += 1
        if event.kind == "chunk" and self.events["chunk"] % 10_000 == 0:
            seconds, days = time.process_time(), self.clock.now / 86400
            text = f"{self.events['chunk']} chunks, day {days:.2f}, {seconds:.0f} s of this process"
            print(text, file=sys.stderr, flush=True)

    def problems(self) -> Iterator[str]:
        """Yield what is lost or done twice, by the commits."""
        commits = self.results.commits(RUN)
        yield from coverage.missing(self.results.read_run(RUN), commits)
        whole, by_shard = CommitIndex(commits).finished(), defaultdict[str, list[CommitFile]](list)
        for commit in commits.values():
            if commit.place is not None:
                by_shard[commit.place.shard_id].append(commit)
        for url, samples in self.samples.items():
            shard_id = shard_of(url, samples).id
            if shard_id not in whole.get(url, ()):
                yield f"{url} is not committed whole"
            if (have := sum(c.counts.samples for c in by_shard[shard_id])) != samples:
                yield f"{url} has {samples} samples, and {have} are committed"
            yield from _overlaps(by_shard[shard_id])
        if self.done != sum(self.samples.values()):
            yield f"the last head counts {self.done} samples of {sum(self.samples.values())}"


def _overlaps(commits: list[CommitFile]) -> Iterator[str]:
    places = [commit.place for commit in commits if commit.place is not None]
    places.sort(key=lambda place: (place.number, place.start))
    for before, after in pairwise(places):
        if after.number == before.number and after.start < before.stop:
            yield f"{after.shard}: chunk {after.number} is committed twice"


def _corpus(most: int, shards: int, seed: int) -> Iterator[tuple[str, int]]:
    """Yield shards with their samples: of up to a tenth, the image could not be had."""
    draw = random.Random(seed)
    for number in range(shards):
        yield f"s3://laion/{number:06d}.tar", max(1, round(most * draw.uniform(0.9, 1.0)))


def simulated(options: argparse.Namespace, captions: int) -> dict[str, Any]:
    """Simulate one size in this process.

    Raises:
        SystemExit: If something was lost or done twice.
    """
    shards = max(1, min(options.shards, captions // options.per_shard))
    fleet = Fleet(
        actors=options.actors, rate=options.rate, lifetime_hours=options.lifetime,
        seed=options.seed,
    )  # fmt: skip
    size = None if options.chunk_size == "auto" else int(options.chunk_size)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        simulation = Simulation(
            Path(folder), captions, shards, fleet, size, refused=options.refused,
            lost=options.lost, per_second=options.per_second,
        )  # fmt: skip
        with simulation.clock.installed():
            expected = captions / options.rate / options.actors
            first = simulation.head(dies=expected / 2)
            gc.collect()
            second = simulation.head()
            requests, mib = simulation.bucket.requests.copy(), _mib()
            third = simulation.head()
            if problems := list(simulation.problems()):
                raise SystemExit("\n".join(problems[:20]))
            return _row(simulation, first, second, third, requests, mib)


def _row(
    simulation: Simulation, first: dict[str, float], second: dict[str, float],
    third: dict[str, float], requests: Counter[str], mib: float,
) -> dict[str, Any]:  # fmt: skip
    records, history = simulation.results.commits(RUN), simulation.results.history(RUN)
    assert simulation.chunks == 0, "a head that had nothing to do did something"
    spent = [runtime.spent for runtime in simulation.runtimes]
    lost = sum(each.lost for each in spent)
    hours = lost + sum(each.scanning + each.loading for each in spent)
    seconds, captions = first["seconds"] + second["seconds"], sum(simulation.samples.values())
    decisions = simulation.events["chunk"] + simulation.events["lost"] + simulation.events["retry"]
    asked = sum(requests[kind] for kind in ("LIST", "HEAD", "GET", "PUT", "DELETE"))
    return {
        "captions": captions, "shards": len(simulation.samples), "actors": simulation.fleet.actors,
        "samples": simulation.chunk_size, "records": len(records),
        "objects": history.length + len(records) - len(history.commits()),
        "days": round(simulation.clock.now / 86400, 2), "head": round(seconds, 1),
        "decisions": round(decisions / seconds), "mib": round(mib),
        "resume": round(third["seconds"], 1), "resume_half": round(second["ready"], 1),
        "requests": round(asked / len(simulation.samples), 1),
        "deaths": sum(each.deaths for each in spent), "lost": round(lost, 1),
        "share": f"{lost / hours:.2%}", "faults": {n: requests[n] for n in ("429", "503", "lost")},
        "turns": first["turns"] + second["turns"],
    }  # fmt: skip


def _mib() -> float:
    """Return the memory of this process at present, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("captions", type=float, nargs="+")
    parser.add_argument("--actors", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=20.0, help="samples a second of a device")
    parser.add_argument("--shards", type=int, default=100_000, help="at most")
    parser.add_argument("--per-shard", type=int, default=10_000)
    parser.add_argument("--chunk-size", default="auto")
    parser.add_argument("--lifetime", type=float, default=8.0, help="mean hours of an actor")
    parser.add_argument("--refused", type=float, default=0.001)
    parser.add_argument("--lost", type=float, default=0.001)
    parser.add_argument("--per-second", type=float, default=3500.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="of the bucket's database")
    parser.add_argument("--json", action="store_true", help="one size, in this process")
    options = parser.parse_args(arguments)
    if options.json:
        print(json.dumps(simulated(options, int(options.captions[0]))))
        return 0
    print("| " + " | ".join(HEADS.values()) + " |", flush=True)
    print("|---" * len(HEADS) + "|", flush=True)
    for captions in options.captions:
        words = [str(captions), "--json", *_others(options)]
        command = [sys.executable, __file__, *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            return done.returncode
        row = json.loads(done.stdout)
        cells = [f"{v:,}" if isinstance(v := row[name], int) else str(v) for name in HEADS]
        print("| " + " | ".join(cells) + " |", flush=True)
    return 0


def _others(options: argparse.Namespace) -> list[str]:
    given = {n: v for n, v in vars(options).items() if n not in ("captions", "json")}
    return [
        word
        for name, value in given.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


if __name__ == "__main__":
    sys.exit(main())

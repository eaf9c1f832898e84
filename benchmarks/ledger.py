"""What a run's record keeping costs after many commits: resume, plan, first query, verify, compact.

Commits of four made-up captions each are written as a scan writes them, of shards that are there
(empty files: nothing opens a shard that is committed whole). Then every command runs in a process
of its own, and its processor time and peak memory are printed.

    python benchmarks/ledger.py --folder /dev/shm/ledger 2000 20000 200000

A folder in memory (`/dev/shm`) leaves the disk out. `--packed` packs first, as a scan does
beside its work; `--only resume,query` leaves the others out.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from scanner.analysis.query import connect
from scanner.engine import Job, Resources, scan
from scanner.engine.identity import identify
from scanner.engine.record import RunRecord
from scanner.planning.forecast import forecast
from scanner.records import Caption, ChunkResult, ScoreRow
from scanner.results import compact, verify
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import ScanSpec

SAMPLES = 4
SPEC = ScanSpec(steps=2, probes=1, localize="none", threshold=1e9)


def job_of(folder: Path) -> Job:
    """Return a scan of all shards of a folder."""
    shards = tuple(str(path) for path in sorted((folder / "shards").iterdir()))
    return Job(model="gaussian", shards=shards, results=str(folder / "results"), spec=SPEC)


def commit(results: Results, run: str, shard: reading.Shard, number: int) -> None:
    """Commit the one chunk of a shard."""
    rows = ChunkResult()
    for n in range(SAMPLES):
        at = number * SAMPLES + n
        caption = Caption(shard.url, f"{at:09d}", f"a picture of thing number {at} in some place")
        delta_s = (at * 2654435761 % 1000003) / 1000.0
        rows.scores.append(ScoreRow(caption, 0, stage="detect", delta_s=delta_s, flagged=False))
    place = {"shard": shard.url, "shard_id": shard.id, "number": 0, "chunk_samples": SAMPLES,
             "start": 0, "stop": SAMPLES, "shard_chunks": 1, "problem": None}  # fmt: skip
    counts = {"samples": SAMPLES, "scored": SAMPLES, "flagged": 0, "rejected": 0, "seconds": 60.0,
              "denoiser_seconds": 59.0, "product_seconds": 0.0, "preparation_seconds": 0.5,
              "autoencoder_seconds": 0.0, "waiting_seconds": 0.2, "localized": 0, "screened": 0,
              "reasons": {}, "recalled": 0, "redone": 0,
              "evaluations": {"draws": 4, "forward": 16}}  # fmt: skip
    name = reading.Chunk(shard, 0, 0, SAMPLES).name
    results.commit(run, name, rows, extra=[], facts=place | counts)


def make(folder: Path, commits: int) -> None:
    """Write shards and what a complete scan of them leaves."""
    (folder / "shards").mkdir(parents=True)
    for number in range(commits):
        (folder / "shards" / f"{number:06d}.tar").touch()
    job = job_of(folder)
    who, results = identify(job), Results(job.results)
    record = RunRecord.begin(results, who.run, who.job, who.model, who.calibration)
    with record:
        for number, url in enumerate(job.shards):
            commit(results, who.run, reading.stat(url), number)
        record.add_commits(results.commits(who.run).values())
        record.summary.samples = commits * SAMPLES


def resume(folder: Path) -> object:
    """Scan again, which finds everything done."""
    done = scan(job_of(folder), Resources(local=True, device="cpu", threads=1), lambda event: None)
    assert done.chunks_done == 0
    return done.samples


def plan(folder: Path) -> object:
    """Say what a scan would have left."""
    job = job_of(folder)
    found = forecast(
        job, rate=1.0, flagged=0.0, device="cpu", progress=lambda done, of: None, local=True
    )
    assert found.samples == 0
    return found.done_samples


def query(folder: Path) -> object:
    """Ask the first question of a new process."""
    with closing(connect(Results(folder / "results"))) as con:
        found = con.execute("SELECT count(*), max(delta_s) FROM scores").fetchall()
    return found[0][0]


def whole(folder: Path) -> object:
    """Verify every file."""
    results = Results(folder / "results")
    found = verify.verify(results, results.default_run(), lambda *_: None)
    assert found.is_sound, found.problems[:3]
    return found.samples


def pack(folder: Path) -> object:
    """Pack all that is in no pack."""
    results = Results(folder / "results")
    done = compact.compact(results, results.default_run(), lambda *_: None)
    return done.rows


STEPS: dict[str, Callable[[Path], object]] = {
    "resume": resume, "plan": plan, "query": query, "verify": whole, "compact": pack,
}  # fmt: skip


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Run one step in a process of its own."""
    command = [sys.executable, __file__, "--step", name, "--folder", str(folder)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def step(name: str, folder: Path) -> None:
    """Run one step here, and print what it took."""
    begun = time.process_time()
    samples = STEPS[name](folder)
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"samples": samples, "seconds": seconds, "mib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("commits", type=int, nargs="*")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--only", default="resume,plan,query,verify")
    parser.add_argument("--keep", action="store_true", help="keep what was written, and use it")
    parser.add_argument("--step")
    options = parser.parse_args()
    if options.step:
        step(options.step, options.folder)
        return
    names = options.only.split(",")
    names = ["compact", *names] if options.packed else names
    print("| commits | " + " | ".join(f"{n}, s | MiB" for n in names) + " |", flush=True)
    print("|---" * (1 + 2 * len(names)) + "|", flush=True)
    for commits in options.commits:
        folder = options.folder / f"{commits}"
        if not folder.exists():
            make(folder, commits)
        cells = [f"{commits:,}"]
        for name in names:
            found = measured(name, folder)
            if found["samples"] != commits * SAMPLES:
                raise SystemExit(f"{name} of {commits} commits found {found['samples']} samples")
            cells += [f"{found['seconds']:.1f}", f"{found['mib']:.0f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

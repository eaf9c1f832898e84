"""What record keeping costs after many commits: resume, plan, query, verify, audit, compact.

Commits of four made-up captions each, of shards that are there (empty files: nothing opens a shard
that is committed whole). Then every command runs in a process of its own, and its processor time
and peak memory are printed.

    python benchmarks/ledger.py --folder /dev/shm/ledger --packed 2000 20000 200000
    python benchmarks/ledger.py --folder /dev/shm/ledger --only resume,query,compact 2000

With `--packed` the run is as a scan leaves it that packs beside its work, after `--remove-old`
of `compact`; without, every chunk has its small file. A folder in memory leaves the disk out.
"""

import argparse
import hashlib
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scanner.analysis.query import connect
from scanner.engine import Job, Resources, scan
from scanner.engine.identity import identify
from scanner.engine.record import RunRecord
from scanner.engine.reports import ChunkReport
from scanner.nightly.audit import AuditRequest, audit
from scanner.nightly.policy import Policy
from scanner.nightly.state import AuditState
from scanner.planning.forecast import forecast
from scanner.records import Caption, ChunkResult, ScoreRow
from scanner.report.options import PageOptions
from scanner.results import compact, manifest, verify
from scanner.results.commit_file import DataFile
from scanner.results.folder import Results
from scanner.results.tables import tables
from scanner.shards import reading
from scanner.spec import ScanSpec

RUN = "2549a7be8a50"
"""Name of the run, by its model and settings."""
SAMPLES = 4
SPEC = ScanSpec(steps=2, probes=1, localize="none", threshold=1e9)


def job_of(folder: Path) -> Job:
    """Return a scan of all shards of a folder."""
    shards = tuple(str(path) for path in sorted((folder / "shards").iterdir()))
    return Job(model="gaussian", shards=shards, results=str(folder / "results"), spec=SPEC)


def rows_of(urls: list[str], first: int) -> pa.Table:
    """Return the score rows of some shards, of which the first is the ``first``."""
    caption = Caption(urls[0], "0", "a picture of a thing in some place")
    row = ScoreRow(caption, 0, stage="detect", delta_s=0.0, flagged=False)
    table = tables(RUN, ChunkResult(scores=[row]), [])["scores"]
    numbers = np.arange(first * SAMPLES, (first + len(urls)) * SAMPLES)
    table = table.take(np.zeros(len(numbers), np.int64))
    keys = [f"{number:09d}" for number in numbers.tolist()]
    columns = {
        "shard": [url for url in urls for _ in range(SAMPLES)], "key": keys,
        "caption": [f"a picture of thing number {key} in some place" for key in keys],
        "delta_s": numbers * 2654435761 % 1000003 / 1000.0,
    }  # fmt: skip
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(values, field.type))
    return table


def file_of(results: Results, name: str, rows: pa.Table) -> DataFile:
    """Write rows as a file of the run."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    content, path = sink.getvalue().to_pybytes(), f"scores/run={RUN}/{name}.parquet"
    Path(results.store.address(path)).parent.mkdir(parents=True, exist_ok=True)
    Path(results.store.address(path)).write_bytes(content)
    return DataFile(path, len(rows), hashlib.sha256(content).hexdigest(), len(content))


def record_of(shard: reading.Shard, file: DataFile) -> dict[str, Any]:
    """Return the commit record of a shard's one chunk."""
    place = {"shard": shard.url, "shard_id": shard.id, "number": 0, "chunk_samples": SAMPLES,
             "start": 0, "stop": SAMPLES, "shard_chunks": 1, "problem": None}  # fmt: skip
    report = ChunkReport(
        samples=SAMPLES, scored=SAMPLES, flagged=0, rejected=0, seconds=60.0, denoiser_seconds=59.0,
        evaluations={"draws": 4, "forward": 16},
    )  # fmt: skip
    counts = {"samples": SAMPLES, "scored": SAMPLES, "rejected": 0, "flagged": 0}
    return place | report.facts() | {
        "schema_version": 1, "run": RUN, "chunk": reading.Chunk(shard, 0, 0, SAMPLES).name,
        "files": {"scores": file.as_json()}, "counts": counts,
    }  # fmt: skip


def make(folder: Path, commits: int, *, packed: bool) -> None:
    """Write shards and what a complete scan of them leaves."""
    (folder / "shards").mkdir(parents=True)
    for number in range(commits):
        (folder / "shards" / f"{number:06d}.tar").touch()
    job = job_of(folder)
    who, results = identify(job), Results(job.results)
    record = RunRecord.begin(results, RUN, who.job, who.model, who.calibration)
    if who.run != RUN:
        raise SystemExit(f"the run of this version is {who.run}: put it into RUN")
    place = Path(results.store.address(f"commits/{RUN}"))
    place.mkdir(parents=True)
    with record:
        for number, start in enumerate(range(0, commits, compact.MOST_CHUNKS)):
            shards = [reading.stat(u) for u in job.shards[start : start + compact.MOST_CHUNKS]]
            rows = rows_of([shard.url for shard in shards], start)
            entry = dict[str, Any](commits={}, files={}, replaces=[])
            if packed:
                file = file_of(results, f"pack-{number:016x}", rows)
                entry["files"]["scores"] = file.as_json()
            for at, shard in enumerate(shards):
                name = reading.Chunk(shard, 0, 0, SAMPLES).name
                own = DataFile(f"scores/run={RUN}/{name}.00000000.parquet", SAMPLES, "0" * 64, 8192)
                if not packed:
                    own = file_of(results, f"{name}.00000000", rows.slice(SAMPLES * at, SAMPLES))
                entry["commits"][name] = content = record_of(shard, own)
                (place / f"{name}.json").write_text(json.dumps(content))
            if packed:
                manifest.append(results.store, RUN, number, entry)
        record.add_commits(results.commits(RUN).values())
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


def night(folder: Path) -> object:
    """Audit a corpus of which everything is scanned: its first night, and then a quiet one."""
    request = AuditRequest(job=job_of(folder), policy=Policy(), page=PageOptions())
    resources = Resources(local=True, device="cpu", threads=1)
    done = audit(AuditState(folder), request, resources, lambda event: None)
    assert done.night.scanned == 0
    assert not done.night.incomplete, done.night.incomplete[:3]
    return done.night.figures["samples"]


STEPS: dict[str, Callable[[Path], object]] = {
    "resume": resume, "plan": plan, "query": query, "verify": whole, "compact": pack,
    "first night": night, "next night": night,
}  # fmt: skip


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Run one step in a process of its own."""
    done = subprocess.run(_command(name, folder), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def _command(name: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, "--step", name, "--folder", str(folder)]


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
    parser.add_argument("--only", default="resume,plan,query,verify,first night,next night")
    parser.add_argument("--keep", action="store_true", help="keep what was written, and use it")
    parser.add_argument("--step")
    options = parser.parse_args()
    flags = ["--packed"] if options.packed else []
    if options.step == "make":
        make(options.folder, options.commits[0], packed=options.packed)
        return
    if options.step:
        step(options.step, options.folder)
        return
    names = options.only.split(",")
    print("| commits | " + " | ".join(f"{n}, s | MiB" for n in names) + " |", flush=True)
    print("|---" * (1 + 2 * len(names)) + "|", flush=True)
    for commits in options.commits:
        folder = options.folder / f"{commits}{'-packed' if options.packed else ''}"
        if not folder.exists():
            subprocess.run([*_command("make", folder), str(commits), *flags], check=True)
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

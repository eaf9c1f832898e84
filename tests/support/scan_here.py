"""The engine's plan, worker and commits in this process, without Ray: what many nights cost."""

from scanner.engine.identity import identify
from scanner.engine.job import Job, Summary
from scanner.engine.plan import CommitIndex, Plan
from scanner.engine.queue import Task
from scanner.engine.record import RunRecord
from scanner.engine.score_index import runs_like
from scanner.engine.worker import ChunkReport, Failure, Worker, build_scanner
from scanner.errors import ShardError
from scanner.results.folder import Results
from scanner.results.score_cache import ScoreIndex
from scanner.shards import reading


def scan_here(job: Job, resources=None, progress=lambda event: None, build=build_scanner):
    who = identify(job)
    job, run, results = who.job, who.run, Results(job.results)
    record = RunRecord.begin(results, run, job, who.model, who.calibration)
    (index := ScoreIndex()).load(results, runs_like(results, run, record.identity))
    worker = Worker(job, run, "cpu", 1, build, finder=index)
    with record:
        budget = None if resources is None else resources.most_samples
        plan = Plan(ledger := CommitIndex(results.commits(run)), job.limit, budget)
        opened = False
        for url in job.shards:
            try:
                shard = reading.stat(url)
                if shard.id in ledger.finished().get(url, ()):
                    problem, pieces = plan.skip(shard.id), []
                else:
                    index = reading.index(shard, record.chunk_size)
                    problem, pieces = index.problem, list(plan.work_units(index))
            except ShardError as error:
                record.summary.incomplete.append(str(error))
                continue
            if problem:
                record.summary.incomplete.append(f"{url}: {problem}")
            for piece in pieces:
                opened = opened or not isinstance(worker.open(), Failure)
                counts = worker.scan(Task(piece, piece.start, piece.stop))
                assert isinstance(counts, ChunkReport), counts
                count(record.summary, counts)
        record.summary.chunks_skipped = len(plan.skipped)
    return record.summary


def count(summary: Summary, counts: ChunkReport) -> None:
    for name in ("samples", "scored", "flagged", "rejected", "recalled"):
        setattr(summary, name, getattr(summary, name) + getattr(counts, name))
    summary.chunks_done += 1

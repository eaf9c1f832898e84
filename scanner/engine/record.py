"""The run record, ``runs/<run>.json``."""

import time
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, Self

import scanner
from scanner.engine.job import Job, Summary
from scanner.engine.reports import ActorInfo, ActorUsage
from scanner.errors import LeaseError, ResultsError
from scanner.methods import registry
from scanner.results import coverage
from scanner.results.commit_file import CommitFile, ShardRange
from scanner.results.folder import Results
from scanner.results.run_file import VERSION, Identity, RunFile

_LIBRARIES = ("torch", "diffusers", "transformers", "ray")


class RunRecord:
    """The record of one run, written when a scan begins and when it ends, however it ends.

    Its ``status`` is ``running``, ``complete``, ``incomplete`` (something is missing),
    ``interrupted`` or ``failed``. A record that says ``running`` while nothing runs is of a
    driver that was killed.

    Attributes:
        summary: What the scan fills in.
        actors: Every actor that was opened, and how it spent its time.
        chunk_size: Samples per chunk: the run's own, if it was begun with another; null if that
            is still to be found out.
        identity: Fingerprints of what decides the rows.
    """

    def __init__(
        self, results: Results, summary: Summary, content: dict[str, Any], identity: Identity
    ) -> None:
        self.summary, self.actors = summary, list[tuple[ActorInfo, ActorUsage]]()
        self.chunk_size: int | None = content["config"].get("chunk_size")
        self.identity = identity
        self._results, self._content = results, content
        self._committed = coverage.recorded(content) or {}
        self._earlier_seconds: float = content["timings"]["total_seconds"]
        self._start = time.monotonic()

    @classmethod
    def begin(
        cls, results: Results, run: str, job: Job, model: str, calibration: str,
        null_captions: int | None = None,
    ) -> "RunRecord":  # fmt: skip
        """Return a run's record, going on where an earlier scan of the same run left it.

        Args:
            results: Where it is kept.
            run: The run's name.
            job: What is scanned now.
            model: The model's fingerprint.
            calibration: The calibration's fingerprint, or ``""``.
            null_captions: How many null captions the novelty of captions is among; null for none.

        Raises:
            ResultsError: If the results folder cannot be used.
        """
        before = results.run_file(run) if results.has_run(run) else RunFile()
        config = {each.name: getattr(job, each.name) for each in fields(job)}  # copies no shards
        spec = asdict(config.pop("spec"))
        config["chunk_size"] = before.chunk_size or job.chunk_size
        if config["chunk_size"] is None:
            del config["chunk_size"]
        identity = Identity(
            model=model, spec=job.spec.fingerprint(), scores=job.spec.score_fingerprint(),
            calibration=calibration, packages=registry.packages(job.spec.detectors),
        )  # fmt: skip
        content = {
            "schema_version": VERSION,
            "run": run, "status": "running", "identity": identity.as_json(), "spec": spec,
            "config": config, "versions": _versions(),
            "started": before.started or _now(),
            "timings": {"total_seconds": before.total_seconds},
            **({} if null_captions is None else {"null_captions": null_captions}),
            **{n: before.content[n] for n in (coverage.KEY,) if n in before.content},
        }  # fmt: skip
        return cls(results, Summary(run=run), content, identity)

    def add_commits(self, records: Iterable[CommitFile]) -> None:
        """Note chunks that are committed, so that the loss of their records shows."""
        coverage.merge(self._committed, coverage.committed(records))

    def add_commit(self, place: ShardRange) -> None:
        """Note more samples that are committed."""
        coverage.add(self._committed, place)

    def keep_chunk_size(self, size: int) -> None:
        """Write down how many samples a chunk of the run has, before any is committed.

        Raises:
            ResultsError: If the record cannot be written.
        """
        self.chunk_size = self._content["config"]["chunk_size"] = size
        self._write()

    def __enter__(self) -> Self:
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, LeaseError):
            return  # the record is another process's now
        if error is None:
            self._content["status"] = "complete" if self.summary.is_complete else "incomplete"
        elif isinstance(error, KeyboardInterrupt):
            self._content["status"] = "interrupted"
        else:
            self._content["status"] = "failed"
            self._content["error"] = str(error) or type(error).__name__
        self.summary.seconds = time.monotonic() - self._start
        try:
            self._write()
        except ResultsError:
            if error is None:
                raise

    def _write(self) -> None:
        counts = asdict(self.summary)
        seconds, share = counts.pop("seconds"), counts.pop("denoiser_share")
        shares = counts.pop("time_shares")
        del counts["actors"]
        self._content |= {
            "updated": _now(),
            "incomplete": counts.pop("incomplete"),
            "quarantined": [
                {"chunk": chunk, "reason": reason} for chunk, reason in counts.pop("quarantined")
            ],
            "counts": {name: n for name, n in counts.items() if name != "run"},
            coverage.KEY: coverage.written(self._committed),
            "timings": {
                "seconds": seconds,
                "total_seconds": self._earlier_seconds + seconds,
                "denoiser_share": share,
                "time_shares": shares,
            },
            "actors": [_actor(facts, effort) for facts, effort in self.actors],
        }
        self._results.write_run(self.summary.run, self._content)


def _actor(facts: ActorInfo, effort: ActorUsage) -> dict[str, Any]:
    spent = {
        "busy_seconds": effort.seconds, "denoiser_seconds": effort.denoiser_seconds,
        "denoiser_share": effort.share, "product_seconds": effort.product_seconds,
        "preparation_seconds": effort.preparation_seconds,
        "autoencoder_seconds": effort.autoencoder_seconds,
        "waiting_seconds": effort.waiting_seconds, "batch_sizes": effort.batch_sizes,
        "memory_shortages": effort.shortages,
        **({"not_compiled": effort.not_compiled} if effort.not_compiled else {}),
        **({"checkpointed": True} if effort.checkpointed else {}),
    }  # fmt: skip
    return asdict(facts) | spent


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _versions() -> dict[str, str]:
    found = {"memscan": scanner.__version__}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "absent"
    return found

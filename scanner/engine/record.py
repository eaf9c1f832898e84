"""What a run says of itself in ``runs/<run>.json``."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, Self

import scanner
from scanner.engine.job import Job, Summary
from scanner.engine.worker import Facts
from scanner.errors import ResultsError
from scanner.io.results import Results

_LIBRARIES = ("torch", "diffusers", "transformers", "ray")


class RunRecord:
    """The record of one run, written when a scan begins and when it ends, however it ends.

    Its ``status`` is ``running``, ``complete``, ``incomplete`` (something is missing),
    ``interrupted`` or ``failed``. A record that says ``running`` while nothing runs is of a
    driver that was killed.

    Attributes:
        summary: What the scan fills in.
        facts: Every actor that was opened.
        chunk_size: Samples per chunk: the run's own, if it was begun with another.
    """

    def __init__(self, results: Results, summary: Summary, content: dict[str, Any]) -> None:
        self.summary, self.facts = summary, list[Facts]()
        self.chunk_size: int = content["config"]["chunk_size"]
        self._results, self._content = results, content
        self._earlier_seconds: float = content["timings"]["total_seconds"]
        self._start = time.monotonic()

    @classmethod
    def begin(
        cls, results: Results, run: str, job: Job, model: str, calibration: str
    ) -> "RunRecord":
        """Return a run's record, going on where an earlier scan of the same run left it.

        Args:
            results: Where it is kept.
            run: The run's name.
            job: What is scanned now.
            model: The model's fingerprint.
            calibration: The calibration's fingerprint, or ``""``.

        Raises:
            ResultsError: If the results folder cannot be used.
        """
        before = results.read_run(run) if results.exists() and run in results.runs() else {}
        config = asdict(job)
        spec = config.pop("spec")
        config["chunk_size"] = before.get("config", config)["chunk_size"]
        identity = {"model": model, "spec": job.spec.fingerprint(), "calibration": calibration}
        content = {
            "run": run, "status": "running", "identity": identity, "spec": spec,
            "config": config, "versions": _versions(),
            "started": before.get("started", _now()),
            "timings": {"total_seconds": before.get("timings", {}).get("total_seconds", 0.0)},
        }  # fmt: skip
        return cls(results, Summary(run=run), content)

    def __enter__(self) -> Self:
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
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
        self._content |= {
            "updated": _now(),
            "incomplete": counts.pop("incomplete"),
            "quarantined": [
                {"chunk": chunk, "reason": reason} for chunk, reason in counts.pop("quarantined")
            ],
            "counts": {name: n for name, n in counts.items() if name != "run"},
            "timings": {
                "seconds": seconds,
                "total_seconds": self._earlier_seconds + seconds,
                "denoiser_share": share,
            },
            "actors": [asdict(facts) for facts in self.facts],
        }
        self._results.write_run(self.summary.run, self._content)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {"memscan": scanner.__version__}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "absent"
    return found

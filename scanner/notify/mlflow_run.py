"""A run of MLflow: settings as parameters, counts as metrics, an audit's files as artifacts."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanner.errors import ConfigError
from scanner.notify.outcome import FAILED, INTERRUPTED, Outcome, Start

if TYPE_CHECKING:
    from scanner.engine.job import Event

EXPERIMENT = "memscan"
"""Of MLflow, unless ``MLFLOW_EXPERIMENT_NAME`` or ``MLFLOW_EXPERIMENT_ID`` names another."""
FILES = ("audit.json", "report.html", "summary.md")
"""Of an audit's folder: what is kept with the run."""
SECONDS_BETWEEN_METRICS = 10.0
COUNTS = ("samples_done", "scored", "localized", "flagged", "rejected", "retries", "quarantined")
"""Counts of an event that become metrics."""
_LONGEST = 500
"""Characters that MLflow takes of a parameter."""
_STATUS = {FAILED: "FAILED", INTERRUPTED: "KILLED"}


class Pace:
    """Says when the counts of an event are due to be logged: now and then, and at the end."""

    def __init__(self) -> None:
        self._last = 0.0

    def is_due(self, event: "Event") -> bool:
        """Return whether an event's counts are due; if so, the next ones are due later."""
        now = time.monotonic()
        if event.kind != "end" and now - self._last < SECONDS_BETWEEN_METRICS:
            return False
        self._last = now
        return True


class MlflowRun:
    """Logs to where ``MLFLOW_TRACKING_URI`` says; a `Callback`.

    Raises:
        ConfigError: If MLflow is not installed.
    """

    def __init__(self) -> None:
        try:
            import mlflow  # pyright: ignore[reportMissingImports] - need not be installed
        except ImportError as error:
            raise ConfigError(
                "--callback mlflow needs the package mlflow or mlflow-skinny: pip install "
                "mlflow-skinny"
            ) from error
        self._mlflow: Any = mlflow
        self._run: Any = None
        self._pace = Pace()

    def started(self, start: Start) -> None:
        """Begin a run and log what decides the numbers."""
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & set(os.environ):
            self._mlflow.set_experiment(EXPERIMENT)
        self._run = self._mlflow.start_run(run_name=f"memscan {start.command}")
        self._mlflow.log_params({name: str(v)[:_LONGEST] for name, v in parameters(start).items()})

    def progress(self, event: "Event") -> None:
        """Log counts, now and then."""
        if self._run is not None and self._pace.is_due(event):
            self._mlflow.log_metrics(counts(event), step=event.samples_done)

    def finished(self, outcome: Outcome, folder: Path | None) -> None:
        """Log what came of it, and end the run."""
        if self._run is None:
            return
        try:
            self._mlflow.set_tags({"memscan.word": outcome.word, "memscan.run": outcome.run})
            self._mlflow.log_metrics(totals(outcome))
            self._mlflow.log_dict(outcome.as_json(), "outcome.json")
            for file in kept(folder):
                self._mlflow.log_artifact(str(file))
        finally:
            self._mlflow.end_run(_STATUS.get(outcome.word, "FINISHED"))


def parameters(start: Start) -> dict[str, Any]:
    """Return what a tracker keeps of a start: command, model, place, shards and settings."""
    head = {"command": start.command, "model": start.model, "place": start.place,
            "shards": len(start.shards)}  # fmt: skip
    return head | start.settings


def counts(event: "Event") -> dict[str, float]:
    """Return the counts of an event as metrics."""
    return {name: float(getattr(event, name)) for name in COUNTS}


def totals(outcome: Outcome) -> dict[str, float]:
    """Return the counts of an outcome as metrics."""
    levels = {f"severity_{level}": number for level, number in outcome.severities.items()}
    every = outcome.counts | levels | {"exit_code": outcome.exit_code, "seconds": outcome.seconds}
    return {name: float(number) for name, number in every.items()}


def kept(folder: Path | None) -> list[Path]:
    """Return the files of an audit that a tracker keeps."""
    return [] if folder is None else [folder / name for name in FILES if (folder / name).is_file()]

"""A run of Weights & Biases: settings as config, counts as history, an audit as an artifact."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanner.errors import ConfigError
from scanner.notify.mlflow_run import Pace, counts, kept, parameters, totals
from scanner.notify.outcome import Outcome, Start

if TYPE_CHECKING:
    from scanner.engine.job import Event

PROJECT = "memscan"
"""Of Weights & Biases, unless ``WANDB_PROJECT`` names another."""


class WandbRun:
    """Logs to where wandb's own settings say, ``WANDB_MODE=offline`` among them; a `Callback`.

    Raises:
        ConfigError: If wandb is not installed.
    """

    def __init__(self) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports] - need not be installed
        except ImportError as error:
            raise ConfigError(
                "--callback wandb needs the package wandb: pip install wandb"
            ) from error
        self._wandb: Any = wandb
        self._run: Any = None
        self._pace = Pace()

    def started(self, start: Start) -> None:
        """Begin a run and log what decides the numbers."""
        # What is printed holds captions, and the machine's facts are nobody's business.
        settings = self._wandb.Settings(
            console="off", disable_git=True, save_code=False, x_disable_meta=True
        )
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT, job_type=start.command,
            config=parameters(start), settings=settings,
        )  # fmt: skip

    def progress(self, event: "Event") -> None:
        """Log counts, now and then."""
        if self._run is not None and self._pace.is_due(event):
            self._run.log(counts(event))

    def finished(self, outcome: Outcome, folder: Path | None) -> None:
        """Log what came of it, and end the run."""
        if self._run is None:
            return
        try:
            facts = {"word": outcome.word, "why": outcome.why, "run": outcome.run}
            self._run.summary.update(totals(outcome) | facts)
            if files := kept(folder):
                artifact = self._wandb.Artifact(f"memscan-{outcome.name}", type="audit")
                for file in files:
                    artifact.add_file(str(file))
                self._run.log_artifact(artifact)
        finally:
            self._run.finish(exit_code=0 if outcome.exit_code in (0, 1, 3, 5) else 1)

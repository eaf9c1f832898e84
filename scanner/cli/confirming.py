"""``confirm``, and ``--confirm`` of what scans: findings drawn again under fresh seeds."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanner.cli import options, progress
from scanner.errors import ConfigError, IncompleteError

if TYPE_CHECKING:
    from collections.abc import Collection

    from scanner.analysis.findings import Finding
    from scanner.engine.job import Job, Resources, Summary
    from scanner.results.folder import Results

HEADS = ("level", "what is known", "key", "caption")
MOST_LINES = 50


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Findings of a run, after what was to be drawn again was.

    Attributes:
        run: The run.
        found: All its findings, the best confirmed first.
        most: How many were to be drawn at most.
        missing: What could not be drawn, or ``""``.
    """

    run: str
    found: "list[Finding]"
    most: int
    missing: str = ""

    @property
    def levels(self) -> dict[str, int]:
        """How many findings are of which level, the worst first."""
        from scanner.analysis.levels import LEVELS

        counts = Counter(finding.level for finding in self.found)
        return {level: counts[level] for level in LEVELS if counts[level]}

    def answer(self) -> str:
        """Return what came of it in a line."""
        drawn = sum(bool(finding.drawn) for finding in self.found)
        if not self.found:
            return "nothing is flagged: nothing to draw again"
        told = ", ".join(f"{number} {level}" for level, number in self.levels.items())
        left = len(self.found) - drawn
        bound = f" (at most {self.most} are)" if len(self.found) > self.most else ""
        more = f"; {left} not drawn{bound}" if left else ""
        return f"{drawn} of {len(self.found)} findings drawn again: {told}{more}"

    def as_json(self) -> dict[str, Any]:
        """Return it for a program: findings by level, and each with its numbers."""
        names = ("level", "drawn", "compared", "given_back", "plain", "rate_low", "rate_high",
                 "agreeing", "key", "shard", "p_value", "delta_s")  # fmt: skip
        rows = [
            {"finding": f.identity, **{name: getattr(f, name) for name in names}, "known": f.known}
            for f in self.found
        ]
        return {"run": self.run, "levels": self.levels, "findings": rows, "missing": self.missing}


@options.takes(options.running, without=("chunk_size", "limit", "batch_size", "offload", "compile"))
def confirm(
    results: options.Results,
    seeds: Annotated[
        int, typer.Option("--seeds", "-n", min=1, max=1000, help="Pictures to draw of each.")
    ] = 20,
    at_most: options.AtMost = options.MOST_CONFIRMED,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            show_default=False,
            rich_help_panel=options.OF_MODEL,
            help="Where the run's model is now; default where it was. Another one is refused.",
        ),
    ] = None,
    run: options.Run = None,
    as_json: options.Json = False,
    everything: options.Everything = False,
    **asked: Any,
) -> None:
    r"""Draw what a run flags again, under seeds that no scan uses: does its image come back?

    A flag is a suspicion. The run's own model and settings draw every flagged caption --seeds
    times, compare with the training image where the shard has one, and count how many draws are
    alike. `findings` then has a level (copied, reproduced, stored, suspected, not confirmed)
    with the numbers behind it, and so do `report`, `show` and the next audit. Scores stay.
    The same command again resumes: nothing is drawn twice.
    Exit codes: 0 done, 2 cannot start, 3 something is missing, 4 cluster lost, 130 interrupted.

    Example:
        memscan confirm results --seeds 20
    """
    from scanner.cli import scanning
    from scanner.cli.selection import selected_one
    from scanner.engine.job import Resources
    from scanner.text import aligned, cut, printable

    scanning.check_events(asked["events"])
    chosen = selected_one(results, run, everything=everything)
    resources = Resources(**{name: asked[name] for name in scanning.RESOURCES})
    done = drawn_again(
        chosen.store, chosen.run, resources, seeds=seeds, most=at_most, events=asked["events"],
        model=model, shards=chosen.shards,
    )  # fmt: skip
    if as_json:
        progress.say(json.dumps(done.as_json()))
    else:
        shown = [f for f in done.found if f.drawn][:MOST_LINES]
        rows = [(f.level, f.known, printable(f.key), cut(printable(f.caption), 60)) for f in shown]
        if rows:
            progress.say(aligned(HEADS, rows, progress.table_width()) + "\n")
        progress.say(done.answer())
    if done.missing:
        raise IncompleteError(done.missing)


def check(job: "Job", seeds: int) -> None:
    """Refuse a scan whose findings are to be drawn again and cannot be.

    Raises:
        ConfigError: If nothing can be flagged, or it cannot be drawn.
    """
    if not seeds:
        return
    from scanner.engine import redraw
    from scanner.matching.confirmation import FIRST_SEED

    if job.calibration is None and job.spec.threshold is None:
        raise ConfigError("--confirm draws what is flagged: give --calibration or --threshold")
    redraw.refuse(job.spec, FIRST_SEED)


def of_night(
    results: "Results", run: str, asked: Mapping[str, Any], shards: "Collection[str]"
) -> str:
    """Draw an audit's findings again; return what is missing, or ``""``.

    Args:
        results: Of the state.
        run: The run.
        asked: The command's options.
        shards: Identities of the shards whose rows count.
    """
    return _after(results, run, asked, shards).missing


def after(job: "Job", summary: "Summary", asked: Mapping[str, Any]) -> Confirmed | None:
    """Draw a scan's findings again, if that was asked for.

    Args:
        job: The scan's.
        summary: What it did.
        asked: The command's options.
    """
    if not asked["confirm"]:
        return None
    from scanner.results.folder import Results

    return _after(Results(job.results), summary.run, asked, None)


def _after(
    results: "Results", run: str, asked: Mapping[str, Any], shards: "Collection[str] | None"
) -> Confirmed:
    from scanner.cli import scanning
    from scanner.engine.job import Resources

    resources = Resources(**{name: asked[name] for name in scanning.RESOURCES})
    return drawn_again(
        results, run, resources, seeds=asked["confirm"], most=asked["confirm_at_most"],
        events=asked["events"], shards=shards,
    )  # fmt: skip


def drawn_again(
    results: "Results", run: str, resources: "Resources", *, seeds: int, most: int,
    events: Path | None, model: str | None = None, shards: "Collection[str] | None" = None,
) -> Confirmed:  # fmt: skip
    """Draw a run's findings again and write the table ``confirmed``; go on where it ended.

    Args:
        results: Of the run; the draws lie in a folder of it.
        run: The run.
        resources: Where to draw.
        seeds: Pictures of each.
        most: Findings at most.
        events: Where everything that happens is written, or null.
        model: Where the model is now; null takes what the run's record names.
        shards: Identities of the shards whose rows count; null for all.

    Raises:
        ConfigError: If it is another model, or the run cannot be drawn.
        ResultsError: If results cannot be read or written.
        ClusterError: If processes die faster than they can be replaced.
    """
    from scanner.engine import redraw
    from scanner.engine.identity import identify
    from scanner.matching.confirmation import DRAWS, FIRST_SEED, Task
    from scanner.shards import reading

    record = results.run_file(run)
    results.check()
    base = redraw.job_of(record, None if model is None else options.model_of(model, None))
    redraw.refuse(base.spec, FIRST_SEED)
    fresh = range(FIRST_SEED, FIRST_SEED + seeds)
    job = redraw.redraw(base, results.store.address(DRAWS), "none", fresh)
    who = identify(job)
    if record.model and who.model != record.model:
        raise ConfigError(
            f"run {run} was scanned with the model {record.model}, and {base.model} is "
            f"{who.model}: name that one with --model"
        )
    task = Task(results, run, who.run, seeds, most, shards)
    chosen, missing = task.chosen(), ""
    if pending := task.pending(chosen):
        missing = _draw(task, replace(job, shards=(task.write_shard(pending, reading.images),)),
                        resources, events)  # fmt: skip
    task.record()
    return Confirmed(run, task.findings(), most, missing)


def _draw(task: Any, job: "Job", resources: "Resources", events: Path | None) -> str:
    """Draw; return what is missing, or ``""``. The shard stays where something is."""
    from scanner.cli import scanning

    summary = scanning.run(job, resources, "confirm", events)
    if summary.is_complete:
        task.remove_shards()
        return ""
    return summary.missing()

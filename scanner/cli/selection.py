"""Choice of the run or runs that a command reads: one rule for all commands that read results.

Without ``--run`` it is `Results.default_run`, or what the last audit counted where the place is the
state folder of an audit. Where there was a choice, a line on the standard error says what was
chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scanner.cli import progress
from scanner.errors import ConfigError, ResultsError

if TYPE_CHECKING:
    from scanner.nightly.state import AuditState
    from scanner.results.folder import Results

ONE = "--run picks another"
MANY = f"{ONE}, --all-runs reads all"


@dataclass(frozen=True, slots=True)
class Selection:
    """The runs and shards that a command reads.

    Attributes:
        store: The results.
        runs: Names of the runs, at least one.
        shards: Identities of the shards whose rows count; null for all.
    """

    store: "Results"
    runs: list[str]
    shards: frozenset[str] | None = None

    @property
    def run(self) -> str:
        """The run, for a command that reads one."""
        return self.runs[0]


def opened(place: str) -> "Results":
    """Return the results in a bucket or a folder, which may be the state folder of an audit.

    Raises:
        ResultsError: If there are none.
    """
    return _opened(place)[0]


def selected(
    place: str, runs: Sequence[str] | None, *, all_runs: bool = False, everything: bool = False
) -> Selection:
    """Return the runs to read.

    Args:
        place: A results folder or address, or the state folder of an audit.
        runs: What ``--run`` named: run names, or several with commas between them.
        all_runs: Whether to read every run.
        everything: Of an audit: whether to read every run, and the shards that it no longer counts.

    Raises:
        ConfigError: If the options exclude each other, or there is no such run.
        ResultsError: If there are no results.
    """
    named = names(runs)
    if named and all_runs:
        raise ConfigError("--run and --all-runs exclude each other: give one of them")
    store, state = _opened(place, everything=everything)
    known = _known(store, named)
    if named:
        chosen = named
    elif all_runs or everything:
        chosen = known
    else:
        chosen = [_default(store, state, known, MANY)]
    return Selection(store, chosen, _counted(state, everything=everything))


def selected_one(place: str, runs: Sequence[str] | None, *, everything: bool = False) -> Selection:
    """Return the run to read, for a command that reads one.

    Args:
        place: As for `selected`.
        runs: What ``--run`` named.
        everything: Of an audit: whether to read the shards that it no longer counts, too.

    Raises:
        ConfigError: If several runs were named, or there is no such run.
        ResultsError: If there are no results.
    """
    named = _one(runs)
    store, state = _opened(place, everything=everything)
    known = _known(store, named)
    chosen = named or [_default(store, state, known, ONE)]
    return Selection(store, chosen, _counted(state, everything=everything))


def newest(place: str, runs: Sequence[str] | None) -> Selection:
    """Return the run that was named, or the one begun last, complete or not.

    It is for commands that look after files: they are run for what a scan has just left.

    Raises:
        ConfigError: If several runs were named, or there is no such run.
        ResultsError: If there are no results.
    """
    named = _one(runs)
    store = opened(place)
    known = _known(store, named)
    if not named and len(known) > 1:
        progress.note(f"run {known[-1]}: begun last of {len(known)}; {ONE}")
    return Selection(store, named or known[-1:])


def names(runs: Sequence[str] | None) -> list[str]:
    """Return the names that ``--run`` was given, each once, in their order.

    Raises:
        ConfigError: If it was given without a name.
    """
    parts = [part.strip() for text in runs or () for part in text.split(",")]
    if not all(parts):
        raise ConfigError("--run must name a run: `memscan runs` lists them")
    return list(dict.fromkeys(parts))


def _one(runs: Sequence[str] | None) -> list[str]:
    named = names(runs)
    if len(named) > 1:
        raise ConfigError(f"this command reads one run, got {', '.join(named)}: name one of them")
    return named


def _opened(place: str, *, everything: bool = False) -> "tuple[Results, AuditState | None]":
    from scanner.nightly.state import AuditState
    from scanner.results.folder import Results

    state = AuditState.around(place)
    store = Results(place) if state is None else state.results
    if not store.exists():
        raise ResultsError(f"no results in {place}: scan into it first")
    if everything and state is None:
        raise ConfigError(
            f"--everything is for the state folder of an audit, and {place} is none: leave it out"
        )
    return store, state


def _known(store: "Results", named: Sequence[str]) -> list[str]:
    known = store.runs()
    if not known:
        raise ConfigError(f"no run in {store.root}: scan into it first")
    if unknown := [name for name in named if name not in known]:
        raise ConfigError(
            f"no run {', '.join(unknown)} in {store.root}; there are: {', '.join(known)}"
        )
    return known


def _counted(state: "AuditState | None", *, everything: bool) -> frozenset[str] | None:
    return None if state is None or everything else state.current()[1]


def _default(
    store: "Results", state: "AuditState | None", known: Sequence[str], others: str
) -> str:
    """Return the run that is read if none is named; say which where that is not obvious."""
    if state is not None:
        run = state.current()[0]
        if len(known) > 1:
            progress.note(f"run {run}: the last audit counted it, of {len(known)}; {others}")
        return run
    run = store.default_run()
    status = store.run_file(run).status
    if status == "complete" and run == known[-1]:
        why = "the newest"
    elif status == "complete":
        later = store.run_file(known[-1]).status
        why = f"the newest complete one ({known[-1]}, begun later, is {later})"
    else:
        why = f"{status}, no run is complete; begun last"
    if len(known) > 1:
        progress.note(f"run {run}: {why}, of {len(known)}; {others}")
    elif status != "complete":
        progress.note(f"run {run} is {status}")
    return run

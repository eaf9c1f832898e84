"""The queue of chunks: order, retries, and the blame for a failure. Knows no Ray."""

from collections import deque
from dataclasses import dataclass, field, replace

from scanner.engine.plan import WorkUnit

ATTEMPTS = 3
"""Times that a unit is tried before its samples are tried apart."""
CLEAN_TRIALS = 2
"""Times that a sample must fail by itself before it is rejected."""
MOST_FAILURES_IN_A_ROW = 8
"""Trials of one unit that fail in a row before the unit is given up."""


@dataclass(frozen=True, slots=True)
class Task:
    """One call of an actor.

    Attributes:
        unit: The unit that it is about.
        start: First sample to scan, counted in the chunk.
        stop: One past the last.
        trial: Scans without a commit, to see whether these samples can be scanned.
        poison: Samples not to scan but to reject, by position in the chunk, with the reason.
        alone: Given to an actor that has nothing else, so that what kills the actor is known.
    """

    unit: WorkUnit
    start: int
    stop: int
    trial: bool = False
    poison: tuple[tuple[int, str], ...] = ()
    alone: bool = False

    @property
    def proves(self) -> bool:
        """Whether its success shows that scanning works at all."""
        return self.stop - self.start > len(self.poison)


@dataclass(slots=True)
class _FailureHistory:
    """The failures of a unit so far."""

    reason: str = ""
    failures: int = 0
    open_trials: int = 0
    failed_in_row: int = 0
    alone: dict[int, int] = field(default_factory=dict)
    poison: dict[int, str] = field(default_factory=dict)
    tried_apart: bool = False
    given_up: bool = False


class Queue:
    """Tasks to run, in order, with the memory of what failed.

    An actor has several tasks at a time. If it dies with more than one, none is blamed: each
    is a suspect, tried again alone. What failed before is tried alone too. So what takes its
    company along is found out, and no task is blamed for another.

    A unit that fails `ATTEMPTS` times is bisected by trials until the samples that fail by
    themselves are known; the unit is then committed whole, with those as rejects. Bisecting
    never makes a second commit, so two drivers at once cannot split a chunk differently.
    """

    def __init__(self) -> None:
        self.quarantined: list[tuple[str, str]] = []
        self._waiting: deque[Task] = deque()
        self._apart: deque[Task] = deque()
        self._cases: dict[str, _FailureHistory] = {}
        self._successes = 0

    def __len__(self) -> int:
        """Tasks waiting."""
        return len(self._waiting) + len(self._apart)

    @property
    def apart(self) -> int:
        """Tasks waiting that must be alone with an actor."""
        return len(self._apart)

    def add(self, unit: WorkUnit) -> None:
        """Put a unit at the end."""
        self._waiting.append(Task(unit, unit.start, unit.stop))

    def take(self, *, alone: bool = True) -> Task | None:
        """Return the next task, or null if none waits.

        Args:
            alone: Whether it would be alone; if not, those that must be are passed over.
        """
        if alone and self._apart:
            return self._apart.popleft()
        return self._waiting.popleft() if self._waiting else None

    def clear(self) -> None:
        """Drop what waits."""
        self._waiting.clear()

    def give_back(self, task: Task, *, suspect: bool = False) -> None:
        """Put back a task that is not to blame for anything yet, to be the next.

        Args:
            task: The task.
            suspect: Whether it may have killed its actor.
        """
        if suspect or task.alone:
            self._apart.appendleft(replace(task, alone=True))
        else:
            self._waiting.appendleft(task)

    def succeeded(self, task: Task) -> None:
        """Note that a task came back."""
        self._successes += task.proves
        case = self._cases.get(task.unit.name)
        if task.trial and case is not None:
            case.failed_in_row = 0
            self._close_trial(task.unit, case)

    def failed(self, task: Task, reason: str) -> None:
        """Note that a task failed, or took its process with it; decide what follows."""
        case = self._cases.setdefault(task.unit.name, _FailureHistory())
        case.reason = reason
        if task.trial:
            self._trial_failed(task, case)
            return
        case.failures += 1
        if case.failures < ATTEMPTS:
            self._retry_alone(task)
        elif case.tried_apart:
            self._give_up(task.unit, case)
        elif task.stop - task.start == 1:
            case.failures, case.tried_apart, case.open_trials = 0, True, 1
            case.poison[task.start] = reason
            self._close_trial(task.unit, case)
        else:
            case.failures, case.tried_apart = 0, True
            self._try_apart(task, case)

    def unreadable(self, task: Task) -> bool:
        """Note that a task's shard could not be read; return whether it is tried again."""
        case = self._cases.setdefault(task.unit.name, _FailureHistory())
        case.failures += 1
        if case.failures < ATTEMPTS:
            self._waiting.append(task)
            return True
        case.given_up = True
        self._forget_trials(task.unit.name)
        return False

    def is_over(self, task: Task) -> bool:
        """Whether the task's unit was given up while it was on its way."""
        case = self._cases.get(task.unit.name)
        return case is not None and case.given_up

    def _retry_alone(self, task: Task) -> None:
        self._apart.append(replace(task, alone=True))

    def _try_apart(self, task: Task, case: _FailureHistory) -> None:
        """Queue trials of both halves."""
        middle = (task.start + task.stop) // 2
        for start, stop in ((task.start, middle), (middle, task.stop)):
            self._retry_alone(Task(task.unit, start, stop, trial=True))
        case.open_trials += 2

    def _trial_failed(self, task: Task, case: _FailureHistory) -> None:
        case.failed_in_row += 1
        if case.given_up:
            return
        if case.failed_in_row >= MOST_FAILURES_IN_A_ROW:
            self._give_up(task.unit, case)
        elif task.stop - task.start > 1:
            self._try_apart(task, case)
            self._close_trial(task.unit, case)
        else:
            case.alone[task.start] = case.alone.get(task.start, 0) + 1
            if case.alone[task.start] < CLEAN_TRIALS:
                self._retry_alone(task)
            else:
                case.poison[task.start] = case.reason
                self._close_trial(task.unit, case)

    def _close_trial(self, unit: WorkUnit, case: _FailureHistory) -> None:
        """After the last trial, queue the commit, unless nothing speaks for the environment."""
        case.open_trials -= 1
        if case.open_trials or case.given_up:
            return
        if len(case.poison) == unit.stop - unit.start and not self._successes:
            self._give_up(unit, case)
        else:
            poison = tuple(sorted(case.poison.items()))
            self._retry_alone(Task(unit, unit.start, unit.stop, poison=poison))

    def _give_up(self, unit: WorkUnit, case: _FailureHistory) -> None:
        case.given_up = True
        self._forget_trials(unit.name)
        self.quarantined.append((unit.name, case.reason))

    def _forget_trials(self, name: str) -> None:
        self._waiting = deque(task for task in self._waiting if task.unit.name != name)
        self._apart = deque(task for task in self._apart if task.unit.name != name)

"""Rate of work over a sliding window."""

from collections import deque

WINDOW_SECONDS = 120.0
LEAST_SECONDS = 5.0
"""A rate of less than this says nothing of what is to come."""


class Throughput:
    """A rate over the last two minutes; of a slower thing, between its last two reports.

    Args:
        start: When it began, in seconds.
    """

    def __init__(self, start: float) -> None:
        self._reports: deque[tuple[float, float]] = deque([(start, 0.0)])
        self.total = 0.0

    def add(self, amount: float, now: float) -> None:
        """Note that so much more is done."""
        self.total += amount
        self._reports.append((now, self.total))
        while len(self._reports) > 2 and now - self._reports[1][0] >= WINDOW_SECONDS:
            self._reports.popleft()

    @property
    def is_meaningful(self) -> bool:
        """Whether the reports span long enough for a rate to be told, or an estimate made of it."""
        return self._reports[-1][0] - self._reports[0][0] >= LEAST_SECONDS

    def per_second(self, now: float) -> float:
        """Return the rate, 0 before the first report.

        It falls while a report is overdue: a thing that stopped does not keep its speed.
        """
        (start, before), (last, _) = self._reports[0], self._reports[-1]
        if len(self._reports) < 2:
            return 0.0
        typical = (last - start) / (len(self._reports) - 1)
        end = max(last, now - typical)
        return (self.total - before) / max(end - start, 1e-9)

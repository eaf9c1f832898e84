"""A job's log, read through connections that may break."""

from collections.abc import Callable

import aiohttp
from ray.job_submission import JobSubmissionClient


class LogTail:
    """A job's log, read through connections that may break."""

    def __init__(self, client: JobSubmissionClient, job: str, write: Callable[[str], None]) -> None:
        self._client, self._job, self._write, self._written = client, job, write, 0

    async def read(self) -> bool:
        """Hand on what is new, until the log or the connection ends; return whether the log did."""
        place = 0
        try:
            async for text in self._client.tail_job_logs(self._job):
                self._hand_on(place, text)
                place += len(text)
        except (OSError, RuntimeError, aiohttp.ClientError):
            return False
        return True

    def catch_up(self, log: str) -> None:
        """Hand on what is new in the whole log."""
        self._hand_on(0, log)

    def _hand_on(self, place: int, text: str) -> None:
        new = text[max(0, self._written - place) :]
        if new:
            self._write(new)
            self._written = place + len(text)

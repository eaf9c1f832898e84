"""Limits on slow web servers: time for the headers, and a least rate for the body."""

import asyncio
from typing import Any, Self, cast

from aiohttp import ClientResponse, StreamReader

from scanner.retry import LEAST_BYTES_PER_SECOND, SlowError, silence


class SteadyResponse(ClientResponse):
    """A response whose server may be slow, but not so slow that reading it never ends.

    A limit on silence alone is met by a server that sends a byte now and then. Here the headers
    must be complete within `silence` seconds, and in as many seconds of waiting for the body
    `LEAST_BYTES_PER_SECOND` must arrive on average.
    """

    async def start(self, connection: Any) -> Self:
        """Read the headers.

        Raises:
            SlowError: If they are not complete in time.
        """  # noqa: DOC501 - made one of these
        limit = asyncio.timeout(seconds := silence())
        try:
            async with limit:
                await super().start(connection)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise SlowError(f"its headers were not complete within {seconds:g} s") from error
        self.content = cast(StreamReader, _SteadyBody(self.content, seconds))
        return self


class _SteadyBody:
    """The body of a response; only the time that a reader waits for it counts."""

    def __init__(self, stream: StreamReader, seconds: float) -> None:
        self._stream, self._seconds = stream, seconds
        self._least = seconds * LEAST_BYTES_PER_SECOND
        self._waited, self._arrived = 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, count: int = -1) -> bytes:
        """Return up to ``count`` bytes as they arrive, or all that are left if it is negative.

        Raises:
            SlowError: If they arrive too slowly.
        """
        if count >= 0:
            return await self._block(count)
        blocks = list[bytes]()
        while block := await self._block(-1):
            blocks.append(block)
        return b"".join(blocks)

    async def _block(self, count: int) -> bytes:
        limit, loop = asyncio.timeout(self._seconds - self._waited), asyncio.get_running_loop()
        start = loop.time()
        try:
            async with limit:
                reading = self._stream.readany() if count < 0 else self._stream.read(count)
                block = await reading
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise SlowError(
                f"it sent {self._arrived} bytes in {self._seconds:g} s, and {self._least:.0f} are "
                f"the least"
            ) from error
        self._waited += loop.time() - start
        self._arrived += len(block)
        if self._arrived >= self._least:
            self._waited, self._arrived = 0.0, 0
        return block

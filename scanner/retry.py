"""Errors of stores: which of them pass, how long to wait for that, and what a person can do."""

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from scanner.signed import redacted

T = TypeVar("T")

RETRY_SECONDS = 60.0
"""Seconds that a store may fail before it is an error; ``MEMSCAN_STORE_PATIENCE`` overrides it."""
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0
LEAST_BYTES_PER_SECOND = 1024
"""Bytes per second that a web server must send on average; a slower one counts as gone."""

_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_PASSING_NAMES = frozenset({
    "ClientConnectionError", "ClientPayloadError", "ConnectionError", "HTTPClientError",
    "IncompleteRead", "IncompleteReadError", "ResponseStreamingError", "ResponseParserError",
    "TransportError",
})  # fmt: skip
"""Names in aiohttp, botocore, http.client and httpx, none of which need be installed."""
_REDIRECTS = {
    "TooManyRedirects": "the server redirects in a circle",
    "NonHttpUrlRedirectClientError": "the server redirects to something other than http or https, "
    "which is never opened",
    "InvalidUrlRedirectClientError": "the server redirects to what is no address",
}
"""Errors of aiohttp by name."""


class SlowError(Exception):
    """A web server that sends too slowly; it may be faster at the next attempt.

    Neither a `TimeoutError` nor an `OSError`: fsspec and aiohttp replace those by their own,
    without the text.
    """


def with_retries(
    work: Callable[[], T], *, seconds: float | None = None,
    passes: Callable[[BaseException], bool] | None = None,
) -> T:  # fmt: skip
    """Return what ``work`` returns, calling it again while it fails in a way that passes.

    Waits double from a quarter of a second to ten, each shortened by chance so that many actors
    do not come back at once. What does not pass (no rights, no such object) is raised at once,
    and what has not passed after some time, then.

    Args:
        work: What to do.
        seconds: How long it may fail; `retry_seconds` by default.
        passes: Whether an error may be gone at the next attempt; `is_transient` by default.
    """
    may_pass = is_transient if passes is None else passes
    begun, wait = time.monotonic(), FIRST_WAIT_SECONDS
    while True:
        try:
            return work()
        except Exception as error:
            deadline = begun + (retry_seconds() if seconds is None else seconds)
            pause = wait * random.uniform(0.5, 1.0)
            if not may_pass(error) or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def retry_seconds() -> float:
    """Return how many seconds a store may fail."""
    text = os.environ.get("MEMSCAN_STORE_PATIENCE", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        return RETRY_SECONDS


def silence() -> float:
    """Return within how many seconds a web server must send its headers, or enough of a body."""
    return max(1.0, retry_seconds() / 3)


def slow(error: BaseException) -> SlowError | None:
    """Return the `SlowError` behind an error, if there is one."""
    return next((each for each in _chain(error) if isinstance(each, SlowError)), None)


def is_transient(error: BaseException) -> bool:
    """Return whether an error of a store may be gone at the next attempt.

    The outermost error that says something decides: a connection that broke passes, whatever
    its parser makes of what came; what the server answered does if its status says so.
    """
    for each in _chain(error):
        if _is_passing_kind(each):
            return True
        if (status := _status(each)) is not None:
            return status in _PASSING_STATUS
    return False


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status behind an error, if there is one."""
    return next((s for each in _chain(error) if (s := _status(each)) is not None), None)


def explain(error: BaseException) -> str:
    """Return an error of a store, without secrets, with what can be done about it."""
    what, status = redacted(str(error)) or type(error).__name__, http_status(error)
    kind = type(error).__name__
    for each in _chain(error):
        if (name := type(each).__name__) in _REDIRECTS:
            return f"{what}: {_REDIRECTS[name]}; give the address that it should lead to"
    if status in (401, 403) or isinstance(error, PermissionError) or "Credentials" in kind:
        return (
            f"{what}: access is denied; give credentials (AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS; FSSPEC_S3_ANON=true for a "
            f"public bucket; ~/.netrc or FSSPEC_HTTPS for a web server) that may do this"
        )
    if (cause := slow(error)) is not None:
        return (
            f"the server is too slow ({cause}), and was tried again; run again when it is faster, "
            f"or copy the shard to another place"
        )
    if is_transient(error):
        return f"{what}: no answer within {retry_seconds():.0f} s; run again when the store is back"
    if status == 404 or isinstance(error, FileNotFoundError):
        return f"{what}: it does not exist; check the bucket, the path and AWS_ENDPOINT_URL"
    return what


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None)
        if status is None:
            status = getattr(error, "code", None)
    return status if isinstance(status, int) and 100 <= status < 600 else None


def _is_passing_kind(error: BaseException) -> bool:
    if isinstance(error, TimeoutError | ConnectionError | SlowError):
        return True
    return any(kind.__name__ in _PASSING_NAMES for kind in type(error).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    for _ in range(10):
        if each is None:
            return
        yield each
        each = each.__cause__ or each.__context__

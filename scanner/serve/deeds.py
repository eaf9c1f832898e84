"""What changes something: marks and mutes. Each is a form that a page of ours sent."""

import threading
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scanner.errors import ConfigError
from scanner.nightly import muting
from scanner.serve.filters import Filter, hash_in
from scanner.serve.gate import same
from scanner.serve.marks import LONGEST_REASON
from scanner.serve.site import Site
from scanner.text import printable

LARGEST = 16 * 1024
"""Bytes of a form."""
_MUTING = threading.Lock()
"""The file of mutes is read and written anew."""


def posted(site: Site, deed: Callable[[Site, Mapping[str, str]], None]) -> Callable[
    [Request], Awaitable[Response]
]:  # fmt: skip
    """Return the endpoint that does something and goes back to the page that the form was on."""

    async def endpoint(request: Request) -> Response:
        form = await _form(request)
        if not same(form.get("key", ""), site.access.key):
            return site.message(
                403, "Another page", "This form is of another start of memscan serve: load its "
                "page again.", request,
            )  # fmt: skip
        back = await run_in_threadpool(_done, site, deed, form)
        return RedirectResponse(f"{site.access.root}{back}", 303)

    return endpoint


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        ConfigError: If it is too large or no form.
    """
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            raise ConfigError(f"a form must have at most {LARGEST:,} bytes")
    try:
        return dict(parse_qsl(content.decode("utf-8"), max_num_fields=40, keep_blank_values=True))
    except ValueError as error:
        raise ConfigError("what was sent is no form of this page") from error


def _done(site: Site, deed: Callable[[Site, Mapping[str, str]], None],
          form: Mapping[str, str]) -> str:  # fmt: skip
    """Do it and return the path to go on at."""
    deed(site, form)
    run = form.get("run", "")
    asked = Filter.of(dict(parse_qsl(form.get("filter", ""))))
    asked = asked.but(run="" if run == site.source.default_run() else run)
    if form.get("page") == "captions":
        place = {name: hash_in(form.get(name, "")) for name in ("after", "before")}
        kept = asked.address(**place)
        return f"/?{kept}" if kept else "/"
    kept = asked.address()
    return f"/caption?id={form['finding']}{'&' + kept if kept else ''}#marks"


def mark(site: Site, form: Mapping[str, str]) -> None:
    """Keep a person's decision about a finding.

    Raises:
        ConfigError: If there is no such finding, or something is missing.
        OutputError: If it cannot be written.
    """
    run, id = _finding(site, form)
    asked = (form.get(name, "") for name in ("mark", "reason", "name"))
    word, reason, name = asked
    if word == "none":
        word = ""
        if not site.marks.history().get(id):
            raise ConfigError("there is no mark to take back")
    elif not word:
        raise ConfigError("choose a mark: confirmed, licensed or false")
    site.marks.add(id, word, reason, name, run)


def mute(site: Site, form: Mapping[str, str]) -> None:
    """Keep a finding out of alarms, or let it raise them again.

    Raises:
        ConfigError: If these are no audit's results, or something is missing.
        OutputError: If it cannot be written.
    """
    state = site.source.state
    if state is None:
        raise ConfigError("mutes are of an audit's state, and these results are of none")
    _, id = _finding(site, form)
    with _MUTING:
        if form.get("undo"):
            muting.unmute(state, form.get("muted") or id)
            return
        reason = printable(form.get("reason", ""))[:LONGEST_REASON]
        muting.mute(state, id, reason, _day(form.get("until", "")))


def _finding(site: Site, form: Mapping[str, str]) -> tuple[str, str]:
    """Return run and identity of the finding that a form names.

    Raises:
        ConfigError: If there is no such finding.
    """
    found = site.listing(form.get("run", ""))
    id = form.get("finding", "")
    with found.cursor() as con:
        there = con.execute("SELECT 1 FROM listed WHERE id = $1 LIMIT 1", [id]).fetchall()
    if not there:
        raise ConfigError(f"run {found.run} has no such finding")
    return found.run, id


def _day(text: str) -> date | None:
    """Return the day that a form names, if it names one.

    Raises:
        ConfigError: If it is none.
    """
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise ConfigError(
            f"the last day of a mute must be YYYY-MM-DD, got {text[:40]!r}"
        ) from error

"""The application: paths, what errors become, and the server that runs it."""

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scanner.errors import ConfigError, ResultsError, ScannerError
from scanner.serve.deeds import mark, mute, posted
from scanner.serve.gate import Access, Gate
from scanner.serve.pages import Pages
from scanner.serve.site import Site
from scanner.serve.source import Source
from scanner.signed import redacted
from scanner.text import visible

ASSETS = {
    "report.css": ("scanner.report", "text/css"), "serve.css": ("scanner.serve", "text/css"),
    "serve.js": ("scanner.serve", "text/javascript"),
}  # fmt: skip
"""The report's own style, this application's, and its script."""
Endpoint = Callable[[Request], Response]


def application(source: Source, access: Access, marks: Path | None = None) -> Gate:
    """Return the application behind its gate.

    Args:
        source: What is shown.
        access: Who may ask.
        marks: The file of marks; by default the source's own.
    """
    site = Site(source, access, marks)
    pages = Pages(site)
    seen = {
        "/": pages.captions, "/live": pages.live, "/caption": pages.caption,
        "/rejects": pages.rejects, "/compare": pages.compare, "/sql": pages.sql,
        "/sql.csv": pages.sql_csv, "/removal": pages.removal, "/picture/{kind}": pages.picture,
        "/assets/{name}": asset,
    }  # fmt: skip
    site.listing("")
    done = {"/mark": posted(site, mark), "/mute": posted(site, mute)}

    app = Starlette(
        routes=[
            *(Route(path, _twice(site, endpoint)) for path, endpoint in seen.items()),
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in done.items()),
        ],
        exception_handlers={
            ScannerError: _refused(site), HTTPException: _missing(site), Exception: _broken(site),
        },
    )  # fmt: skip
    return Gate(app, access, site.message, _failed, site.questions.stop)


def _twice(site: Site, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that is asked again where files were packed away under it."""

    def answer(request: Request) -> Response:
        try:
            return endpoint(request)
        except ResultsError:
            if not site.listings.renewed():
                raise
            return endpoint(request)

    return answer


def asset(request: Request) -> Response:
    """Return a style sheet or the script."""
    name = request.path_params["name"]
    if name not in ASSETS:
        return Response("there is no such file", 404, media_type="text/plain")
    package, media = ASSETS[name]
    content = (files(package) / "assets" / name).read_bytes()
    return Response(content, media_type=media, headers={"cache-control": "max-age=3600"})


def _refused(site: Site) -> Callable[[Request, Any], Response]:
    def answer(request: Request, error: ScannerError) -> Response:
        if request.headers.get("x-part") == "1":
            return Response(redacted(str(error)), 400, media_type="text/plain; charset=utf-8")
        return site.message(400, "Not possible", redacted(str(error)), request)

    return answer


def _missing(site: Site) -> Callable[[Request, Any], Response]:
    def answer(request: Request, error: HTTPException) -> Response:
        return site.message(error.status_code, error.detail, "There is nothing here.", request)

    return answer


def _broken(site: Site) -> Callable[[Request, Any], Response]:
    def answer(request: Request, error: Exception) -> Response:
        return site.message(500, "An error", "The terminal of memscan serve says which.")

    return answer


def _failed(path: str, error: Exception) -> None:
    with suppress(OSError):
        said = f"memscan: {path}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        sys.stderr.write(visible(said) + "\n")


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that its port is known, and taken, before anything is read.

    Args:
        host: Address.
        port: Port; 0 takes a free one.

    Raises:
        ConfigError: If it cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{host}:{port} cannot be listened on: {said}; choose another --port (0 takes a free "
            f"one) or --host"
        ) from error


def run(app: Gate, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until the process is interrupted.

    Args:
        app: The application.
        listener: What `listening` returned.
        ready: Told when requests are answered.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.stop()
            await super().shutdown(sockets)

    # What fails in the application is told by `_failed`; uvicorn would add a traceback.
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, server_header=False, proxy_headers=False,
        ws="none", timeout_graceful_shutdown=2, h11_max_incomplete_event_size=64 * 1024,
        backlog=64,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):  # how people end it
        Server(config).run(sockets=[listener])

"""Who may ask: the address, the token, the cookie, and what a browser may do with the answers.

A page of another site cannot read or change anything here: the name that the browser asked for
must be ours (DNS rebinding), the cookie is not sent along by other sites, and what changes
something needs a key that only our pages have.
"""

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scanner.errors import ConfigError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY, "x-content-type-options": "nosniff",
    "x-frame-options": "DENY", "referrer-policy": "same-origin", "x-robots-tag": "noindex",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}  # fmt: skip
_PATH = re.compile(r"[\w./~-]*", re.ASCII)
OPEN = "/assets/"
"""Paths that need no token: style sheets and scripts, the same for everyone."""


def is_loopback(host: str) -> bool:
    """Return whether nobody outside of this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may ask.

    Attributes:
        host: The address that is listened on.
        port: Its port.
        public: The address under which a proxy shows it; empty without one.
        token: What opens the door; null where anyone may enter.
        session: What the cookie of who entered holds.
        key: What a page sends along with what changes something.
    """

    host: str = "127.0.0.1"
    port: int = 0
    public: str = ""
    token: str | None = field(default_factory=lambda: secrets.token_urlsafe(32))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def __post_init__(self) -> None:
        """Refuse what would let anyone in.

        Raises:
            ConfigError: If there is no token and others reach it, or the public address is none.
        """
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"--no-token is for a loopback address, got --host {self.host}: anyone who reaches "
                f"it could read captions and images; leave --no-token out"
            )
        if not self.public:
            return
        try:
            parts = urlsplit(self.public)
            is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            is_whole = is_whole and _PATH.fullmatch(parts.path)
        except ValueError:
            parts, is_whole = None, False
        if parts is None or not is_whole or parts.query or parts.fragment or parts.username:
            raise ConfigError(
                f"--behind-proxy must be the address that people open, such as "
                f"https://host.example/memscan, got {self.public}"
            )

    @property
    def root(self) -> str:
        """The path below which a proxy shows it, without the last slash."""
        return urlsplit(self.public).path.rstrip("/")

    @property
    def is_secure(self) -> bool:
        """Whether people reach it by https."""
        return self.public.startswith("https:")

    @property
    def cookie(self) -> str:
        """Name of the cookie: two servers of one machine do not sign each other out."""
        return f"memscan-{self.port}"

    def url(self) -> str:
        """Return the address that opens it, with the token."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        name = {"0.0.0.0": socket.gethostname(), "[::]": socket.gethostname()}.get(name, name)  # noqa: S104
        base = self.public.rstrip("/") or f"http://{name}:{self.port}"
        return f"{base}/" + ("" if self.token is None else f"?token={self.token}")

    def knows(self, host: str) -> bool:
        """Return whether a Host header names this server.

        A number is no name that somebody else's DNS could point here, so all numbers are known
        where others may reach it.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if is_loopback(name) or (self.public and name == urlsplit(self.public).hostname):
            return True
        if is_loopback(self.host):
            return False
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name in (self.host.lower(), socket.gethostname().lower())

    def entered(self, cookies: str) -> bool:
        """Return whether a Cookie header has the session's."""
        if self.token is None:
            return True
        try:
            own = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return own is not None and same(own.value, self.session)

    def set_cookie(self) -> str:
        """Return the header that signs a browser in."""
        secure = "; Secure" if self.is_secure else ""
        where = f"Path={self.root}/; HttpOnly; SameSite=Strict{secure}"
        return f"{self.cookie}={self.session}; {where}"


def same(one: str, other: str) -> bool:
    """Return whether two secrets are one, in a time that tells nothing of them."""
    return hmac.compare_digest(one.encode(), other.encode())


class Gate:
    """Lets a request through to an application, or answers it.

    Attributes:
        stop: Ends what takes long to answer.

    Args:
        app: The application.
        access: Who may ask.
        message: Makes a page that says something, from status, title and text.
        failed: Told of an error that nothing caught, and where.
        stop: Ends what takes long to answer.
    """

    def __init__(
        self, app: ASGIApp, access: Access, message: Callable[[int, str, str], Response],
        failed: Callable[[str, Exception], None], stop: Callable[[], None],
    ) -> None:  # fmt: skip
        self.stop = stop
        self._app, self._access, self._message, self._failed = app, access, message, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = self._below(scope)
        answer = self._refusal(Request(scope))
        try:
            await (answer or self._app)(scope, receive, _with_headers(send))
        except Exception as error:  # noqa: BLE001 - the page is sent; one line says what happened
            self._failed(scope["path"], error)

    def _below(self, scope: Scope) -> Scope:
        """Return a request without the path below which a proxy shows it, if that was left on."""
        root, path = self._access.root, scope["path"]
        if root and (path == root or path.startswith(f"{root}/")):
            return {**scope, "path": path[len(root) :] or "/", "raw_path": None}
        return scope

    def _refusal(self, request: Request) -> Response | None:
        """Return what a request is answered with that may not pass; null if it may."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._access.knows(hosts[0]):
            return self._message(
                421, "Another name", "This server answers only to its own name: open the address "
                "that memscan serve printed.",
            )  # fmt: skip
        if request.method not in ("GET", "HEAD", "POST"):
            return self._message(405, "Not possible", "There are GET and POST alone.")
        if request.url.path.startswith(OPEN):
            return None
        if request.method == "POST" and not self._is_ours(request):
            return self._message(403, "Another site", "This was sent by a page of another site.")
        given = parse_qs(request.url.query).get("token", [])
        if self._access.token is not None and given and request.method == "GET":
            return self._entry(given[0])
        if not self._access.entered("; ".join(request.headers.getlist("cookie"))):
            return self._message(
                401, "A token is needed", "Open the link with the token that memscan serve printed "
                "when it started.",
            )  # fmt: skip
        return None

    def _is_ours(self, request: Request) -> bool:
        """Return whether a page of ours sent a form, as far as the browser says where it was."""
        origin = request.headers.get("origin")
        if origin is None:
            return True  # no browser of today; the form's key is checked in any case
        return origin != "null" and self._access.knows(urlsplit(origin).netloc)

    def _entry(self, token: str) -> Response:
        if not same(token, self._access.token or ""):
            return self._message(
                401, "Another token", "This link is of another start of memscan serve: open the "
                "one that it printed last.",
            )  # fmt: skip
        # A page that goes on by itself, no redirect: a browser sends the cookie along only if the
        # step begins on our own page, wherever the link was clicked.
        answer = self._message(200, "Signed in", "")
        answer.headers["refresh"] = f"0;url={self._access.root}/"
        answer.headers.append("set-cookie", self._access.set_cookie())
        return answer


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message.get("headers", [])}
            more = {"cache-control": "no-store", **HEADERS}
            message["headers"] = [
                *message.get("headers", []),
                *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in there),
            ]
        await send(message)

    return sent

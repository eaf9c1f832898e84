"""A hub of data sets on loopback: the few endpoints by which their files are listed and read."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_of-a-test"
Answer = tuple[int, dict[str, str], bytes]


class DataSets:
    """Data sets by id, each with one commit.

    Attributes:
        folders: Their files.
        gated: Ids that need `TOKEN`.
        asked: Method and path of the requests so far.
        tokens: The tokens that came with them.
    """

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.url = ""

    def commit(self, name: str) -> str:
        """Return the hash of a data set's commit."""
        folder = self.folders[name]
        found = [(p.relative_to(folder).as_posix(), p.read_bytes()) for p in _files(folder)]
        return hashlib.sha1(repr(found).encode()).hexdigest()

    def answer(self, path: str, body: bytes, token: str, span: str) -> Answer:
        """Return status, headers and body."""
        parts = urlsplit(path).path.removeprefix("/api").removeprefix("/datasets/").split("/")
        name, (kind, revision, *rest) = "/".join(parts[:2]), parts[2:] or ["revision", "main"]
        if name not in self.folders:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if name in self.gated and token != f"Bearer {TOKEN}":
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        commit = self.commit(name)
        if unquote(revision) not in ("main", "refs/convert/parquet", commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        place = unquote("/".join(rest))
        if kind == "revision":
            return 200, {}, json.dumps({"id": name, "sha": commit, "siblings": []}).encode()
        if kind == "paths-info":
            wanted = (
                json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
            )
            return 200, {}, json.dumps(self._rows(name, set(wanted))).encode()
        if kind == "tree":
            return 200, {}, json.dumps(self._rows(name, None)).encode()
        return self._content(self.folders[name] / place, commit, span)

    def _rows(self, name: str, wanted: set[str] | None) -> list[dict[str, object]]:
        folder, rows = self.folders[name], list[dict[str, object]]()
        for path in _files(folder):
            place = path.relative_to(folder).as_posix()
            if wanted is None or place in wanted:
                oid = hashlib.sha1(path.read_bytes()).hexdigest()
                size = path.stat().st_size
                rows.append({"type": "file", "path": place, "size": size, "oid": oid})
        return rows

    def _content(self, path: Path, commit: str, span: str) -> Answer:
        if not path.is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        whole = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(whole).hexdigest()}"', "X-Repo-Commit": commit}
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", span)
        if match is None:
            return 200, headers, whole
        first, last = int(match[1]), min(int(match[2]), len(whole) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(whole)}"
        return 206, headers, whole[first : last + 1]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@contextmanager
def serving(hub: DataSets) -> Iterator[str]:
    """Serve data sets, and yield the server's address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization") or ""
            hub.asked.append(f"{self.command} {self.path}")
            hub.tokens.add(token)
            span = self.headers.get("Range") or ""
            status, headers, content = hub.answer(self.path, body, token, span)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_GET  # noqa: N815 - the base class calls them so

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub.url
    finally:
        server.shutdown()
        server.server_close()

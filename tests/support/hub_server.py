"""A hub on loopback: what huggingface_hub asks for a download, for models that lie in folders."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Hub:
    """Models by id, each with commits and what branches and tags name.

    Attributes:
        commits: Folders by id and commit hash.
        names: Commit hashes by id and branch or tag.
        gated: Ids whose files need `TOKEN`.
        asked: Paths of the requests so far.
    """

    TOKEN = "hf_of-a-test"

    def __init__(self) -> None:
        self.commits: dict[tuple[str, str], Path] = {}
        self.names: dict[tuple[str, str], str] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.url = ""

    def push(self, name: str, folder: Path, *branches: str) -> str:
        """Add a commit of a folder's files; branches and tags name it. Return its hash."""
        commit = hashlib.sha1(f"{name} {folder}".encode()).hexdigest()
        self.commits[name, commit] = folder
        self.names |= {(name, branch): commit for branch in branches}
        return commit

    def answer(self, path: str, token: str | None) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a path."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in {known for known, _ in self.commits}:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        kind, revision, *file = parts[4:] if parts[0] == "api" else parts[2:]
        commit = self.names.get((name, revision), revision)
        if (name, commit) not in self.commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        folder = self.commits[name, commit]
        if kind == "revision":
            return 200, {}, json.dumps({"id": name, "sha": commit, "siblings": []}).encode()
        if name in self.gated and token != f"Bearer {self.TOKEN}":
            return 403 if token else 401, {"X-Error-Code": "GatedRepo"}, b""
        if kind == "tree":
            files = [each for each in sorted(folder.rglob("*")) if each.is_file()]
            rows = [
                {"type": "file", "path": each.relative_to(folder).as_posix(),
                 "size": each.stat().st_size, "oid": hashlib.sha1(each.read_bytes()).hexdigest()}
                for each in files
            ]  # fmt: skip
            return 200, {}, json.dumps(rows).encode()
        if not folder.joinpath(*file).is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = folder.joinpath(*file).read_bytes()
        etag = hashlib.sha1(content).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, content


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve a hub, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.asked.append(self.path)
            status, headers, body = hub.answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the base class calls it so

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

"""A web server on the loopback that keeps what is posted, and fails as it is told."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG, DRIP, REDIRECT = "hang", "drip", "redirect"


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Hooks:
    """The server's side: what came, and what comes next; 200 when nothing is said."""

    url: str
    posts: list[Post] = field(default_factory=list)
    answers: list[int | str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def taken(self, path: str = "/") -> list[Post]:
        return [post for post in self.posts if post.path.startswith(path)]

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")


@contextmanager
def hook_server():
    """Serve until the block ends; what hangs then is let go."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hooks.posts.append(Post(self.path, dict(self.headers.items()), body))
            answer = hooks.answers.pop(0) if hooks.answers else 200
            if answer == HANG:
                hooks.over.wait(120)
                return
            if answer == DRIP:
                self._drip()
                return
            self.send_response(307 if answer == REDIRECT else int(answer))
            self.send_header("Content-Length", "0")
            self.send_header("Location", f"{hooks.url}/elsewhere")
            self.end_headers()

        def _drip(self):
            """Send a byte of a header now and then: each comes before a read would time out."""
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not hooks.over.wait(0.2):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hooks = Hooks(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hooks
    finally:
        hooks.over.set()
        server.shutdown()
        server.server_close()
        time.sleep(0)

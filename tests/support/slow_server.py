"""A web server of this process that serves a folder as slowly as it is told to."""

import http.server
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path


class Slow(http.server.BaseHTTPRequestHandler):
    """Answers once per connection; its server has the folder and the pace."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(is_head=True)

    def do_GET(self):
        self.answer()

    def answer(self, *, is_head=False):
        name = self.path.lstrip("/")
        self.server.requests.append((self.command, name))
        where, count, pause = self.server.pace(name) or ("", 0, 0)
        content = Path(self.server.folder, name).read_bytes()
        lines, content = self.headed(content)
        head = "\r\n".join([*lines, "", ""]).encode()
        self.send(head, count if where == "headers" else 0, pause)
        if not is_head:
            self.send(content, count if where == "body" else 0, pause)
        self.close_connection = True

    def headed(self, content):
        lines = ["HTTP/1.1 200 OK", 'ETag: "one"', "Connection: close"]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if self.server.ranges:
            lines.append("Accept-Ranges: bytes")
            if wanted:
                low, total = int(wanted[1]), len(content)
                content = content[low : int(wanted[2]) + 1]
                lines[0] = "HTTP/1.1 206 Partial Content"
                lines.append(f"Content-Range: bytes {low}-{low + len(content) - 1}/{total}")
        if self.server.length:
            lines.append(f"Content-Length: {len(content)}")
        return lines, content

    def send(self, content, count, pause):
        try:
            for at in range(0, len(content), count or len(content) or 1):
                self.wfile.write(content[at : at + count] if count else content)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:  # the reader has given up
            return


@contextmanager
def slow_server(folder, pace, *, ranges=True, length=True):
    """Serve a folder, and yield the address and a list of the requests that came.

    Args:
        folder: What to serve.
        pace: From the name of a file to what is slow about it: ``headers`` or ``body``, bytes
            sent at a time and seconds between; null serves at once.
        ranges: Whether byte ranges are served.
        length: Whether the length of the body is told.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    server.folder, server.pace, server.requests = folder, pace, []
    server.ranges, server.length = ranges, length
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.requests
    finally:
        server.shutdown()
        server.server_close()

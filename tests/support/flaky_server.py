"""A web server in a process of its own that serves a folder and, by chance, fails.

    python flaky_server.py FOLDER PORT MODE SHARE SEED

It prints its port. ``MODE`` is ``ranged`` (byte ranges), ``plain`` (none) or ``chunked`` (none,
and no length). Of the requests, ``SHARE`` fail: an error status before anything is sent, or a
connection that is reset or closed somewhere in the body. ``GET /strikes`` tells how many did.
"""

import http.server
import random
import socket
import struct
import sys
import threading
from pathlib import Path

FOLDER, PORT, MODE, SHARE, SEED = sys.argv[1:]
CHANCE, LOCK = random.Random(int(SEED)), threading.Lock()
STATUSES = (500, 502, 503, 504, 429, 408)
STRIKES = []


class Flaky(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def strike(self):
        """Return what befalls this request: an error status, or a share of the body to stop at."""
        with LOCK:
            if CHANCE.random() >= float(SHARE):
                return None, None
            STRIKES.append(1)
            if CHANCE.random() < 0.4:
                return CHANCE.choice(STATUSES), None
            return None, (CHANCE.random(), CHANCE.random() < 0.5)

    def do_HEAD(self):
        self.serve(is_head=True)

    def do_GET(self):
        self.serve()

    def serve(self, *, is_head=False):
        if self.path == "/strikes":
            return self.send(200, {}, str(len(STRIKES)).encode())
        status, stop = self.strike()
        path = Path(FOLDER, self.path.lstrip("/"))
        if status or not path.exists():
            return self.send(status or 404, {}, b"")
        content = path.read_bytes()
        headers = {"ETag": f'"{path.stat().st_mtime_ns}"'}
        wanted = self.headers.get("Range")
        if MODE == "ranged":
            headers["Accept-Ranges"] = "bytes"
        if MODE == "ranged" and wanted:
            low, _, high = wanted.removeprefix("bytes=").partition("-")
            part = content[int(low) : int(high) + 1 if high else None]
            headers["Content-Range"] = f"bytes {low}-{int(low) + len(part) - 1}/{len(content)}"
            return self.send(206, headers, part, stop, is_head=is_head)
        return self.send(200, headers, content, stop, is_head=is_head)

    def send(self, status, headers, body, stop=None, *, is_head=False):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        is_chunked = MODE == "chunked" and status == 200 and len(body) > 1000
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if is_head:
            return
        pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
        whole = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        sent = whole if is_chunked else body
        if stop is None:
            self.wfile.write(sent)
            return
        self.wfile.write(sent[: int(stop[0] * len(sent))])
        self.wfile.flush()
        if stop[1]:  # a reset instead of an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


if __name__ == "__main__":
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Flaky)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115, PTH123 - handlers print what clients broke off
    server.serve_forever()

"""A headless Chromium, driven over the pipe of its DevTools protocol: no port, no network."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
LAUNCH = (
    "import fcntl, os, sys; down, up = map(int, sys.argv[1:3]); "
    "up = fcntl.fcntl(up, fcntl.F_DUPFD, 10); os.dup2(down, 3); os.dup2(up, 4); "
    "os.execvp(sys.argv[3], sys.argv[3:])"
)
"""Chromium reads commands from descriptor 3 and answers on 4."""
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "Home": 36, "End": 35, "PageUp": 33, "PageDown": 34,
        "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "/": 191}  # fmt: skip


class Page:
    """A page in the browser.

    Attributes:
        requests: Addresses that it asked for.
        problems: Errors and warnings of its console, and exceptions that nothing caught.
    """

    def __init__(self, read: int, write: int, patience: float) -> None:
        self._read, self._write, self._patience = read, write, patience
        self._buffer, self._number, self._session = bytearray(), 0, ""
        self.requests: list[str] = []
        self.problems: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict:
        """Send one command and return its result."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._write, content) :]
        deadline = time.monotonic() + self._patience
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _next(self, deadline: float) -> dict:
        while (end := self._buffer.find(b"\0")) < 0:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            content = os.read(self._read, 1 << 20) if ready else b""
            if not content:
                raise TimeoutError("Chromium does not answer")
            self._buffer += content
        message = json.loads(self._buffer[:end])
        del self._buffer[: end + 1]
        return message

    def _note(self, event: dict) -> None:
        method, about = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(about["exceptionDetails"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.problems.append(about["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.problems.append(json.dumps(about["args"]))

    def run(self, script: str) -> object:
        """Return what an expression of JavaScript, or the promise that it gives, comes to."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def until(self, script: str) -> object:
        """Return the value of an expression once it is true."""
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            if found := self.run(script):
                return found
            time.sleep(0.02)
        raise TimeoutError(f"never true: {script}")

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.visit(path.as_uri(), path.as_uri())

    def visit(self, url: str, arrives: str) -> None:
        """Open an address and wait until one that begins so is loaded."""
        self.call("Page.navigate", url=url)
        self.until(f"document.readyState === 'complete' && location.href.startsWith({arrives!r})")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key as a person would."""
        code = KEYS.get(key, ord(key[0].upper()))
        about: dict[str, object] = {
            "key": key, "code": key if len(key) > 1 else "", "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
        }  # fmt: skip
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def click(self, selector: str) -> None:
        """Click on the middle of an element as a person would."""
        place = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); "
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        assert isinstance(place, list)
        about = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **about)

    def choose(self, selector: str, value: str) -> None:
        """Set a field and say so, as choosing or typing does."""
        self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.value = {value!r}; "
            "e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def resize(self, width: int, height: int, *, dark: bool = False, media: str = "") -> None:
        """Set the size of the window, the colours that are preferred, and screen or print."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save what is seen as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser(folder: Path, patience: float = 60) -> Iterator[Page]:
    """Give a page of a fresh Chromium, which ends with the context.

    Args:
        folder: Where its profile goes.
        patience: Seconds to wait for an answer.
    """
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    words = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(down_read), str(up_write), *words],
            pass_fds=(down_read, up_write), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    os.close(down_read)
    os.close(up_write)
    try:
        yield Page(up_read, down_write, patience)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(down_write)
        os.close(up_read)

"""A Ray head of its own with a dashboard, a Jobs API and a token, on loopback."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOKEN = "0f9a3c55-6f0e-4b7a-9d55-9f3ad3f6d0aa"


def free_ports(number: int) -> list[int]:
    """Return ports that are free, outside of those that Ray gives its workers."""
    found: list[int] = []
    for port in range(21000 + os.getpid() % 8000, 32000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == number:
            return found
    raise RuntimeError("no free port")


@contextmanager
def head(cpus: int = 2) -> Iterator[str]:
    """Run a head; yield the address of its Jobs API."""
    dashboard, client = free_ports(2)
    address = f"http://127.0.0.1:{dashboard}"
    process = _started(address, dashboard, client, cpus)
    try:
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _started(address: str, dashboard: int, client: int, cpus: int) -> subprocess.Popen:
    """Start a head, again if the machine is too busy for Ray's own patience of 30 s."""
    for _ in range(3):
        folder = Path(tempfile.mkdtemp(prefix="ray"))  # short: a socket's path has 107 characters
        process = _start(folder, dashboard, client, cpus)
        if _answers(address, process, folder / "out.log"):
            return process
        process.kill()
        process.wait(60)
    raise RuntimeError(f"no head: {(folder / 'out.log').read_text()}")


def _start(folder: Path, dashboard: int, client: int, cpus: int) -> subprocess.Popen:
    ray = Path(sys.executable).with_name("ray")
    command = [
        str(ray), "start", "--head", "--block", "--port=0", f"--num-cpus={cpus}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}", "--dashboard-agent-listen-port=0",
        "--metrics-export-port=0", f"--temp-dir={folder}", "--object-store-memory=80000000",
    ]  # fmt: skip
    path = f"{ray.parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": path, "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    env.pop("RAY_ADDRESS", None)
    with (folder / "out.log").open("w") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log)


def _answers(address: str, process: subprocess.Popen, log: Path) -> bool:
    """Whether the node started and the Jobs API answers; the latter comes first."""
    asked = urllib.request.Request(f"{address}/api/jobs/")
    asked.add_header("Authorization", f"Bearer {TOKEN}")
    patience = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < patience:
        try:
            with urllib.request.urlopen(asked, timeout=5):
                if "Ray runtime started" in log.read_text():
                    return True
        except OSError:
            pass
        time.sleep(0.5)
    return False

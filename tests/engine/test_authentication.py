"""A local Ray serves the process that started it, and nobody else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from scanner.engine.authentication import authenticated
from scanner.engine.health import is_loopback, open_to

pytest.importorskip("psutil")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import cluster_loss

STRANGER = """
import sys
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5))
"""


def _tree(root: int) -> list[int]:
    found = [root]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text().split(" (", 1)
        except OSError:
            continue
        if int(rest.rpartition(") ")[2].split()[1]) == root:
            found += _tree(int(pid))
    return found


def _of_ray() -> list[int]:
    """Return this process and those of its Ray; a test run has other children as well."""
    session = ray._private.worker._global_node.session_name
    found = [os.getpid()]
    for pid in _tree(os.getpid()):
        if session in Path(f"/proc/{pid}/cmdline").read_text():
            found += _tree(pid)
    return found


def _listening(pids: list[int]) -> set[str]:
    """Return the addresses, in hexadecimal, that processes listen at."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A":
                sockets[f"socket:[{cells[9]}]"] = cells[1].partition(":")[0]
    found = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found.add(sockets.get(str(link.readlink()), ""))
            except OSError:
                continue
    return found - {""}


def test_it_listens_on_the_loopback_alone(local_ray):
    ray.get(ray.remote(lambda: 0).remote())  # so that there is a worker
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    found = _listening(_of_ray())
    assert found
    assert found <= loopback


def test_it_asks_for_a_token_that_no_command_line_and_no_file_shows(local_ray):
    address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    assert ray.get(ray.remote(lambda: os.environ["RAY_AUTH_MODE"]).remote()) == "token"
    assert open_to(address) is False
    for pid in _tree(os.getpid()):
        try:
            assert token not in Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
    strange = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, address], capture_output=True, text=True,
        env=strange | {"HOME": "/nonexistent", "RAY_AUTH_MODE": "disabled"}, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "InvalidAuthToken" in done.stderr


def test_doctor_says_when_a_cluster_is_open():
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    with cluster_loss.head(cluster_loss.SETTINGS | environment) as (address, _):
        assert open_to(address) is True
        command = [sys.executable, "-m", "scanner", "doctor", "--address", address]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=400, check=False,
            env=os.environ | cluster_loss.SETTINGS | environment,
        )  # fmt: skip
    assert "warn ray: it runs the code of every user of this machine: start" in done.stdout
    assert f"listens at {address}, asks for no token" in done.stdout


def test_who_reaches_a_cluster_depends_on_where_it_listens():
    assert is_loopback("127.0.0.1:6379")
    assert is_loopback("[::1]:6379")
    assert not is_loopback("192.0.2.2:6379")
    assert not is_loopback("head:6379")


def test_the_environment_is_as_before(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/mine")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    before = dict(os.environ)
    monkeypatch.setattr("scanner.engine.authentication.read_again", lambda: None)
    tokens = set()
    for _ in range(2):
        with authenticated():
            assert "RAY_AUTH_TOKEN_PATH" not in os.environ
            assert os.environ["RAY_AUTH_MODE"] == "token"
            tokens.add(os.environ["RAY_AUTH_TOKEN"])
    assert dict(os.environ) == before
    assert len(tokens) == 2
    assert "mine" not in tokens

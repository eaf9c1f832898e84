"""A cluster goes away under a command: one line, exit code 4, in bounded time, and it resumes."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from engine_harness import keys, write_shard

from scanner.engine import heartbeat, ray_runtime
from scanner.engine.ray_runtime import RayRuntime
from scanner.errors import ClusterLostError

psutil = pytest.importorskip("psutil")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import cluster_loss  # noqa: E402 - its folder is on the path only now

SETTINGS = cluster_loss.SETTINGS | {
    heartbeat.RECONNECT_SETTING: "15",  # a loss after 12 s
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
LIMIT = 12 + 1.5
"""Seconds until a process ends whose main thread is stuck in Ray."""
BUSY = 15
"""What a busy machine may add."""


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """Its own, in other processes."""


@pytest.fixture
def shard(tmp_path):
    return write_shard(tmp_path / "s.tar", [f"caption {n}" for n in range(400)])


def words_of(command: str, shard: Path, folder: Path) -> list[str]:
    common = [str(shard), "--model", "gaussian", "--steps", "2", "--probes", "1"]
    common += ["--batch-size", "5", "--chunk-size", "5", "--actors", "2"]
    last = {
        "scan": ["--out", str(folder / "results")],
        "calibrate": ["--out", str(folder / "calibration.json")],
        "audit": ["--state", str(folder / "state"), "--threshold", "1000"],
    }
    return [command, *common, *last[command]]


def ends_well(done: cluster_loss.Strike) -> None:
    assert not done.problem
    assert (done.code, done.errors.count("memscan: ")) == (4, 1), done.errors[-1000:]
    last = done.errors.strip().splitlines()[-1]
    assert last.startswith("memscan: the Ray cluster went away: "), done.errors[-1000:]
    assert last.endswith("; run the same command to resume")
    assert "Traceback" not in done.errors
    assert "rpc_client" not in done.errors
    assert done.seconds < LIMIT + BUSY


@pytest.mark.parametrize("start", ["local", "joined"])
@pytest.mark.parametrize("way", ["GCS killed", "head killed", "GCS stopped"])
def test_a_scan_ends_with_4_whatever_becomes_of_its_cluster_and_resumes(
    way, start, shard, tmp_path
):
    words = words_of("scan", shard, tmp_path)
    if start == "local":
        done = cluster_loss.strike(
            cluster_loss.Scan(words, tmp_path, SETTINGS), way, tmp_path / "results", None
        )
    else:
        with cluster_loss.head(SETTINGS) as (address, root):
            scan = cluster_loss.Scan([*words, "--address", address], tmp_path, SETTINGS)
            done = cluster_loss.strike(scan, way, tmp_path / "results", root)
    ends_well(done)
    again = cluster_loss.Scan(words, tmp_path, SETTINGS)
    assert again.start(slow=False).wait(300) == 0, again.errors[-1000:]
    assert keys(tmp_path / "results") == [("s.tar", f"{n:05d}") for n in range(400)]


@pytest.mark.parametrize("command", ["calibrate", "audit"])
def test_calibrate_and_audit_end_with_4_too(command, shard, tmp_path):
    scan = cluster_loss.Scan(words_of(command, shard, tmp_path), tmp_path, SETTINGS)
    ends_well(cluster_loss.strike(scan, "GCS killed", tmp_path, None))


def test_joining_a_cluster_that_does_not_answer_ends_in_bounded_time(shard, tmp_path):
    with cluster_loss.head(SETTINGS) as (address, root):
        (gcs,) = [p for p in root.children(recursive=True) if p.name() == "gcs_server"]
        gcs.suspend()
        words = [*words_of("scan", shard, tmp_path), "--address", address]
        scan, begin = cluster_loss.Scan(words, tmp_path, SETTINGS), time.monotonic()
        code = scan.start(slow=False).wait(300)
    assert (code, scan.errors.count("memscan: ")) == (4, 1), scan.errors
    assert f"the Ray cluster at {address} did not answer" in scan.errors
    assert time.monotonic() - begin < 0.75 * 15 + 2 * BUSY


def test_the_limits_follow_rays_own_setting(monkeypatch):
    monkeypatch.delenv(heartbeat.RECONNECT_SETTING, raising=False)
    assert heartbeat.limits() == (heartbeat.SILENCE_SECONDS, heartbeat.GRACE_SECONDS)
    assert sum(heartbeat.limits()) <= 30
    monkeypatch.setenv(heartbeat.RECONNECT_SETTING, "600")
    silence, grace = heartbeat.limits()
    assert (silence, grace) == (480, 5)
    monkeypatch.setenv(heartbeat.RECONNECT_SETTING, "10")
    assert sum(heartbeat.limits()) < 10


def test_shards_are_not_blamed_for_a_node_that_died(monkeypatch):
    from ray.exceptions import LocalRayletDiedError

    def get(_):
        raise LocalRayletDiedError

    monkeypatch.setattr(ray_runtime, "ray", SimpleNamespace(get=get))
    with pytest.raises(ClusterLostError, match="the node that this process"):
        RayRuntime.result(SimpleNamespace(), None)

"""One actor per GPU, proved at the start; the GPUs are Ray's logical ones."""

import subprocess
import sys
from pathlib import Path

import pytest
from engine_harness import write_shard

SCRIPT = """
import sys, time
from pathlib import Path
import ray
from engine_harness import job_of, run, slow_build
from scanner.engine import ray_runtime
from scanner.errors import ConfigError
from scanner.results.folder import Results

def shared(job, device):
    import scanner.engine.worker as worker
    worker.name_and_gpu = lambda device: ("gpu", "GPU-1")
    return together(job, device)

def together(job, device):
    (pids := Path(job.results + ".pids")).mkdir(exist_ok=True)
    scanner = slow_build(pids, 0.3)(job, device)
    while len(list(pids.iterdir())) < 2:
        time.sleep(0.05)
    return scanner

folder = Path(sys.argv[1])
ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
ray_runtime.placement = lambda *_: ("cpu", 2, {"num_gpus": 1, "num_cpus": 0}, 1)
done = run(job_of([folder / "a.tar"], folder / "apart"), build=together)
actors = Results(folder / "apart").read_run(done.run)["actors"]
print(len({actor["gpu"] for actor in actors}), all(actor["gpu"] for actor in actors))
try:
    run(job_of([folder / "a.tar"], folder / "shared"), build=shared)
except ConfigError as error:
    print(error)
"""


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """Its own, in another process."""


def test_actors_have_a_gpu_each_or_the_scan_is_refused(tmp_path):
    write_shard(tmp_path / "a.tar", [f"caption {n}" for n in range(48)])
    path = f"{Path(__file__).parents[1] / 'support'}:{Path(__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HOME": str(tmp_path)},
    )  # fmt: skip
    apart, *shared = done.stdout.splitlines() or [""]
    assert apart == "2 True", done.stderr[-2000:]
    assert "every actor must have a GPU of its own" in "\n".join(shared), done.stderr[-2000:]

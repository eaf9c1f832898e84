"""One actor per GPU, proved at the start; the GPUs are Ray's logical ones."""

import subprocess
import sys
from pathlib import Path

import pytest
from engine_harness import write_shard

SCRIPT = """
import sys
from pathlib import Path
import ray
from engine_harness import job_of, run, slow_build
from scanner.engine import driver
from scanner.engine.worker import build_scanner
from scanner.errors import ConfigError
from scanner.io.results import Results

def shared(job, device):
    import scanner.engine.worker as worker
    worker._device = lambda device: ("gpu", "GPU-1")
    return build_scanner(job, device)

folder = Path(sys.argv[1])
ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
driver.placement = lambda *_: ("cpu", 2, {"num_gpus": 1, "num_cpus": 0}, 1)
if sys.argv[2] == "shared":
    try:
        run(job_of([folder / "a.tar"], folder / "r"), build=shared)
    except ConfigError as error:
        print(error)
else:
    (pids := folder / "pids").mkdir()
    done = run(job_of([folder / "a.tar"], folder / "r"), build=slow_build(pids, 1.0))
    actors = Results(folder / "r").read_run(done.run)["actors"]
    print(len({actor["gpu"] for actor in actors}), all(actor["gpu"] for actor in actors))
"""


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """Its own, in another process."""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("apart", "2 True"), ("shared", "every actor must have a GPU of its own")],
)
def test_actors_have_a_gpu_each_or_the_scan_is_refused(kind, expected, tmp_path):
    write_shard(tmp_path / "a.tar", [f"caption {n}" for n in range(48)])
    path = f"{Path(__file__).parent}:{Path(__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), kind], capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HOME": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(expected), done.stderr[-2000:]

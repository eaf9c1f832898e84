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

SEVERAL = """
import sys
from pathlib import Path
import ray
from engine_harness import job_of
from scanner.engine import Resources, ray_runtime, scan
from scanner.engine.worker import build_scanner
from scanner.results.folder import Results

def split(job, device, gpus):
    Path(job.results + f".{gpus}").touch()
    return build_scanner(job, device)

folder = Path(sys.argv[1])
ray.init(address="local", num_cpus=2, num_gpus=5, include_dashboard=False, log_to_driver=False)
placed = ray_runtime.placement
ray_runtime.placement = lambda *asked: ("cpu", *placed(*asked)[1:])
done = scan(
    job_of([folder / "a.tar"], folder / "r"), Resources(device="cuda", gpus_per_actor=2),
    lambda event: None, build=split,
)
actors = Results(folder / "r").read_run(done.run)["actors"]
print(done.scored, len(actors), sorted(actor["gpu"].rpartition(":")[2] for actor in actors))
print(sorted(path.name for path in folder.glob("r.*")))
"""


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """Its own, in another process."""


def ran(script, folder):
    write_shard(folder / "a.tar", [f"caption {n}" for n in range(48)])
    path = f"{Path(__file__).parents[1] / 'support'}:{Path(__file__).parents[2]}"
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HOME": str(folder)},
    )  # fmt: skip


def test_an_actor_of_several_gpus_is_given_as_many_by_ray(tmp_path):
    done = ran(SEVERAL, tmp_path)
    assert done.stdout.splitlines() == ["48 2 ['0,1', '2,3']", "['r.2']"], done.stderr[-2000:]


def test_actors_have_a_gpu_each_or_the_scan_is_refused(tmp_path):
    done = ran(SCRIPT, tmp_path)
    apart, *shared = done.stdout.splitlines() or [""]
    assert apart == "2 True", done.stderr[-2000:]
    assert "every actor must have a GPU of its own" in "\n".join(shared), done.stderr[-2000:]

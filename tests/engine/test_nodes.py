"""Several raylets: an actor per GPU, a node dies, another joins, the rows stay the same."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from engine_harness import write_shard

SCRIPT = """
import sys, threading, time
from pathlib import Path
import ray
from ray._private import services
from ray.cluster_utils import Cluster
from engine_harness import job_of, rows, run
from scanner.engine import ray_runtime
from scanner.engine.plan import CommitIndex, Plan
from scanner.engine.queue import Task
from scanner.engine.indexing import index_shard
from scanner.engine.worker import Worker, build_scanner
from scanner.results.folder import Results

folder = Path(sys.argv[1])
joined = folder / "joined"

def unhurried(job, device):
    scanner = build_scanner(job, device)
    detect_at_once = scanner.detect

    def detect(captions, known=None):
        time.sleep(0.0 if joined.exists() else 1.0)
        return detect_at_once(captions, known)

    scanner.detect = detect
    return scanner

def undisturbed(job, name):
    worker = Worker(job, name, "cpu", 1, build_scanner)
    worker.open()
    for url in job.shards:
        index = index_shard(url, job.chunk_size, frozenset())
        for unit in Plan(CommitIndex({}), None).work_units(index):
            worker.scan(Task(unit, unit.start, unit.stop))

find_node = services.get_node

def patient(*of):
    # Ray gives a node 30 s to start; a busy machine may need more.
    deadline = time.monotonic() + 120
    while True:
        try:
            return find_node(*of)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)

services.get_node = patient
cluster = Cluster(shutdown_at_exit=False)
small = {"object_store_memory": 80 << 20}
cluster.add_node(num_cpus=1, include_dashboard=False, **small)
victim = cluster.add_node(num_cpus=1, num_gpus=1, **small)
cluster.add_node(num_cpus=1, num_gpus=1, **small)
ray.init(address=cluster.address, log_to_driver=False)
ray_runtime.placement = lambda *_: ("cpu", 2, {"num_gpus": 1, "num_cpus": 0}, 1)
events, kills = [], []

def replace_node():
    cluster.remove_node(victim, allow_graceful=False)
    cluster.add_node(num_cpus=1, num_gpus=1, **small)

def heard(event):
    events.append(event)
    kinds = [e.kind for e in events]
    if kinds.count("worker") == 2 and kinds.count("chunk") > 2 and not kills:
        kills.append(threading.Thread(target=replace_node))
        kills[0].start()
    if kinds.count("worker") == 3:
        joined.touch()

job = job_of(sorted(folder.glob("*.tar")), folder / "r")
done = run(job, progress=heard, build=unhurried)
kills[0].join()
assert done.is_complete and done.samples == 320, done
kinds = [e.kind for e in events]
# An actor may be sent to the node before Ray knows that it is gone, and is lost too.
assert kinds.count("worker") == 3 and kinds.count("lost") in (1, 2), kinds
actors = Results(folder / "r").read_run(done.run)["actors"]
gpus = {actor["gpu"] for actor in actors}
assert len(actors) == len(gpus) == 3, actors
deadline = time.monotonic() + 60
while True:  # Ray takes its time to declare a node dead
    nodes = {node["NodeID"]: node["Alive"] for node in ray.nodes()}
    alive = sorted(nodes[n] for gpu in gpus for n in nodes if n in gpu)
    if alive == [False, True, True]:
        break
    assert time.monotonic() < deadline, (gpus, nodes)
    time.sleep(0.2)
assert actors[-1]["busy_seconds"] > 0, actors
alone = job_of(sorted(folder.glob("*.tar")), folder / "alone")
undisturbed(alone, done.run)
Results(folder / "alone").write_run(done.run, {})
for table in ("scores", "masks", "rejects"):
    assert rows(folder / "r", table) == rows(folder / "alone", table)
assert len(rows(folder / "r")) == 320
print("the same rows")
"""


@pytest.fixture(scope="module", autouse=True)
def ray_for_all():
    """Its own, in another process."""


def test_a_node_dies_and_another_joins_and_the_rows_are_the_same(tmp_path):
    for shard in range(2):
        captions = [f"caption {n} of {shard}" for n in range(160)]
        write_shard(tmp_path / f"{shard}.tar", captions)
    path = f"{Path(__file__).parents[1] / 'support'}:{Path(__file__).parents[2]}"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": path,
        "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
        "RAY_raylet_start_wait_time_s": "120",
    }  # fmt: skip
    done = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = done.communicate(timeout=500)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(done.pid, signal.SIGKILL)  # the raylets, too
    assert out.endswith("the same rows\n"), errors[-3000:]

"""The Slurm script for real: two nodes, which are processes of this machine, form one Ray."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from webdataset.writer import TarWriter

INFRA = Path(__file__).parents[2] / "infra"
SCRIPT = INFRA / "slurm" / "memscan.sbatch"

SCONTROL = """#!/bin/bash
[ "$*" = "show hostnames node[1-2]" ] && printf 'node1\\nnode2\\n'
"""
SRUN = """#!/bin/bash
# Runs the command of a step here; what it was asked stays in steps.
echo "$*" >> "$(dirname "$0")/steps"
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""


@pytest.fixture
def slurm(tmp_path):
    """Return what starts the script in the environment that Slurm would give it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    memscan = f'#!/bin/bash\nexec {sys.executable} -m scanner "$@"\n'
    python = f'#!/bin/bash\nexec {sys.executable} "$@"\n'
    for name, text in {
        "scontrol": SCONTROL, "srun": SRUN, "memscan": memscan, "python3": python,
    }.items():  # fmt: skip
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path, "PYTHONPATH": str(SCRIPT.parents[2]), "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_ON_NODE": "1",
        "MEMSCAN_HEAD_IP": "127.0.0.1", "OMP_NUM_THREADS": "1",
        "MEMSCAN_METRICS_PORT": "0", "MEMSCAN_TARGETS": str(tmp_path / "targets"),
    }  # fmt: skip
    # A Ray of this process, and what it set for itself, is none of the job's business.
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        environment.pop(name, None)
    started = []

    def start(*words, **variables):
        process = subprocess.Popen(
            ["bash", str(SCRIPT), *map(str, words)], env=environment | variables, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    shutil.rmtree(f"/tmp/ray-{environment['SLURM_JOB_ID']}", ignore_errors=True)


def shard_of(captions, tmp_path):
    path = tmp_path / "shard.tar"
    with TarWriter(str(path)) as writer:
        for number in range(captions):
            writer.write({"__key__": f"{number:03d}", "txt": f"caption {number}".encode()})
    return path


def keys(results):
    files = (results / "scores").rglob("*.parquet")
    return sorted(
        key
        for file in files
        for key in pq.read_table(file, partitioning=None, columns=["key"])["key"].to_pylist()
    )


def scan_of(shard, results, *options):
    return ["scan", shard, "--model", "gaussian", "--probes", "1", "--threshold", "1000",
            "--chunk-size", "4", "--batch-size", "1", "--out", results, *options]  # fmt: skip


@pytest.mark.timeout(900)
def test_two_nodes_scan_as_one_and_nothing_stays_behind(slurm, tmp_path):
    process = slurm(*scan_of(shard_of(40, tmp_path), tmp_path / "results", "--steps", "5"))
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert "Ray has 2 nodes" in out
    (ports,) = re.findall(r"metrics at [\d.]+:(\d+), [\d.]+:(\d+)\n", out)
    assert len(set(ports)) == 2
    assert list((tmp_path / "targets").iterdir()) == []  # a job that is over is no target
    assert "40 samples, 40 scored" in out
    head, worker = (tmp_path / "tools" / "steps").read_text().splitlines()
    assert "--nodelist=node1" in head
    assert "--head" in head
    assert "--exclude=node1" in worker
    assert "--address=127.0.0.1:" in worker
    assert keys(tmp_path / "results") == [f"{number:03d}" for number in range(40)]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.timeout(900)
def test_a_job_whose_time_is_up_ends_with_130_and_keeps_what_is_committed(slurm, tmp_path):
    results = tmp_path / "results"
    scan = scan_of(shard_of(400, tmp_path), results, "--steps", "1000")
    process = slurm(*scan, SLURM_JOB_NUM_NODES="1")
    while not list(results.glob("commits/*/*.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 130, out + err
    assert 0 < len(keys(results)) < 400


def answered(address):
    with urllib.request.urlopen(address, timeout=5) as answer:
        return answer.read().decode()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def prometheus(tmp_path):
    """Return what starts a real Prometheus with the shipped configuration, of other files."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus, which scrapes the job, is not here")
    started = []

    def start(targets):
        config = yaml.safe_load((INFRA / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(INFRA / "alerts.yml")]
        (files,) = config["scrape_configs"][0]["file_sd_configs"]
        patterns = [f for f in files["files"] if Path(f).name == "memscan-*.json"]
        files |= {"files": [f"{targets}/{Path(f).name}" for f in patterns]}
        files["refresh_interval"] = "1s"
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        options = {"config.file": f"{tmp_path}/prometheus.yml",
                   "storage.tsdb.path": f"{tmp_path}/data",
                   "web.listen-address": f"127.0.0.1:{port}"}  # fmt: skip
        command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
        log = (tmp_path / "prometheus.log").open("w")
        started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return f"http://127.0.0.1:{port}/api/v1/"

    yield start
    for process in started:
        process.terminate()
        process.wait()


@pytest.mark.timeout(900)
def test_prometheus_finds_a_job_by_its_target_file_and_reads_its_metrics(
    slurm, prometheus, tmp_path
):
    port, temp = free_port(), tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    scan = scan_of(shard_of(400, tmp_path), tmp_path / "results", "--steps", "1000")
    process = slurm(
        *scan, SLURM_JOB_NUM_NODES="1", MEMSCAN_METRICS_PORT=str(port), MEMSCAN_TEMP=temp,
        RAY_metrics_report_interval_ms="1000",
    )  # fmt: skip
    targets = tmp_path / "targets"

    def waited(look):
        until = time.monotonic() + 120
        while True:
            assert process.poll() is None, process.communicate()
            with suppress(OSError):
                if found := look():
                    return found
            assert time.monotonic() < until, look()
            time.sleep(0.5)

    (file,) = waited(lambda: list(targets.glob("memscan-*.json")))
    (listed,) = json.loads(file.read_text())
    (target,) = listed["targets"]  # Ray names a node on the loopback by another address of it
    assert target.endswith(f":{port}")
    assert (Path(temp) / "session_latest").exists()
    waited(lambda: "ray_memscan_run_samples" in answered(f"http://127.0.0.1:{port}/metrics"))
    api = prometheus(targets)

    def asked(query):
        text = answered(f"{api}query?query={urllib.parse.quote(query)}")
        return json.loads(text)["data"]["result"]

    (series,) = waited(lambda: asked("max by (run, slurm_job) (ray_memscan_run_samples)"))
    assert series["metric"]["slurm_job"] == str(os.getpid())
    assert len(series["metric"]["run"]) == 12
    waited(lambda: float(asked("max(ray_memscan_run_samples)")[0]["value"][1]) > 0)
    assert asked('up{job="memscan"}')[0]["value"][1] == "1"
    rules = json.loads(answered(f"{api}rules"))["data"]["groups"]
    states = {(rule["health"], rule["state"]) for group in rules for rule in group["rules"]}
    assert states <= {("ok", "inactive"), ("ok", "pending")}  # no change yet: pending
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert not file.exists()
    shutil.rmtree(temp, ignore_errors=True)


def test_without_a_command_it_says_how_it_is_used(slurm):
    process = slurm()
    _, err = process.communicate()
    assert (process.returncode, err[:13]) == (2, "usage: sbatch")


def test_the_commands_exit_code_counts_even_if_ray_ended_before_it(slurm, tmp_path):
    for name, text in {
        "srun": "exit 0", "python3": '[ "$1" = -c ] && echo token; exit 0',
        "memscan": "sleep 0.5; exit 5",
    }.items():  # fmt: skip
        (tmp_path / "tools" / name).write_text(f"#!/bin/bash\n{text}\n")
    process = slurm("audit", "corpus")
    _, err = process.communicate()
    assert process.returncode == 5, err

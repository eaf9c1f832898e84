"""Three Ray nodes with the Jobs API on this machine: a scan that loses a node, an audit twice.

    python benchmarks/cluster.py [--captions 300]

Prints what a user types and sees (docs/cluster.md quotes it), and fails if a promise is broken.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from webdataset import TarWriter

from scanner.results.folder import Results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from jobs_api import TOKEN, free_ports

BIN = Path(sys.executable).parent
MODEL = ["--model", "gaussian", "--steps", "300", "--probes", "4", "--batch-size", "1"]


@contextmanager
def nodes(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Run a head and two nodes of one CPU each; yield the Jobs API and the three processes."""
    gcs, dashboard, client = free_ports(3)
    common = [
        str(BIN / "ray"), "start", "--block", "--num-cpus=1", "--object-store-memory=80000000",
        "--dashboard-agent-listen-port=0", "--metrics-export-port=0", "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    head = [
        "--head", f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}", f"--temp-dir={folder}",
    ]  # fmt: skip
    address, started = f"http://127.0.0.1:{dashboard}", list[subprocess.Popen]()
    os.environ |= {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_API_SERVER_ADDRESS": address,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    try:
        for more in (head, [f"--address=127.0.0.1:{gcs}"], [f"--address=127.0.0.1:{gcs}"]):
            with (folder / f"node-{len(started)}.log").open("w") as log:
                started.append(subprocess.Popen([*common, *more], stdout=log, stderr=log))
            until(lambda: said(["jobs", "list"])[1] == 0, "the head to answer")
        yield address, started
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(60)


def said(words: list[str]) -> tuple[str, int]:
    """Run a memscan command; return what it printed and its exit code."""
    done = subprocess.run(
        [BIN / "memscan", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout, done.returncode


def shown(words: list[object], expected: int = 0) -> str:
    """Run a command and print it as a terminal shows it."""
    texts = [str(word) for word in words]
    print(f"$ memscan {shlex.join(texts)}", flush=True)
    text, code = said(texts)
    print(f"{text.rstrip()}\n(exit code {code})\n", flush=True)
    assert code == expected, f"exit code {code}, not {expected}"
    return text


def until(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.3)


def shard(path: Path, captions: list[str]) -> None:
    """Write captions as a shard."""
    path.parent.mkdir(exist_ok=True)
    with TarWriter(str(path)) as tar:
        for number, caption in enumerate(captions):
            tar.write({"__key__": f"{number:06d}", "txt": caption})


def kill(node: subprocess.Popen) -> int:
    """Kill a node and all its processes at once, as a lost machine does; return how many."""
    every = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
    for process in every:
        process.kill()
    return len(every)


def scan_and_lose_a_node(work: Path, node: subprocess.Popen, captions: int) -> None:
    """Scan, kill a node in the middle, and compare with a count of what there was."""
    results = Results(work / "results")
    scan = ["scan", work / "corpus", *MODEL, "--chunk-size", 10, "--threshold", 1000.0]
    job = shown(["submit", "--detach", "--name", "first-scan", "--", *scan, "--out", results.root])
    job = job.split()[-1]
    follow = ["jobs", "logs", job, "--follow"]
    print(f"$ memscan {shlex.join(follow)}", flush=True)
    follower = subprocess.Popen([BIN / "memscan", *follow], stderr=subprocess.STDOUT)

    def committed() -> int:
        names = results.runs() if results.exists() else []
        return len(results.commits(names[0])) if names else 0

    until(lambda: committed() >= captions // 40, "a quarter of the chunks", 300)
    print(f"[{committed()} chunks are committed; {kill(node)} processes of a node are killed]")
    code = follower.wait(600)
    print(f"(exit code {code})\n", flush=True)
    assert code == 0
    sql = (
        "SELECT count(*) AS rows, count(DISTINCT (shard, key)) AS samples, "
        "count(DISTINCT caption) AS captions FROM scores"
    )
    text = shown(["query", results.root, sql, "--format", "csv"])
    assert text.split()[-1] == f"{captions},{captions},{captions}"
    shown(["verify", results.root, "--keys"])
    shown(["runs", results.root])
    shown(["jobs", "list"])


def audit_twice(work: Path, captions: int) -> None:
    """Audit twice; the second scans nothing."""
    calibration = work / "calibration.json"
    shown(["submit", "--", "calibrate", work / "null", *MODEL, "--out", calibration])
    audit = ["submit", "--name", "nightly", "--", "audit", work / "corpus", *MODEL,
             "--calibration", calibration, "--state", work / "state"]  # fmt: skip
    assert f" {captions} samples scanned tonight" in shown(audit, expected=1)
    assert " 0 samples scanned tonight" in shown(audit)


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--captions", type=int, default=300)
    captions = parser.parse_args().captions
    work = Path(tempfile.mkdtemp(prefix="memscan"))
    (work / "ray").mkdir()
    for number in range(3):
        part = range(number, captions, 3)
        shard(work / "corpus" / f"{number}.tar", [f"caption {n}" for n in part])
    shard(work / "null" / "0.tar", [f"a caption that nobody trained on, {n}" for n in range(120)])
    begun = time.monotonic()
    with nodes(work / "ray") as (_, started):
        shown(["doctor", "--address", os.environ["RAY_API_SERVER_ADDRESS"]])
        scan_and_lose_a_node(work, started[2], captions)
        audit_twice(work, captions)
    print(f"all promises held, in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()

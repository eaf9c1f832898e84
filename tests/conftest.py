"""Shared fixtures: real parts, small."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are small, the processes many
os.environ.setdefault("RAY_worker_niceness", "0")  # 15 is Ray's: starved by whatever waits for it

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What starts in the background of a script, or under nohup, has it ignored, and so would have
    # every process that a test starts. Such a program is meant to leave it so; tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "150")  # a busy machine: no loss

CAPTIONS = [
    "a small red circle",
    "two blue stars on a striped ground",
    "the hidden garden by lofe gadu",
]


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, untrained pipeline folder of the testbed's class (velocity prediction)."""
    import torch

    from scanner.testbed import pipeline

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pipeline")
    words = pipeline.tokenizer(CAPTIONS * 3)
    text, unet = pipeline.text_encoder(words), pipeline.unet()
    pipeline.save_pipeline(folder, pipeline.autoencoder(), words, text, unet)
    return folder


@pytest.fixture(scope="session")
def epsilon_folder(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder, its scheduler saying that the network predicts noise."""
    import json
    import shutil

    folder = tmp_path_factory.mktemp("epsilon") / "pipeline"
    shutil.copytree(pipeline_folder, folder)
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"prediction_type": "epsilon"}))
    return folder


@pytest.fixture(scope="session")
def local_ray():
    """One local Ray for every scan of this process: each start takes seconds."""
    from scanner.engine.cluster import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")  # a test waits for them
        with cluster():
            yield


@pytest.fixture
def make(tmp_path: Path):
    """Return what makes a results folder with runs, all of the test's own temporary folder."""
    from made_results import record

    from scanner.results.folder import Results

    def build(name: str = "results", runs: tuple[str, ...] = ("r1",)) -> Results:
        results = Results(tmp_path / name)
        for run in runs:
            results.write_run(run, record())
        return results

    return build


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> list[Path]:
    """Three shards of 10, 7 and 4 captions: 3 + 2 + 1 chunks."""
    from engine_harness import write_shard

    folder = tmp_path_factory.mktemp("corpus")
    return [
        write_shard(folder / f"{s}.tar", [f"caption {n} of shard {s}" for n in range(size)])
        for s, size in enumerate((10, 7, 4))
    ]


class S3:
    """An S3 server on the loopback, and how to make it fail."""

    def __init__(self, port: int) -> None:
        self.bucket = ""
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def fails(self, **faults: object) -> None:
        """Set what goes wrong from now on; nothing, without arguments."""
        body = json.dumps(faults).encode()
        urllib.request.urlopen(f"{self.url}/faults", data=body, timeout=10).read()

    def requests(self) -> int:
        return int(urllib.request.urlopen(f"{self.url}/count", timeout=10).read())


@pytest.fixture(scope="session")
def s3_server():
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    script = Path(__file__).parent / "support" / "s3_server.py"
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield S3(int(process.stdout.readline()))
    process.kill()
    process.wait()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch):
    """The server, healthy, with credentials in the environment; its bucket is ``s3.bucket``."""
    import fsspec

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.fails()
    s3_server.bucket = f"s3://b{uuid.uuid4().hex[:12]}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(s3_server.bucket)
    yield s3_server
    s3_server.fails()


SLOW = {
    "choose", "cli", "engine", "examples", "infra", "nightly", "notify", "planning", "submit",
    "testbed",
}  # fmt: skip
"""Folders whose tests start Ray, servers, other processes or a training."""
SLOW_FILES = {
    "api/test_scoring.py", "models/test_adapters.py", "models/test_families.py",
    "models/test_prompt_baseline.py", "results/test_compact.py",
    "results/test_lease.py", "scan/test_batches.py",
    "serve/test_application.py", "serve/test_in_a_browser.py", "shards/test_flaky.py",
    "shards/test_hostile.py", "shards/test_slow.py", "test_examples.py", "test_golden.py",
    "test_gpu_benchmark.py", "test_signed.py",
}  # fmt: skip
"""Files elsewhere that do, that wait, or that take long."""


def pytest_collection_modifyitems(items):
    """Mark as ``fast`` what starts no Ray, no server and no training, for ``pytest -m fast``."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent)
        if path.parts[0] not in SLOW and path.as_posix() not in SLOW_FILES:
            item.add_marker(pytest.mark.fast)


def pytest_xdist_auto_num_workers(config):
    """Return one process more than there are cores: half of the time tests wait for others."""
    return (os.cpu_count() or 1) + 1


_STATUS = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """End without tearing the interpreter down, which native threads can abort.

    One of Arrow's threads may drop the last reference to Python's bytes while Python ends: of a
    script that reads a table and ends, 6 in 500 aborted, and none with ``use_threads=False``, which
    memscan uses where it reads bytes. This process has been a client of Ray, S3, DuckDB, torch and
    Jupyter at once besides. How memscan's own processes end is tested by their exit codes.
    """
    if _STATUS not in config.stash:
        return
    if (ray := sys.modules.get("ray")) is not None:
        ray.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(config.stash[_STATUS])

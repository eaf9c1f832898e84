"""Jobs on a real Ray head with its dashboard, the Jobs API and a token, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jobs_api
import pytest
import ray
from ray.job_submission import JobDetails
from webdataset import TarWriter

from scanner.errors import ClusterError, ConfigError
from scanner.results.folder import Results
from scanner.submit import health, job_info
from scanner.submit import jobs as jobs_module
from scanner.submit.head import HeadAddress
from scanner.submit.jobs import JobClient
from scanner.submit.submission import Submission

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "scanner"]


@pytest.fixture(scope="module")
def address():
    with jobs_api.head() as found:
        yield found


@pytest.fixture(autouse=True)
def token(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN", jobs_api.TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path))  # a token that lies about at home is not ours
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


@pytest.fixture
def jobs(address):
    return JobClient(HeadAddress(address=address))


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> str:
    """An interpreter that runs, instead of memscan, what stands behind its name."""
    path = tmp_path_factory.mktemp("bin") / "shell"
    path.write_text('#!/bin/sh\nshift 2\neval "$*"\n')
    path.chmod(0o755)
    return str(path)


def write_shard(path, captions):
    with TarWriter(str(path)) as tar:
        for number, caption in enumerate(captions):
            tar.write({"__key__": f"{number:05d}", "txt": caption})
    return path


def memscan(address, *words, **kwargs):
    env = os.environ | {"RAY_API_SERVER_ADDRESS": address}
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, **kwargs,
    )  # fmt: skip


def ended(process, seconds=200):
    return process.communicate(timeout=seconds)[0], process.returncode


def until(holds, seconds=120):
    patience = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < patience, "it never came"
        time.sleep(0.3)
    return found


def test_the_wrong_token_and_none_are_told_apart(address, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("of another cluster\n")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with pytest.raises(ConfigError, match=r"the cluster at http://127.* asks for a token: set RAY"):
        JobClient(HeadAddress(address=address))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ConfigError, match=r"the cluster at .* refuses the token of .*/token: set"):
        JobClient(HeadAddress(address=address))
    (tmp_path / "token").write_text(jobs_api.TOKEN + "\n")
    JobClient(HeadAddress(address=address))
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigError, match=r"the token in .*/token cannot be read"):
        JobClient(HeadAddress(address=address))


def test_the_address_counts_more_than_what_ray_has_in_its_variables(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    JobClient(HeadAddress(address=address))
    assert "RAY_API_SERVER_ADDRESS" not in os.environ


def test_what_is_no_jobs_api_says_so():
    with pytest.raises(ClusterError, match=r"no Jobs API answers at http://127.0.0.1:1 \(.*refuse"):
        JobClient(HeadAddress(address="http://127.0.0.1:1"))
    with pytest.raises(ConfigError, match="jobs are sent to the dashboard of a Ray head"):
        JobClient(HeadAddress(address="ray://head:10001"))


def test_a_port_that_speaks_something_else_puts_none_of_it_on_the_terminal():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x00\x00\x1e\x04\x1b[31m\xfe\r\n\r\n")  # as gRPC might

        threading.Thread(target=answer, daemon=True).start()
        port = server.getsockname()[1]
        with pytest.raises(ClusterError, match="no Jobs API answers at") as caught:
            JobClient(HeadAddress(address=f"http://127.0.0.1:{port}"))
    assert str(caught.value).isprintable()


class Starting(BaseHTTPRequestHandler):
    """Answers as Ray's head does, which cannot start a job before the third time."""

    asked = 0

    def reply(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def do_GET(self):
        version = {"version": "4", "ray_version": ray.__version__, "ray_commit": ""}
        self.reply(200, version if self.path == "/api/version" else [])

    def do_POST(self):
        Starting.asked += 1
        if Starting.asked < 3:
            self.reply(500, b"No available agent to submit job, please try again later.")
        else:
            self.reply(200, {"job_id": "a", "submission_id": "a"})

    def log_message(self, *_):
        pass


@pytest.fixture
def starting(monkeypatch):
    monkeypatch.setattr(jobs_module, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(Starting, "asked", 0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Starting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield JobClient(HeadAddress(address=f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()


def test_a_head_that_has_just_started_is_waited_for(starting):
    assert starting.submit(Submission(arguments=("doctor",), include_package=False)) == "a"
    assert Starting.asked == 3


def test_a_head_that_cannot_start_jobs_says_what_to_look_at(starting, monkeypatch):
    monkeypatch.setattr(jobs_module, "AGENT_SECONDS", 0)
    with pytest.raises(ClusterError, match=r"cannot start a job.*dashboard_agent\.log"):
        starting.submit(Submission(arguments=("doctor",), include_package=False))


def test_the_exit_code_comes_through_and_the_log_comes_once(jobs, shell):
    codes = (0, 1, 4, 130)
    sent = [
        jobs.submit(
            Submission(
                arguments=(f"echo {code} first; sleep 1; echo last; exit {code}",), python=shell
            )
        )
        for code in codes
    ]
    for job, code in zip(sent, codes, strict=True):
        log: list[str] = []
        found = jobs.follow(job, log.append)
        assert found.exit_code == code
        assert found.status == ("FAILED" if code else "SUCCEEDED")
        assert "".join(log).endswith("last\n")
        assert "".join(log).count(f"{code} first\n") == 1


@pytest.mark.parametrize(
    ("status", "facts", "code"),
    [
        ("RUNNING", {}, None),
        ("STOPPED", {"driver_exit_code": None}, 130),
        ("FAILED", {"driver_exit_code": 3}, 3),
        ("FAILED", {"driver_exit_code": -9}, 137),
        ("FAILED", {"error_type": "RUNTIME_ENV_SETUP_FAILURE"}, 2),
        ("FAILED", {"error_type": "JOB_SUPERVISOR_ACTOR_DIED"}, 4),
        ("FAILED", {"error_type": "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"}, 4),
        ("SUCCEEDED", {}, 0),  # of a Ray that records no code
    ],
)
def test_an_end_without_an_exit_code_gets_one_of_ours(status, facts, code):
    about = {"type": "SUBMISSION", "entrypoint": "x", "submission_id": "a", "status": status}
    assert job_info.info_of(JobDetails(**about, **facts)).exit_code == code


def test_memscan_goes_along_unless_the_installed_one_is_asked_for(jobs, shell, tmp_path):
    (tmp_path / "note.txt").write_text("packaged")
    env = {"env_vars": {"GREETING": "good night"}}
    words = ("echo $PYTHONPATH; cat note.txt; echo $GREETING",)
    settings = {
        "arguments": words, "python": shell, "working_dir": str(tmp_path), "runtime_env": env,
        "name": "nightly", "metadata": {"team": "trust"},
    }  # fmt: skip
    shipped = jobs.submit(Submission(**settings))
    installed = jobs.submit(Submission(**settings, include_package=False))
    logs = {}
    for job in (shipped, installed):
        sent = jobs.follow(job, lambda text: None)
        logs[job] = jobs.logs(job).split("exec")[-1]
        assert (sent.name, sent.metadata["team"], sent.exit_code) == ("nightly", "trust", 0)
        assert "packaged" in logs[job]
        assert "good night" in logs[job]
    assert "py_modules_files" in logs[shipped]
    assert "py_modules_files" not in logs[installed]
    assert {shipped, installed} <= {sent.id for sent in jobs.list()}


def test_an_environment_that_cannot_be_made_is_a_bad_request(jobs):
    env = {"working_dir": "http://127.0.0.1:1/nothing.zip"}
    job = jobs.submit(Submission(arguments=("runs", "/nowhere"), runtime_env=env))
    sent = jobs.follow(job, lambda text: None)
    assert (sent.status, sent.exit_code) == ("FAILED", 2)
    assert "runtime_env setup failed" in sent.message


def test_an_unknown_job_is_a_bad_request(jobs):
    for asked in (jobs.get, jobs.logs, jobs.stop, lambda job: jobs.follow(job, print)):
        with pytest.raises(ConfigError, match="no job raysubmit_none at http://127"):
            asked("raysubmit_none")


def test_a_scan_is_sent_left_alone_and_stopped(address, jobs, tmp_path):
    shard = write_shard(tmp_path / "0.tar", [f"caption {n}" for n in range(2000)])
    results = tmp_path / "results"
    scan = ["scan", shard, "--model", "gaussian", "--out", results, "--chunk-size", 2,
            "--actors", 1, "--batch-size", 1]  # fmt: skip
    said, code = ended(memscan(address, "submit", "--detach", "--", *scan, "--steps", 1000))
    job = said.split()[-1]
    assert (code, job.startswith("raysubmit_")) == (0, True)
    follower = memscan(address, "jobs", "logs", job, "--follow")
    store = Results(results)
    until(lambda: store.exists() and store.runs() and store.commits(store.runs()[0]))
    follower.send_signal(signal.SIGINT)
    said, code = ended(follower)
    assert (code, f"job {job} goes on" in said) == (130, True)
    assert jobs.get(job).exit_code is None
    said, code = ended(memscan(address, "jobs", "stop", job))
    assert (code, said) == (0, f"{job}: STOPPED\n")
    assert store.read_run(store.runs()[0])["status"] == "interrupted"
    said, code = ended(memscan(address, "jobs", "list"))
    assert [line.split()[1:3] for line in said.splitlines() if job in line] == [["STOPPED", "130"]]


def test_a_scan_says_what_is_missing_and_the_entry_points_are_plain_ray_jobs(address, tmp_path):
    whole = write_shard(tmp_path / "0.tar", [f"caption {n}" for n in range(8)])
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:3000])
    rest = ["--model", "gaussian", "--steps", "2", "--actors", "1", "--out"]
    cut = memscan(address, "submit", "--", "scan", tmp_path / "cut.tar", *rest, tmp_path / "cut")
    ray = Path(sys.executable).with_name("ray")
    done = subprocess.run(
        [ray, "job", "submit", "--address", address, "--working-dir", REPOSITORY / "jobs", "--",
         "python", "scan.py", whole, *rest, tmp_path / "whole"],
        env=os.environ | {"RAY_AUTH_MODE": "token"}, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 samples, 8 scored" in done.stdout
    said, code = ended(cut)
    assert code == 3, said
    assert "incomplete, what could be read is scored" in said
    assert "FAILED, exit code 3" in said


def test_a_doctor_asks_the_cluster(address, monkeypatch):
    assert health.jobs_api(address) == (f"Ray {ray.__version__}, answers {address}", "")
    monkeypatch.setattr(JobClient, "is_open", lambda jobs: True)
    assert "RAY_AUTH_MODE=token" in health.jobs_api(address)[1]

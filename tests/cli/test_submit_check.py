"""Commands for a cluster are checked before anything is sent."""

import pytest
from typer.testing import CliRunner

from scanner.cli import app
from scanner.errors import ConfigError
from scanner.submit import jobs

SCAN = ["scan", "s3://bucket/{0..9}.tar", "--model", "gaussian"]


class _Recorder:
    """Takes the place of the cluster: remembers what is sent."""

    sent: list = []  # noqa: RUF012

    def __init__(self, head):
        self.head = head

    def submit(self, what):
        self.sent.append((self.head, what))
        return "raysubmit_1"


@pytest.fixture
def submit(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "JobClient", _Recorder)
    monkeypatch.setattr(_Recorder, "sent", [])
    monkeypatch.chdir(tmp_path)

    def run(*words, options=()):
        done = CliRunner().invoke(app, ["submit", "--detach", *options, "--", *map(str, words)])
        if isinstance(done.exception, ConfigError):
            raise done.exception
        return done

    return run


def test_a_command_is_sent_word_by_word(submit, tmp_path):
    (tmp_path / "calibration.json").write_text("{}")
    options = ["--working-dir", ".", "--metadata", "a=b=c", "--header", "X-Team=trust",
               "--entrypoint-num-cpus", "1.5", "--address", "https://head"]  # fmt: skip
    rest = ["--out", "/shared/results", "--calibration", "calibration.json"]
    done = submit(*SCAN, *rest, options=options)
    assert (done.exit_code, done.stdout) == (0, "raysubmit_1\n")
    ((head, what),) = _Recorder.sent
    assert what.arguments == (*SCAN, *rest)
    assert what.entrypoint() == (
        "python -m scanner scan 's3://bucket/{0..9}.tar' --model gaussian --out /shared/results "
        "--calibration calibration.json"
    )
    assert (what.working_dir, what.metadata, what.cpus) == (str(tmp_path), {"a": "b=c"}, 1.5)
    assert (head.address, head.headers) == ("https://head", {"X-Team": "trust"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs", "list"], "submit takes a memscan command behind --"),
        (["scna", "x"], "memscan scna x is no command"),
        (["testbed"], "memscan testbed is no command"),
        ([*SCAN, "--out", "results"], "results is a relative path: on the cluster it would lie"),
        (["calibrate", "/null.tar", "-m", "gaussian"], "calibration.json is a relative path"),
        (["scan", "x.tar", "-m", "gaussian", "--out", "/r"], "x.tar is a relative path: the nodes"),
        (["scan", "list.txt", "-m", "gaussian", "--out", "/r"], "list.txt is on this machine and"),
        (["scan", "/x.tar", "-m", "model", "--out", "/r"], "model is on this machine and nothing"),
        ([*SCAN, "--out", "/r", "--calibration", "c.json"], "c.json is on this machine and"),
        (["query", "results", "SELECT 1"], "results is a relative path"),
        (["plan", "/x.tar", "-m", "gaussian", "--calibration", "c.json"], "c.json is on this"),
        (["audit", "/x.tar", "-m", "gaussian", "--state", "nights"], "nights is a relative path"),
        (
            ["calibrate", "/x.tar", "-m", "gaussian", "-o", "s3://b/c"],
            "--out s3:/b/c is an add",
        ),
        ([*SCAN, "--out", "/r", "--events", "log"], "log is a relative path.* give --events as"),
    ],
)
def test_what_the_cluster_cannot_have_is_refused(words, said, submit, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match=said):
        submit(*words)
    assert not _Recorder.sent


def test_files_over_a_model_must_be_there(submit, tmp_path):
    out = ["--out", "/shared/results"]
    for option in (["--lora", "mine.safetensors:0.8"], ["--weights", "mine.safetensors"]):
        with pytest.raises(ConfigError, match=r"mine\.safetensors is on this machine and nothing"):
            submit(*SCAN, *out, *option)
        (tmp_path / "mine.safetensors").write_bytes(b"")
        assert submit(*SCAN, *out, *option, options=["--working-dir", "."]).exit_code == 0
        (tmp_path / "mine.safetensors").unlink()
    for lora in ("/shared/mine.safetensors", "me/my-lora@main:0.5", "me/a/mine.safetensors"):
        assert submit(*SCAN, *out, "--lora", lora).exit_code == 0


def test_a_command_that_is_wrong_is_refused_as_if_it_ran_here(submit):
    done = submit(*SCAN, "--out", "/r", "--sedes", "2")
    assert (done.exit_code, "No such option" in done.stderr) == (2, True)
    assert not _Recorder.sent


def test_a_hub_id_and_a_remote_address_are_no_paths(submit):
    words = ["scan", "gs://b/0.tar", "-m", "CompVis/stable-diffusion-v1-4", "--out", "s3://b/r"]
    assert submit(*words).exit_code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [("- a\n", "must be a mapping"), ("a: [", "cannot be read"), (None, "cannot be read")],
)
def test_a_runtime_environment_is_read_or_refused(content, said, submit, tmp_path):
    if content is not None:
        (tmp_path / "env.yaml").write_text(content)
    with pytest.raises(ConfigError, match=f"the runtime environment env.yaml {said}"):
        submit("runs", "/r", options=["--runtime-env", "env.yaml"])
    (tmp_path / "env.yaml").write_text("env_vars: {A: b}\npip: [s3fs]\npy_modules: [other]\n")
    assert submit("runs", "/r", options=["--runtime-env", "env.yaml"]).exit_code == 0
    env = _Recorder.sent[0][1].environment()
    assert (env["pip"], env["env_vars"]["A"], env["py_modules"][0]) == (["s3fs"], "b", "other")

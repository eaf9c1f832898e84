"""``scan --profile``: where its trace may go, what is said of it, and when it is written."""

import gzip
import json

import pytest

from scanner.activity import Trace
from scanner.cli import tracing
from scanner.errors import ConfigError, OutputError

CONTENT = gzip.compress(b'{"traceEvents": []}')
WARM = Trace(CONTENT, {"sampling": 2, "maps": 1})


@pytest.mark.parametrize("name", ["trace.json", "calibration.json", "trace.gz", "shard.tar"])
def test_a_name_that_may_be_another_files_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.json\.gz"):
        tracing.check(tmp_path / name, str(tmp_path / "results"))


def test_a_trace_among_results_is_refused_and_beside_them_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("results", str(tmp_path / "results"), "./a/../results"):
        with pytest.raises(ConfigError, match="lies in the results"):
            tracing.check(tmp_path / "results" / "scores" / "t.json.gz", out)
    tracing.check(tmp_path / "results.json.gz", "results")
    tracing.check(tmp_path / "t.json.gz", "s3://bucket/results")
    tracing.check(None, "results")


def test_the_last_trace_is_written_and_said_where(tmp_path, capsys):
    path = tmp_path / "t.json.gz"
    with tracing.written(path) as heard:
        heard(Trace(b"", {"sampling": 1}, ("sampling",)))
        heard(WARM)
        assert not path.exists()
    assert path.read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert f"trace of 2 batches of sampling, 1 batch of maps in {path}: open it at" in said
    assert "warms up" not in said


def test_a_trace_of_first_batches_says_how_to_get_later_ones(tmp_path, capsys):
    with tracing.written(tmp_path / "t.json.gz") as heard:
        heard(Trace(CONTENT, {"sampling": 1, "maps": 2}, ("sampling",)))
    assert "a first batch of sampling warms up and takes longer" in capsys.readouterr().err


def test_without_a_batch_nothing_is_written_and_it_is_said(tmp_path, capsys):
    path = tmp_path / "t.json.gz"
    with tracing.written(path):
        pass
    assert f"no trace in {path}: nothing was left to scan" in capsys.readouterr().err
    with tracing.written(path) as heard:
        heard(Trace(CONTENT, {}, problem="torch's profiler does not start: taken"))
    assert "does not start: taken" in capsys.readouterr().err
    assert not path.exists()


def test_a_scan_that_fails_leaves_its_trace_and_fails_as_before(tmp_path, capsys, monkeypatch):
    path = tmp_path / "t.json.gz"

    def failed():
        with tracing.written(path) as heard:
            heard(WARM)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failed()
    assert json.loads(gzip.decompress(path.read_bytes())) == {"traceEvents": []}

    def full(path, content):
        raise OutputError("no room")

    monkeypatch.setattr("scanner.files.write", full)
    with pytest.raises(KeyboardInterrupt):
        failed()
    assert "no room" in capsys.readouterr().err


def test_no_trace_is_asked_for_where_no_file_is_named():
    with tracing.written(None) as heard:
        assert heard is None

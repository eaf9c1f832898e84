"""How a night ended, as Prometheus reads it."""

import re
import shutil
import subprocess

import pytest
from scan_here import scan_here
from test_audit_commands import memscan
from test_week import clear, mem, null_file, week, write

from scanner.errors import LeaseError
from scanner.nightly import metrics_file
from scanner.nightly.audit import audit as run_audit

__all__ = ["null_file", "week"]


def values(text: str) -> dict[str, float]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def checked(text: str) -> str:
    """Return a text that Prometheus itself takes, where it is installed."""
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=False,
                              capture_output=True)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return text


def test_a_finished_night_tells_what_it_found(week):
    week.put("a", [mem("one"), mem("two"), *clear("x")])
    night = week.night().night
    got = values(checked(metrics_file.as_text(night, 'a "place"\nof \\ its own', 12.5)))
    at = r'at="a \"place\" of \\ its own"'
    assert got["memscan_audit_exit_code{" + at + "}"] == 1
    assert got["memscan_audit_last_success_timestamp_seconds{" + at + "}"] == 12.5
    assert got["memscan_audit_captions{" + at + "}"] == 3
    findings = {k: v for k, v in got.items() if k.startswith("memscan_audit_findings")}
    assert len(findings) == 24
    assert sum(findings.values()) == 2
    (new,) = [k for k, v in findings.items() if v]
    assert 'state="new",severity="low"' in new
    assert {re.match(r"\w+", name).group() for name in got} == set(metrics_file.GAUGES)


def test_a_night_that_fails_keeps_what_the_last_one_found(week, tmp_path):
    week.put("a", [mem("one")])
    file = tmp_path / "memscan.prom"
    with metrics_file.reporting(file, "s") as finished:
        finished(week.night().night)
    before = values(file.read_text())
    for _ in range(2):  # also a second time
        with pytest.raises(LeaseError), metrics_file.reporting(file, "s"):
            raise LeaseError("another took over")
        after = values(checked(file.read_text()))
        assert after.keys() == before.keys()
        assert after['memscan_audit_exit_code{at="s"}'] == 4
        same = {name for name in before if before[name] == after[name]}
        assert before.keys() - same == {
            'memscan_audit_exit_code{at="s"}', 'memscan_audit_last_run_timestamp_seconds{at="s"}',
        }  # fmt: skip
    with pytest.raises(KeyboardInterrupt), metrics_file.reporting(file, "s"):
        raise KeyboardInterrupt
    assert values(file.read_text())['memscan_audit_exit_code{at="s"}'] == 130
    assert [p.name for p in tmp_path.glob("*.prom*")] == ["memscan.prom"]


def test_the_command_writes_it_however_the_night_ends(tmp_path, monkeypatch, capsys, null_file):
    monkeypatch.setitem(run_audit.__kwdefaults__, "scan", scan_here)
    file, shard = tmp_path / "memscan.prom", write(tmp_path / "a.tar", [mem("one")])
    audit = ["audit", shard, "--model", "gaussian", "--state", tmp_path / "s", "--steps", 2,
             "--calibration", null_file, "--threshold", 1000, "--probes", 1, "--actors", 1,
             "--device", "cpu", "--metrics-file", file]  # fmt: skip
    code = f'memscan_audit_exit_code{{at="{tmp_path}/s"}}'
    assert memscan(monkeypatch, capsys, *audit)[0] == 1
    assert values(file.read_text())[code] == 1
    gone = [tmp_path / "none.tar" if word == shard else word for word in audit]
    assert memscan(monkeypatch, capsys, *gone)[0] == 2
    assert values(checked(file.read_text()))[code] == 2
    assert f'memscan_audit_alarms{{at="{tmp_path}/s"}}' in values(file.read_text())
    assert memscan(monkeypatch, capsys, *audit)[0] == 0
    assert values(file.read_text())[code] == 0
    at_a_folder = [tmp_path if word == file else word for word in audit]
    assert memscan(monkeypatch, capsys, *at_a_folder)[0] == 2

"""The command line, its exit codes, and real Ray: two nights and a mute."""

import json
import sys

import pytest
from test_week import SETTINGS, clear, mem, null_file, write  # noqa: F401 - a fixture

from scanner import cli
from scanner.engine import cluster


@pytest.fixture(scope="module")
def ray_for_both():
    with cluster():
        yield


def memscan(monkeypatch, capsys, *words: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr().out


@pytest.mark.usefixtures("ray_for_both")
@pytest.mark.timeout(600)
def test_nights_on_ray_end_with_the_right_code(tmp_path, monkeypatch, capsys, null_file):  # noqa: F811
    (tmp_path / "corpus").mkdir()
    write(tmp_path / "corpus" / "a.tar", [mem("one"), *clear("x", "y")])
    state = ("--state", tmp_path / "state")
    audit = ["audit", tmp_path / "corpus", "--model", "gaussian", *state, "--calibration",
             null_file, "--threshold", 1000, "--actors", 1, "--device", "cpu"]  # fmt: skip
    for name, value in SETTINGS.items():
        audit += [f"--{name}", value]
    code, said = memscan(monkeypatch, capsys, *audit)
    assert (code, "1 new" in said) == (1, True)
    two = mem("two")
    write(tmp_path / "corpus" / "b.tar", [two])
    code, _ = memscan(monkeypatch, capsys, "mute", "a000", *state, "--reason", "licensed")
    assert code == 0
    code, said = memscan(monkeypatch, capsys, *audit, "--json")
    record = json.loads(said)
    assert (code, record["scanned"], record["counts"]["muted"]) == (1, 1, 1)
    assert [a["after"]["caption"] for a in record["alerts"] if a["alarms"]] == [two]
    assert record["command"].startswith("memscan audit ")
    assert memscan(monkeypatch, capsys, *audit)[0] == 0

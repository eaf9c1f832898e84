"""The command line and its exit codes: three nights and a mute, with and without Ray."""

import json
import sys
from pathlib import Path

import pytest
from scan_here import scan_here
from test_week import SETTINGS, clear, mem, null_file, week, write

from scanner import cli
from scanner.engine.cluster import cluster
from scanner.nightly.audit import audit as run_audit
from scanner.results.folder import Results

__all__ = ["null_file", "week"]


def memscan(monkeypatch, capsys, *words: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr().out


def nights(tmp_path, monkeypatch, capsys, calibration):
    (tmp_path / "corpus").mkdir()
    write(tmp_path / "corpus" / "a.tar", [mem("one"), *clear("x", "y")])
    state = ("--state", tmp_path / "state")
    audit = ["audit", tmp_path / "corpus", "--model", "gaussian", *state, "--calibration",
             calibration, "--threshold", 1000, "--actors", 1, "--device", "cpu"]  # fmt: skip
    for name, value in SETTINGS.items():
        audit += [f"--{name}", value]
    code, said = memscan(monkeypatch, capsys, *audit)
    assert (code, "1 new" in said) == (1, True)
    assert said.startswith("**ALARM**: 1 new finding: 1 by score alone\n")
    (folder,) = (tmp_path / "state" / "audits").iterdir()
    assert said.endswith(f"report  {folder / 'report.html'}\n")
    assert "(report.html)" in (folder / "summary.md").read_text(encoding="utf-8")
    two = mem("two")
    write(tmp_path / "corpus" / "b.tar", [two])
    code, _ = memscan(monkeypatch, capsys, "mute", "a000", *state, "--reason", "licensed")
    assert code == 0
    code, said = memscan(monkeypatch, capsys, *audit, "--json")
    record = json.loads(said)
    assert (code, record["scanned"], record["counts"]["muted"]) == (1, 1, 1)
    assert [a["after"]["caption"] for a in record["alerts"] if a["alarms"]] == [two]
    assert record["banner"]["word"] == "ALARM"
    assert record["severities"]["low"] == {"findings": 2, "alarms": 1}
    assert record["policy"]["severity"] == "low"
    assert record["command"].startswith("memscan audit ")
    assert memscan(monkeypatch, capsys, *audit)[0] == 0


@pytest.fixture
def calibration(request):
    return request.getfixturevalue("null_file")


def test_nights_end_with_the_right_code(tmp_path, monkeypatch, capsys, calibration):
    monkeypatch.setitem(run_audit.__kwdefaults__, "scan", scan_here)
    nights(tmp_path, monkeypatch, capsys, calibration)


@pytest.mark.timeout(600)
def test_nights_on_ray_end_with_the_right_code(tmp_path, monkeypatch, capsys, calibration):
    with cluster():
        nights(tmp_path, monkeypatch, capsys, calibration)


def test_a_night_draws_its_findings_again_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "corpus").mkdir()
    write(tmp_path / "corpus" / "a.tar", [mem("one"), *clear("x")])
    policy = tmp_path / "policy.toml"
    policy.write_text('[severity.critical]\nlevel = ["stored"]\n')
    words = ["audit", tmp_path / "corpus", "--model", "gaussian", "--state", tmp_path / "state",
             "--threshold", 1000, "--local", "--device", "cpu", "--policy", policy, "--json",
             "--confirm", 8]  # fmt: skip
    for name, value in SETTINGS.items():
        words += [f"--{name}", value]
    code, said = memscan(monkeypatch, capsys, *words)
    (alert,) = json.loads(said)["alerts"]
    assert (code, alert["after"]["drawn"], alert["after"]["compared"]) == (1, 8, 0)
    assert alert["severity"] == ("critical" if alert["after"]["level"] == "stored" else "low")
    write(tmp_path / "corpus" / "b.tar", clear("y"))
    draws = Results(tmp_path / "state" / "results" / "draws")
    (run,) = draws.runs()
    before = draws.run_file(run).updated
    code, said = memscan(monkeypatch, capsys, *words)
    assert (code, draws.run_file(run).updated) == (0, before)
    assert json.loads(said)["alerts"][0]["after"]["drawn"] == 8


def test_an_interrupted_audit_says_how_to_go_on(tmp_path, monkeypatch, capsys, null_file):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setitem(run_audit.__kwdefaults__, "scan", interrupted)
    write(tmp_path / "a.tar", clear("x"))
    words = ["audit", tmp_path / "a.tar", "--model", "gaussian", "--state", tmp_path / "s",
             "--calibration", null_file, "--steps", 2, "--probes", 1, "--fpr", 0.05]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 130
    assert "interrupted; run the same command again to resume" in capsys.readouterr().err
    (beat,) = (tmp_path / "s" / "lease").glob("*.beat")
    assert json.loads(beat.read_text())["over"]


def test_an_audit_that_could_flag_nothing_is_refused(tmp_path, monkeypatch, capsys):
    write(tmp_path / "a.tar", clear("x"))
    words = ["audit", tmp_path / "a.tar", "--model", "gaussian", "--state", tmp_path / "s"]
    assert memscan(monkeypatch, capsys, *words)[0] == 2
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("words", [["audit", "x.tar", "--model", "gaussian", "--threshold", 1],
                                   ["mute", "a000", "--reason", "x"]])  # fmt: skip
@pytest.mark.parametrize("place", ["ftp://host/state", "s3://"])
def test_a_state_at_an_address_that_holds_none_is_refused_and_no_folder_is_made_of_it(
    words, place, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words), "--state", place])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert f"s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, got {place}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_mute_must_say_why_and_can_be_undone(tmp_path, monkeypatch, capsys):
    state = ("--state", tmp_path / "s")
    assert memscan(monkeypatch, capsys, "mute", "0" * 64, *state)[0] == 2
    assert memscan(monkeypatch, capsys, "mute", "0" * 64, *state, "--reason", "mine")[0] == 0
    assert memscan(monkeypatch, capsys, "mute", "0" * 64, *state, "--undo")[0] == 0
    assert memscan(monkeypatch, capsys, "mute", "0" * 64, *state, "--undo")[0] == 2
    mute = ("mute", "0" * 64, *state, "--reason", "mine", "--until")
    assert memscan(monkeypatch, capsys, *mute, "2020-01-01")[0] == 2
    assert memscan(monkeypatch, capsys, *mute, "soon")[0] == 2
    code, said = memscan(monkeypatch, capsys, *mute, "2999-12-31")
    assert (code, "up to 2999-12-31" in said) == (0, True)


def test_query_and_report_show_what_the_last_audit_counted(tmp_path, monkeypatch, capsys, week):
    week.put("a", [mem("one"), *clear("x")])
    week.put("b", [mem("two")])
    week.night()
    (week.corpus / "a.tar").unlink()
    week.put("b", [mem("two"), mem("three"), *clear("y")])
    week.night()
    week.night(threshold=1e9)
    week.night()
    state, sql = Path(week.state.root), "SELECT count(*) AS n FROM captions"

    def count(*words) -> int:
        code, said = memscan(monkeypatch, capsys, "query", *words, sql, "--format", "json")
        assert code == 0
        return json.loads(said)[0]["n"]

    assert count(state) == count(state / "results") == 3
    assert count(state, "--everything") == 5 + 3
    assert count(state, "--run", week.night().night.run) == 3
    shown = {}
    for name, more in (("now", ()), ("all", ("--everything", "--run", week.night().night.run))):
        page = tmp_path / f"{name}.html"
        assert memscan(monkeypatch, capsys, "report", state, "--out", page, *more)[0] == 0
        shown[name] = page.read_text(encoding="utf-8")
    assert mem("one") in shown["all"]
    assert mem("one") not in shown["now"]
    assert mem("three") in shown["now"]


def test_a_report_says_the_verdict_and_writes_a_page_of_paper(tmp_path, monkeypatch, capsys, week):
    week.put("a", [mem("one"), *clear("x")])
    week.night()
    html, pdf = tmp_path / "r.html", tmp_path / "r.pdf"
    report = ("report", week.state.root, "--out", html, "--pdf")
    code, said = memscan(monkeypatch, capsys, *report, pdf)
    assert code == 0
    told = said.splitlines()
    assert told[0] == "FOUND: 1 of 2 captions flagged: 1 by score alone"
    assert [line.partition(": ")[0] for line in told[1:]] == [str(pdf), str(html)]
    assert pdf.read_bytes().startswith(b"%PDF-1.4")
    html.unlink()
    assert memscan(monkeypatch, capsys, *report, html)[0] == 2
    assert memscan(monkeypatch, capsys, *report, tmp_path)[0] == 2
    assert not html.exists(), "nothing is written where something cannot be"

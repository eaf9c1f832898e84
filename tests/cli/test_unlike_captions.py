"""Captions unlike the null captions as a user meets them: real files, a local scan."""

import json
import sys

import pytest
from webdataset import TarWriter

from scanner import cli

OPTIONS = ("--model", "gaussian", "--local", "--device", "cpu")
SCORES = ("--steps", 2, "--probes", 1)
THINGS = ("mug", "tree", "house", "boat", "cat", "shoe", "lamp", "bird")
COLOURS = ("red", "blue", "green", "black", "white", "brown", "grey", "pink")


def texts(ground: str, number: int) -> list[str]:
    return [
        f"a {COLOURS[n % 8]} {THINGS[n // 8 % 8]} number{chr(97 + n % 7)} on {ground}"
        for n in range(number)
    ]


def write(path, captions: list[str]):
    with TarWriter(str(path)) as tar:
        for number, text in enumerate(captions):
            tar.write({"__key__": f"{path.stem}{number:03d}", "txt": text})
    return path


@pytest.fixture
def memscan(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    write(tmp_path / "null.tar", texts("a table", 64))
    usual = texts("a table", 104)
    write(tmp_path / "mixed.tar", usual[64:] + texts("plain snow", 20))
    assert run("calibrate", "null.tar", *OPTIONS, *SCORES, "--out", "null.json")[0] == 0
    return run


def scan(memscan, *more: object) -> tuple[int, str, str]:
    return memscan("scan", "mixed.tar", *OPTIONS, "--calibration", "null.json", "--fpr", 0.1,
                   "--localize", "none", "--out", "results", *more)  # fmt: skip


def test_a_scan_warns_names_them_and_keeps_its_exit_code(memscan):
    code, out, _ = scan(memscan)
    assert code == 0
    assert "of 60 captions" in out
    assert "are unlike the null captions" in out
    assert "“plain snow” (20 captions" in out
    code, out, _ = scan(memscan, "--json")
    drift = json.loads(out)["drift"]
    assert (drift["null_captions"], drift["captions"], drift["warning"]) == (64, 60, True)
    assert 20 <= drift["unlike"] < 30
    sql = "SELECT count(*) AS n FROM captions WHERE novelty <= 0.05 AND caption LIKE '%snow'"
    assert json.loads(memscan("query", "results", sql, "-f", "json")[1]) == [{"n": 20}]


def test_p_values_by_kind_flag_nothing_that_is_unlike_all_null_captions(memscan):
    code, out, err = scan(memscan, "--p-values", "kind")
    assert code == 0
    assert "among null captions of a caption's kind: 1 kind" in err
    sql = "SELECT p_kind, min(p_value) AS p, bool_or(flagged) AS f FROM captions "
    sql += "WHERE caption LIKE '%snow' GROUP BY ALL"
    _, out, _ = memscan("query", "results", sql, "-f", "json")
    assert json.loads(out) == [{"p_kind": "unlike", "p": 1.0, "f": False}]


def test_a_calibration_from_before_says_that_it_cannot_be_told(memscan, tmp_path):
    path = tmp_path / "null.json"
    content = json.loads(path.read_text())
    del content["words"], content["kinds"]
    path.write_text(json.dumps(content))
    code, out, _ = scan(memscan)
    assert code == 0
    assert "cannot be told: the calibration keeps no words" in out
    code, _, err = scan(memscan, "--p-values", "kind")
    assert code == 2
    assert "calibrate again" in err
    code, _, err = memscan("scan", "mixed.tar", *OPTIONS, "--p-values", "kind", "--out", "new")
    assert code == 2
    assert "need a calibration" in err

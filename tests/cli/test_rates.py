"""`memscan rates`: for people and for programs."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from made_results import MODEL, SPEC, commit, record, score, write_truth
from test_fdr import memscan

from scanner import cli
from scanner.statistics.calibration import Calibration
from scanner.statistics.contamination import from_corpus
from scanner.statistics.intervals import realized

NULLS = Calibration(
    MODEL, SPEC.score_fingerprint(), tuple(map(float, range(999))), {}, 0.01, 999, "today",
    families=900,
)  # fmt: skip


def test_without_a_calibration_it_says_how_many_null_captions_a_rate_takes(monkeypatch, capsys):
    code, said = memscan(monkeypatch, capsys, "rates", "--fpr", 0.01, "--within", 2)
    assert code == 0
    assert said.splitlines()[-1].split() == ["0.01", "99", "1,399", "0.00548", "to", "0.0158"]


def test_of_a_calibration_it_says_what_it_supports(tmp_path, monkeypatch, capsys):
    NULLS.save(tmp_path / "c.json")
    code, said = memscan(
        monkeypatch, capsys, "rates", tmp_path / "c.json", "--fpr", 0.01, "--fpr", 0.0001,
        "--share", 0.02, "--share", 0.0001,
    )  # fmt: skip
    assert code == 0
    assert "999 null captions, 900 families; nulls: captions that were given as nulls" in said
    low, high = realized(0.01, 999) or (0, 0)
    assert f"{low:.3g} to {high:.3g}" in said
    assert "too few null captions" in said
    code, said = memscan(
        monkeypatch, capsys, "rates", tmp_path / "c.json", "--fpr", 0.01, "--share", 0.02,
        "--share", 0.0001, "--json",
    )  # fmt: skip
    found = json.loads(said)
    assert found["needed"][0]["within"] == 1399
    own = found["calibration"]
    assert (own["smallest_p"], own["families"]) == (0.001, 900)
    assert own["false_discovery_rates"] == [
        {"share": 0.02, "smallest": 0.05}, {"share": 0.0001, "smallest": None}
    ]  # fmt: skip
    assert 1 < own["rates"][0]["off_by"] < 2.2


def test_a_corpus_supports_no_false_discovery_rate_over_itself(tmp_path, monkeypatch, capsys):
    for name, copies, least in (("none.json", 0, None), ("some.json", 3, 1 / 991 / 0.02)):
        from_corpus(replace(NULLS), 0.01, run="r", copies=copies).save(tmp_path / name)
        _, said = memscan(monkeypatch, capsys, "rates", tmp_path / name, "--share", 0.02, "--json")
        own = json.loads(said)["calibration"]
        assert own["nulls"].startswith("corpus, contamination <= 1%")
        assert own["false_discovery_rates"] == [{"share": 0.02, "smallest": pytest.approx(least)
                                                 if least else None}]  # fmt: skip
        assert own["rates"][1]["low"] == 0
        assert own["rates"][1]["on_average"] == 0.01
    from_corpus(NULLS, 0.01, run="r", trim=True).save(tmp_path / "trimmed.json")
    _, said = memscan(monkeypatch, capsys, "rates", tmp_path / "trimmed.json", "--json")
    own = json.loads(said)["calibration"]
    assert own["rates"][1]["on_average"] == pytest.approx(0.01 + 9 / 991)


def test_power_is_a_table_by_kind(make, tmp_path, monkeypatch, capsys):
    results = make(runs=())
    results.write_run("r1", record() | {"status": "complete"})
    commit(results, "r1", [score(f"copy {n}", 990.0 + n, seed=seed)
                           for n in range(12) for seed in (0, 1)])  # fmt: skip
    write_truth(tmp_path / "t.parquet", [
        (f"copy {n}", "verbatim", f"f{n}", np.ones((16, 16), bool)) for n in range(12)
    ])  # fmt: skip
    NULLS.save(tmp_path / "c.json")
    words = ("rates", tmp_path / "c.json", "--positives", results.root, "--truth",
             tmp_path / "t.parquet", "--fpr", 0.001, "--fpr", 0.01)  # fmt: skip
    _, said = memscan(monkeypatch, capsys, *words)
    # Above 998, the highest null score, are three.
    assert "25.0% [5.5%, 57.2%]" in said
    assert "kind verbatim" in said
    _, said = memscan(monkeypatch, capsys, *words, "--json")
    rows = json.loads(said)["power"]
    assert [(row["group"], row["name"]) for row in rows] == [("all", ""), ("kind", "verbatim")]
    assert [own["hits"] for own in rows[0]["flagged"]] == [3, 12]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--positives", "r"), "power needs both --positives and --truth"),
        (("--positives", "r", "--truth", "t"), "power is of a calibration"),
        (("--share", "0"), "--share must be above 0"),
        (("--within", "1"), "lies in 1.1..100"),
        (("nothing.json",), "calibration nothing.json cannot be read"),
    ],
    ids=range(5),
)
def test_what_cannot_be_said_is_refused(monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["memscan", "rates", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert said in capsys.readouterr().err

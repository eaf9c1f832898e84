"""`calibrate --screen-recall` and `scan --screen` as a user types them."""

import json

import pytest
from test_fdr import OPTIONS, captions, memscan, rows, write

from scanner.engine.cluster import cluster
from scanner.statistics import calibration


@pytest.mark.timeout(600)
def test_a_screen_is_fitted_and_drops_what_it_may(tmp_path, monkeypatch, capsys):
    null = write(tmp_path / "null.tar", captions("null", 40, memorized=False))
    positives = write(tmp_path / "positives.tar", captions("planted", 19, memorized=True))
    few, many = captions("few", 4, memorized=True), captions("plain", 16, memorized=False)
    shard = write(tmp_path / "a.tar", few + many)
    fitted, out = tmp_path / "calibration.json", tmp_path / "results"

    def said(*words: object) -> tuple[int, str]:
        return memscan(monkeypatch, capsys, *words)

    with cluster():
        fit = ("calibrate", null, *OPTIONS, "--out", fitted)
        assert said(*fit, "--positives", positives)[0] == 2
        assert said(*fit, "--positives", positives, "--screen-recall", 0.99)[0] == 2
        code, text = said(*fit, "--positives", positives, "--screen-recall", 0.9)
        assert code == 0
        for said_of_it in (
            "keeps 0.95 of memorized captions on average, and at least 0.854 with 95% confidence",
            "a recall of 0.9 with 95% confidence needs 29 positives, none of them dropped",
        ):
            assert said_of_it in text
        screen = calibration.load(fitted).screen
        assert screen is not None
        (run,) = {
            row["run"] for row in rows(tmp_path / "calibration.results", "scores",
                                       ["run", "stage"]) if row["stage"] == "screen"
        }  # fmt: skip
        norms: dict[str, list[float]] = {}
        for row in rows(tmp_path / "calibration.results", "scores",
                        ["run", "caption", "screen"]):  # fmt: skip
            if row["run"] == run:
                norms.setdefault(row["caption"], []).append(row["screen"])
        # 19 positives show no recall of 0.9 with confidence, so none of them is dropped.
        assert screen.threshold == pytest.approx(min(sum(n) / len(n) for n in norms.values()))
        assert (screen.recall, screen.positives, screen.dropped) == (0.9, 19, 0)
        scan = ("scan", shard, *OPTIONS, "--actors", 1, "--out", out, "--calibration", fitted)
        code, text = said(*scan, "--screen", "--fdr", 0.2, "--json")
        assert code == 0
    summary = json.loads(text)
    scores = rows(out, "scores", ["caption", "stage", "p_value", "delta_s", "flagged"])
    dropped = {row["caption"] for row in scores if row["stage"] == "screen"}
    assert dropped
    assert summary["screened"] == len(dropped)
    assert {row["p_value"] for row in scores if row["caption"] in dropped} == {1.0}
    assert all((row["delta_s"] is None) == (row["caption"] in dropped) for row in scores)
    assert summary["verdict"]["captions"] == 20
    assert len(dropped & set(few)) <= 1
    code, text = said(
        "query", out, "SELECT caption FROM captions WHERE p_kind = 'screen' ORDER BY 1",
        "--format", "json",
    )  # fmt: skip
    assert {row["caption"] for row in json.loads(text)} == dropped
    assert said("verify", out, "--keys")[0] == 0
    refused = ("scan", shard, *OPTIONS, "--out", out, "--screen", "--threshold", 5)
    assert said(*refused)[0] == 2

"""From a scan without a calibration to flags and to an audit's nights, as a user types it."""

import json
import sys
from itertools import product

import pyarrow.dataset as ds
import pytest
from test_fdr import OPTIONS, is_memorized, memscan, rows, write

from scanner import cli
from scanner.statistics.calibration import load

SYLLABLES = ("ba", "de", "fi", "go", "hu", "ka", "le", "mi")


def unlike(number: int, *, memorized: bool) -> list[str]:
    """Return captions of which no two share a word."""
    words = ["".join(parts) for parts in product(SYLLABLES, repeat=5)]
    wanted = (text for n in range(0, len(words) - 1, 2)
              if is_memorized(text := f"{words[n]} {words[n + 1]}") is memorized)  # fmt: skip
    return [next(wanted) for _ in range(number)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return write(folder / "a.tar", unlike(2, memorized=True) + unlike(58, memorized=False))


def first(monkeypatch, capsys, corpus, out, *more):
    code, _ = memscan(monkeypatch, capsys, "scan", corpus, *OPTIONS, "--local", "--out", out, *more)
    assert code == 0


def test_a_scan_calibrates_itself_and_judges_its_own_captions(
    tmp_path, monkeypatch, capsys, corpus
):
    out, file = tmp_path / "results", tmp_path / "calibration.json"
    first(monkeypatch, capsys, corpus, out, "--localize", "none")
    code, said = memscan(monkeypatch, capsys, "recalibrate", out, "-c", 0.05, "--out", file)
    assert code == 0
    assert "60 captions, 60 families of near-identical ones" in said
    assert "nulls: corpus, contamination <= 5%" in said
    assert "masks have no floor" in said
    assert "false-positive rate 0.01: needs at least 99 null captions; these are 57" in said
    made = load(file)
    assert len(made.null_scores) == 57

    code, said = memscan(
        monkeypatch, capsys, "scan", corpus, *OPTIONS, "--local", "--out", out, "--calibration",
        file, "--fpr", 0.06, "--json",
    )  # fmt: skip
    assert code == 0
    summary = json.loads(said)
    assert summary["recalled"] >= 56  # only what is flagged is sampled again
    scores = {row["caption_sha256"]: row for row in rows(
        out, f"scores/run={summary['run']}", ["caption_sha256", "p_value", "flagged"])}  # fmt: skip
    flagged = [row["p_value"] for row in scores.values() if row["flagged"]]
    # At most the nominal share; the highest score of all is not above itself.
    assert 0 < len(flagged) <= 0.06 * 60
    assert min(flagged) == 2 / 58
    masks = ds.dataset(out / f"masks/run={summary['run']}", format="parquet").to_table().to_pylist()
    assert masks
    assert all(row["threshold"] is not None and row["area"] > 0 for row in masks)


def test_an_audit_says_which_nulls_judged_and_earlier_nights_stay(
    tmp_path, monkeypatch, capsys, corpus
):
    state, file = tmp_path / "state", tmp_path / "calibration.json"
    asked = ("audit", corpus, *OPTIONS, "--local", "--state", state, "--no-copies")
    code, _ = memscan(monkeypatch, capsys, *asked, "--threshold", 1e9)
    assert code == 0
    before = {path: path.read_bytes() for path in (state / "audits").rglob("*") if path.is_file()}
    code, _ = memscan(monkeypatch, capsys, "recalibrate", state, "-c", 0.05, "--out", file)
    assert code == 0
    code, said = memscan(
        monkeypatch, capsys, *asked, "--calibration", file, "--fpr", 0.06, "--json"
    )
    assert code == 1
    night = json.loads(said)
    assert night["nulls"] == "corpus, contamination <= 5%"
    assert night["identity"]["calibration"] == load(file).fingerprint()
    folder = state / "audits" / night["name"]
    assert "nulls: `corpus, contamination ‹= 5%`" in (folder / "summary.md").read_text()
    assert "nulls: corpus, contamination &lt;= 5%" in (folder / "report.html").read_text()
    assert all(path.read_bytes() == content for path, content in before.items())
    earlier = json.loads((sorted((state / "audits").iterdir())[0] / "audit.json").read_text())
    assert (earlier["nulls"], earlier["identity"]["calibration"]) == ("", "")


def test_a_false_discovery_rate_over_that_corpus_is_said_to_flag_nothing(
    tmp_path, monkeypatch, capsys, corpus
):
    out, file = tmp_path / "results", tmp_path / "calibration.json"
    first(monkeypatch, capsys, corpus, out, "--localize", "none")
    memscan(monkeypatch, capsys, "recalibrate", out, "-c", 0.05, "--out", file)
    words = ("plan", corpus, *OPTIONS, "--local", "--calibration", file, "--fdr", 0.5, "--rate", 9)
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    told = capsys.readouterr().err
    assert "nulls: corpus, contamination <= 5%; a false-discovery rate flags nothing in" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("results", "-c", 0.5), "contamination must be in 0..0.25"),
        (("nowhere", "-c", 0.01), "no results in"),
    ],
    ids=["share", "results"],
)
def test_what_cannot_be_done_is_refused_in_a_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.setattr(
        sys, "argv", ["memscan", "recalibrate", str(tmp_path / words[0]), *map(str, words[1:]),
                      "--out", str(tmp_path / "c.json")],
    )  # fmt: skip
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()

"""What `calibrate` says that a user can rely on, and what `scan` says before it starts."""

import sys
from dataclasses import replace
from typing import Any

import pytest
from test_fdr import OPTIONS, captions, memscan, write

from scanner import models
from scanner.cli import error_rates, reports
from scanner.errors import ConfigError
from scanner.report import particulars
from scanner.report.page import PageOptions
from scanner.results.run_file import RunFile
from scanner.spec import ScanSpec
from scanner.statistics import calibration
from scanner.statistics.calibration import Calibration, Screen, SnapBack

SPEC = ScanSpec(seeds=(0, 1), steps=2, probes=1)


def made(number: int, **more: Any) -> Calibration:
    scores = tuple(map(float, range(number)))
    return Calibration(
        models.fingerprint("gaussian"), SPEC.score_fingerprint(), scores, {}, 0.01, number, "today",
        **more,
    )  # fmt: skip


def test_rates_that_null_captions_support_have_an_interval_and_others_say_what_they_need():
    found = error_rates.lines(made(200, families=200))
    assert found[0].startswith("p-values are 0.005 or more, 1 / (n + 1) for 200 null captions")
    assert "only for captions of the same kinds in the same shares" in found[0]
    assert found[1] == "200 null captions, 200 families: no two are near-identical"
    assert found[3] == (
        "false-positive rate 0.01: Δs > 198; this calibration's own rate is between 0.12% and "
        "2.75% (95%)"
    )
    assert found[5] == (
        "false-positive rate 0.0001: needs at least 9,999 null captions; these are 200"
    )
    assert "guaranteed" not in " ".join(found)


def test_families_are_warned_of_and_named_where_one_of_each_is_kept():
    found = error_rates.lines(made(200, families=20))
    assert found[1].startswith("warning: 200 null captions, but 20 families of near-identical ones")
    assert "count 20: no rate below 0.048 is supported" in found[1]
    assert found[3].endswith("(95%, for captions of the same families)")
    kept = error_rates.lines(replace(made(20, families=20), captions=200))
    assert kept[1] == "200 null captions, 20 families of near-identical ones: one of each is kept"
    assert kept[3].endswith("needs at least 99 null captions; these are 20")
    assert not any("families" in line for line in error_rates.lines(made(200)))


def test_images_have_the_upper_end_alone():
    """Either test may be what clears an image, so no rate is its least."""
    nulls = tuple(map(float, range(150)))
    found = error_rates.lines(made(200, snap_back=SnapBack(nulls)))
    assert (
        "Δs > 198 and snap-back > 149 bits; this calibration's own rate is 2.43% at most"
        in (found[2])
    )


@pytest.mark.parametrize(
    ("screen", "said"),
    [
        (Screen(2.0, 0.95, 19, 0.25, 0, 19), ["keeps 0.95 of", "at least 0.854", "needs 59 pos"]),
        (Screen(2.0, 0.95, 59, 0.25, 0, 59), ["keeps 0.983 of", "at least 0.95 with"]),
        (Screen(2.0, 0.95, 59, 0.25, 0, 7), ["at least 0.95", "warning: the positives are 7 fam"]),
    ],
)
def test_a_screens_recall_is_said_on_average_and_with_confidence(screen, said):
    text = "\n".join(error_rates.lines(made(99, screen=screen)))
    assert all(one in text for one in said)
    assert ("needs 59" in text) is ("needs 59 pos" in said)
    assert ("warning" in text) is (screen.families == 7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fpr", "0.0001"), "--fpr 0.0001 needs at least 9,999 null captions; these are 30"),
        (("--fdr", "0.02"), "--fdr 0.02 needs at least 49 null captions; these are 30"),
    ],
)
@pytest.mark.parametrize("command", ["scan", "plan"])
def test_a_rate_at_which_nothing_can_be_flagged_is_refused(
    tmp_path, monkeypatch, capsys, command, options, said
):
    shard = write(tmp_path / "a.tar", captions("plain", 4, memorized=False))
    made(30).save(path := tmp_path / "calibration.json")
    words = (command, shard, *OPTIONS, "--calibration", path, "--out", tmp_path / "out")
    code, _ = memscan(monkeypatch, capsys, *words, *options)
    assert code == 2
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        error_rates.check([path], float(options[1]), options[0], is_asked=True, decides=True)


def test_the_command_line_reads_a_calibration_once_for_rate_and_screen(
    tmp_path, monkeypatch, capsys
):
    shard = write(tmp_path / "a.tar", captions("plain", 4, memorized=False))
    made(200, screen=Screen(2.0, 0.95, 59, 0.25, 0, 59)).save(path := tmp_path / "calibration.json")
    read, load = [], calibration.load

    def counted(file):
        read.append(sys._getframe(1).f_globals["__name__"])
        return load(file)

    monkeypatch.setattr(calibration, "load", counted)
    words = ("plan", shard, *OPTIONS, "--calibration", path, "--screen", "--rate", 100)
    code, _ = memscan(monkeypatch, capsys, *words)
    assert code == 0
    assert [name for name in read if name.startswith("scanner.cli")] == ["scanner.cli.error_rates"]


def test_the_default_rate_is_only_warned_of_but_an_audit_must_flag(tmp_path, monkeypatch, capsys):
    shard = write(tmp_path / "a.tar", captions("plain", 4, memorized=False))
    made(30).save(path := tmp_path / "calibration.json")
    words = (shard, *OPTIONS, "--calibration", path)
    code, _ = memscan(monkeypatch, capsys, "plan", *words, "--rate", 100)
    assert code == 0
    code, _ = memscan(monkeypatch, capsys, "audit", *words, "--state", tmp_path / "state")
    assert code == 2


def test_what_is_said_before_a_scan(tmp_path, capsys):
    made(30).save(path := tmp_path / "calibration.json")

    def said(rate: float, *, is_asked: bool = False, decides: bool = True) -> str:
        error_rates.check([path], rate, "--fpr", is_asked=is_asked, decides=decides)
        return " ".join(capsys.readouterr().err.split())

    assert "these are 30" in said(0.01)
    assert "nothing can be flagged; calibrate with more, or give --fpr 0.033 or more" in said(0.01)
    assert said(0.033, is_asked=True) == ""
    assert said(0.01, is_asked=True, decides=False) == ""
    made(200, families=20).save(path)
    assert "--fpr 0.01 needs at least 99 families of null captions" in said(0.01, is_asked=True)
    assert "has 20: for captions of other families the rate may be higher" in said(0.01)
    assert said(0.05) == ""
    made(200, tail_fingerprint="123456789abc").save(path)
    assert said(0.05).count("its tail model is ignored") == 1


def test_a_report_on_a_run_under_a_tail_takes_its_calibration_and_says_what_is_wrong(tmp_path):
    old, path = made(200, tail_fingerprint="123456789abc"), tmp_path / "calibration.json"
    old.save(path)

    def record(named: str, **config: str) -> RunFile:
        return RunFile.of({"identity": {"calibration": named}, "config": config})

    tailed = record("123456789abc", calibration=str(path))
    assert reports._calibration(tailed, path) == reports._calibration(tailed, None) == old
    options = PageOptions(calibration=old)
    said = particulars._calibration(tailed.identity, options)
    assert "p-values are 0.005 or more; smaller ones are of a tail model" in said
    untailed = record(old.fingerprint())
    assert reports._calibration(untailed, path) == old
    assert "tail" not in particulars._calibration(untailed.identity, options)
    with pytest.raises(ConfigError, match=r"must be the calibration of the run \(other\)"):
        reports._calibration(record("other"), path)

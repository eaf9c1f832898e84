"""Any score can flag: a detector, or Δs against a baseline, with null scores of its own."""

from dataclasses import replace
from types import MappingProxyType

import pytest

from scanner import calibrate, load_model, score
from scanner.errors import ConfigError
from scanner.models.gaussian import Gaussian
from scanner.records import Caption
from scanner.scan.flag_score import flag_score
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration, NullScores

SPEC = ScanSpec(steps=4, probes=4, seeds=(0, 1), store_image=False, fpr=0.2)
CAPTIONS = [Caption("s", f"k{n}", f"a caption, number {n}") for n in range(12)]


class Shifted(Gaussian):
    """A baseline that differs from the model by a caption's length."""

    def score(self, x, level, condition):
        return (
            super().score(x, level, condition) + condition.flatten(1).mean(1)[:, None, None, None]
        )


def scores_of(spec, name, baselines=MappingProxyType({})):
    rows = Scanner(Gaussian(), spec, baselines=baselines).scan(CAPTIONS).scores
    return {(row.caption.key, row.seed): row.extra[name] for row in rows}


def calibration(name, means, by_seed):
    own = NullScores(tuple(sorted(means)), {s: tuple(sorted(v)) for s, v in by_seed.items()})
    return Calibration("m", "s", (0.0,) * 9, {}, 0.01, 9, "", others={name: own})


@pytest.mark.parametrize("name", ["wen", "wen_first"])
def test_a_detector_flags_what_lies_above_its_nulls(name):
    spec = replace(SPEC, flag_by=name, localize="none")
    assert spec.detectors == (name,)
    known = scores_of(spec, name)
    mean = {key: (known[key, 0] + known[key, 1]) / 2 for key, _ in known}
    nulls = sorted(mean.values())[:9]
    seeds = {seed: [known[c.key, seed] for c in CAPTIONS[:9]] for seed in (0, 1)}
    null = calibration(name, nulls, seeds)
    rows = Scanner(Gaussian(), spec, calibration=null).scan(CAPTIONS).scores
    for row in rows:
        above = sum(value >= mean[row.caption.key] for value in nulls)
        assert row.p_value == pytest.approx((1 + above) / 10)
        assert row.flagged == (row.p_value <= 0.2)
        own = sum(value >= row.extra[name] for value in seeds[row.seed])
        assert row.seed_p_value == pytest.approx((1 + own) / 10)
    assert {row.flagged for row in rows} == {True, False}


def test_a_low_score_flags_where_low_is_suspicious(monkeypatch):
    monkeypatch.setattr("scanner.methods.registry.low_is_suspicious", lambda name: name == "wen")
    spec = replace(SPEC, flag_by="wen", localize="none")
    known = scores_of(spec, "wen")
    mean = {key: (known[key, 0] + known[key, 1]) / 2 for key, _ in known}
    middle = sorted(mean.values())[6]
    rows = Scanner(Gaussian(), replace(spec, threshold=middle)).scan(CAPTIONS).scores
    assert {row.caption.key for row in rows if row.flagged} == {
        key for key, value in mean.items() if value < middle
    }
    assert flag_score(spec, 1.0, {"wen": 3.0}, None) == -3.0


def test_a_baselines_delta_s_flags_before_anything_is_localized():
    baselines = {"early": Shifted()}
    spec = replace(SPEC, flag_by="delta_s_early", localize="none")
    known = scores_of(spec, "delta_s_early", baselines)
    whole = scores_of(replace(SPEC, localize="all"), "delta_s_early", baselines)
    assert known == pytest.approx(whole, rel=1e-5)
    threshold = sorted(known.values())[len(known) // 2]
    asked = replace(spec, threshold=threshold, localize="flagged")
    scanner = Scanner(Gaussian(), asked, baselines=baselines)
    rows = scanner.scan(CAPTIONS).scores
    flagged = {row.caption.key for row in rows if row.flagged}
    means = {c.key: (known[c.key, 0] + known[c.key, 1]) / 2 for c in CAPTIONS}
    assert flagged == {key for key, value in means.items() if value > threshold}
    assert {row.caption.key for row in rows if row.stage == "localize"} == flagged
    assert all("delta_s_early" in row.extra for row in rows)


def test_what_cannot_flag_is_refused():
    with pytest.raises(ConfigError, match="is of localized captions alone"):
        replace(SPEC, flag_by="flipd", localize="all")
    with pytest.raises(ConfigError, match="flag_by must be delta_s, delta_s_NAME of"):
        replace(SPEC, flag_by="nonsense")
    with pytest.raises(ConfigError, match=r"must be of one of the scan's baselines \(none: give"):
        Scanner(Gaussian(), replace(SPEC, flag_by="delta_s_early"))
    with pytest.raises(ConfigError, match="no null scores of wen, by which is to be flagged"):
        Scanner(
            Gaussian(), replace(SPEC, flag_by="wen"),
            calibration=Calibration("m", "s", (0.0, 1.0), {}, 0.01, 2, ""),
        )  # fmt: skip


def test_runs_that_flag_by_delta_s_keep_their_names():
    assert replace(SPEC, flag_by="delta_s").fingerprint() == SPEC.fingerprint()
    assert (
        replace(SPEC, flag_by="wen").fingerprint()
        != replace(SPEC, detectors=("wen",)).fingerprint()
    )
    assert replace(SPEC, flag_by="wen").score_fingerprint() == SPEC.score_fingerprint()


def test_a_calibration_keeps_nulls_of_what_was_asked_for_and_scores_flag_by_them(tmp_path):
    model = load_model("gaussian")
    null = [f"a caption that is not memorized, number {n}" for n in range(19)]
    settings = {"steps": 5, "probes": 4, "seeds": 2}
    plain = calibrate(model, null, **settings)
    fitted = calibrate(model, null, detectors=["wen_5"], flag_by="wen", **settings)
    assert plain.others == {}
    assert set(fitted.others) == {"wen", "wen_5"}
    assert fitted.null_scores == plain.null_scores
    fitted.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == fitted
    assert replace(fitted, others={}).fingerprint() == plain.fingerprint() != fitted.fingerprint()
    texts = [*null, *(str(n) for n in range(10))]
    found = score(model, texts, calibration=fitted, flag_by="wen", localize="flagged")
    nulls = fitted.others["wen"].null_scores
    for each in found:
        mean = each.scores["wen"].mean()  # of another batch: a caption of the nulls, but rounded
        least, most = (sum(v >= mean * off for v in nulls) for off in (1 + 1e-5, 1 - 1e-5))
        assert (1 + least) / 20 <= each.p_value <= (1 + most) / 20
    with pytest.raises(ConfigError, match="calibrate with --flag-by wen"):
        score(model, "a", calibration=plain, flag_by="wen")

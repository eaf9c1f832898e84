"""A consensus: the least of several standardized scores, with null scores of its own."""

import math
from dataclasses import replace
from statistics import median

import pytest

from scanner import calibrate, load_model, open_results, scan_shards, score
from scanner.errors import ConfigError
from scanner.models.gaussian import Gaussian
from scanner.scan.scanner import Scanner
from scanner.spec import CONSENSUS, CONSENSUS_OF, ScanSpec
from scanner.statistics.calibration import Calibration
from scanner.statistics.consensus import Consensus

SETTINGS = {"steps": 5, "probes": 4, "seeds": 2}
NULLS = [f"a caption that is not memorized, number {n}" for n in range(29)]


@pytest.fixture(scope="module")
def model():
    return load_model("gaussian")


@pytest.fixture(scope="module")
def fitted(model):
    return calibrate(model, NULLS, flag_by=CONSENSUS, **SETTINGS)


def test_scales_are_medians_of_logarithms():
    values = [math.exp(n) for n in (0, 1, 2, 10, 12)]
    found = Consensus.of(dict.fromkeys(CONSENSUS_OF, values))
    assert found.middles == pytest.approx((2, 2, 2))
    assert found.deviations == pytest.approx((2, 2, 2))
    alike = dict.fromkeys(CONSENSUS_OF, math.exp(6))
    assert found.least(alike) == pytest.approx(2)
    assert found.least(alike | {"wen": math.exp(2)}) == pytest.approx(0)


def test_a_high_score_alone_is_no_consensus():
    scales = Consensus((0.0,) * 3, (1.0,) * 3)
    low = {"delta_s": math.exp(9), "wen": math.exp(9), "wen_5": 1.0}
    assert scales.least(low) == 0
    assert scales.least(low | {"delta_s": 0.0}) < -20


@pytest.mark.parametrize(
    ("middles", "deviations", "said"),
    [
        ((0.0,), (1.0,), "a scale of each of delta_s, wen, wen_5"),
        ((0.0,) * 3, (1.0, 0.0, 1.0), "finite and positive"),
        ((math.nan,) * 3, (1.0,) * 3, "finite and positive"),
    ],
)
def test_what_cannot_be_scales_is_refused(middles, deviations, said):
    with pytest.raises(ConfigError, match=said):
        Consensus(middles, deviations)


def test_scores_without_spread_have_no_scale():
    with pytest.raises(ConfigError, match="delta_s is the same for most of the null captions"):
        Consensus.of(dict.fromkeys(CONSENSUS_OF, [1.0] * 9))


def test_a_calibration_keeps_scales_and_its_own_null_scores(model, fitted, tmp_path):
    plain = calibrate(model, NULLS, **SETTINGS)
    assert set(fitted.others) == {"wen", "wen_5", CONSENSUS}
    assert fitted.null_scores == plain.null_scores
    logs = [math.log(value) for value in fitted.others["wen"].null_scores]
    assert fitted.consensus.middles[CONSENSUS_OF.index("wen")] == pytest.approx(median(logs))
    assert len(fitted.others[CONSENSUS].null_scores) == len(NULLS)
    assert set(fitted.others[CONSENSUS].seed_scores) == {0, 1}
    fitted.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == fitted
    less = replace(fitted, others={}, consensus=None)
    assert less.fingerprint() == plain.fingerprint() != fitted.fingerprint()


def test_a_caption_is_flagged_by_the_least_of_its_scores(model, fitted):
    texts = [*NULLS[:5], *(f"{n} other things" for n in range(10))]
    found = score(model, texts, calibration=fitted, flag_by=CONSENSUS, localize="none")
    nulls = fitted.others[CONSENSUS].null_scores
    for each in found:
        own = [
            fitted.consensus.least(
                {"delta_s": delta_s} | {name: each.scores[name][seed] for name in ("wen", "wen_5")}
            )
            for seed, delta_s in enumerate(each.scores["delta_s"])
        ]
        assert each.scores[CONSENSUS] == pytest.approx(own)
        least, most = (sum(value >= sum(own) / 2 + off for value in nulls) for off in (1e-4, -1e-4))
        assert (1 + least) / 30 <= each.p_value <= (1 + most) / 30


def test_scores_of_an_earlier_scan_are_compared_with_this_calibration(model, fitted, tmp_path):
    fitted.save(tmp_path / "a.json")
    other = calibrate(model, [f"{n} of another kind" for n in range(19)], flag_by=CONSENSUS,
                      **SETTINGS)  # fmt: skip
    other.save(tmp_path / "b.json")
    shard = tmp_path / "captions.csv"
    shard.write_text("caption\na thing\nanother thing\n")
    asked = {"flag_by": CONSENSUS, "localize": "none", "progress": False}
    for name, own in (("a", fitted), ("b", other)):
        calibration = tmp_path / f"{name}.json"
        done = scan_shards(
            [str(shard)], "gaussian", tmp_path / "r", calibration=calibration, **asked
        )  # fmt: skip
        rows = open_results(tmp_path / "r").arrow("scores", done.run).to_pylist()
        assert len(rows) == 4
        for row in rows:
            own_scores = {key: row[key] for key in CONSENSUS_OF}
            assert row[CONSENSUS] == pytest.approx(own.consensus.least(own_scores), rel=1e-5)


def test_a_consensus_needs_a_calibration_that_has_one(model, fitted):
    spec = ScanSpec(steps=5, flag_by=CONSENSUS)
    assert set(spec.detectors) == {"wen", "wen_5"}
    with pytest.raises(ConfigError, match="made with flag-by consensus"):
        Scanner(Gaussian(), spec)
    plain = calibrate(model, NULLS, **SETTINGS)
    with pytest.raises(ConfigError, match="calibrate with --flag-by consensus"):
        score(model, "a", calibration=plain, flag_by=CONSENSUS)


def test_images_and_few_steps_have_no_consensus():
    with pytest.raises(ConfigError, match="wen_5 needs at least 5 steps"):
        ScanSpec(steps=4, flag_by=CONSENSUS)
    with pytest.raises(ConfigError, match="wen"):
        ScanSpec(source="image", flag_by=CONSENSUS)


def test_p_values_by_kind_are_asked_for_in_python_too(model, fitted):
    found = score(
        model, NULLS[:3], calibration=fitted, flag_by=CONSENSUS, p_values="kind", localize="none"
    )
    assert all(each.p_value >= 1 / 30 for each in found)
    with pytest.raises(ConfigError, match="p_values must be one of all, kind"):
        score(model, "a", calibration=fitted, p_values="some")

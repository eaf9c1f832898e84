"""Null scores from a corpus: what is promised holds for every rank and every contamination."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import combinations_with_replacement

import numpy as np
import pytest

from scanner.errors import ConfigError
from scanner.statistics import contamination
from scanner.statistics.calibration import (
    Calibration,
    NullScores,
    SnapBack,
    benjamini_hochberg,
    load,
)
from scanner.statistics.contamination import CorpusNulls, from_corpus, most_memorized

BULK = 9


def calibration(scores) -> Calibration:
    ordered = tuple(sorted(map(float, scores)))
    return Calibration("m", "s", ordered, {}, 0.01, len(ordered), "today")


def worlds(memorized: int):
    """Every way that memorized scores can lie among those of the bulk, ties left out."""
    for gaps in combinations_with_replacement(range(BULK + 1), memorized):
        yield [gap + 0.25 + 0.1 * i for i, gap in enumerate(gaps)]


def worst_excess(allowed: int, *, trim: bool) -> tuple[float, float]:
    """Return by how much a nominal rate is exceeded at most: by a caption of the corpus, a new one.

    Ranks of exchangeable captions are uniform: a caption of the bulk is its k-th with probability
    1 / b, and a new one falls into each of the b + 1 gaps with the same.
    """
    inside, outside = -1.0, -1.0
    for memorized in range(allowed + 1):
        number = BULK + memorized
        # The share is such that so many may be memorized.
        share = float(Fraction(allowed, number))
        for others in worlds(memorized):
            bulk = [n + 1.0 for n in range(BULK)]
            c = from_corpus(calibration(bulk + others), share, run="r", trim=trim)
            assert c.corpus is not None
            assert c.corpus.left_out == allowed
            for among, values in ((True, bulk), (False, [n + 0.999 for n in range(BULK + 1)])):
                p = np.array([c.p_value(x) for x in values])
                excess = max((p <= a).mean() - a for a in p if a < 2 / 3)
                inside, outside = (
                    (max(inside, excess), outside) if among else (inside, max(outside, excess))
                )
    return inside, outside


@pytest.mark.parametrize("allowed", [0, 1, 2, 3])
def test_no_rate_is_exceeded_wherever_memorized_scores_lie(allowed, monkeypatch):
    monkeypatch.setattr(contamination, "MOST_CONTAMINATION", 0.5)
    inside, outside = worst_excess(allowed, trim=False)
    assert inside <= 1e-9
    assert outside <= 1e-9


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_trimmed_rates_are_exceeded_by_what_is_stated_and_by_no_more(allowed, monkeypatch):
    monkeypatch.setattr(contamination, "MOST_CONTAMINATION", 0.5)
    inside, outside = worst_excess(allowed, trim=True)
    most = allowed / (BULK - allowed + 1)  # of the corpus without a memorized caption
    assert inside <= most + 1e-9
    assert outside <= most + 1e-9
    assert outside > 0.5 * most


def test_a_smaller_p_value_would_exceed_the_rate():
    """The least that a p-value could be lowered by, one score fewer counted, is too much."""
    c = from_corpus(calibration(range(99)), 0.01, run="r")
    p = np.array([c.p_value(n + 0.5) - 1 / 100 for n in range(-1, 99)])
    assert (p <= 0.05 + 1e-12).mean() > 0.05


def test_what_is_left_out_is_left_out_of_every_score():
    nulls = tuple(map(float, range(200)))
    own = NullScores(nulls, {0: nulls, 1: nulls})
    c = replace(
        calibration(nulls), seed_scores=own.seed_scores, snap_back=SnapBack(nulls),
        others={"wen": own},
    )  # fmt: skip
    low, high = from_corpus(c, 0.05, run="r"), from_corpus(c, 0.05, run="r", trim=True)
    for found, kept in ((low, nulls[10:]), (high, nulls[:-10])):
        assert found.null_scores == found.others["wen"].null_scores == kept
        assert found.seed_scores == found.others["wen"].seed_scores == {0: kept, 1: kept}
        assert found.snap_back == SnapBack(kept)
    # Above what is left out, all scores are counted.
    assert low.p_value(195.0) == (1 + 5) / (200 - 10 + 1)
    assert low.p_value(3.0) == 1
    assert high.p_value(1e9) == high.min_p == 1 / 191


def test_over_the_corpus_itself_no_false_discovery_rate_flags_anything():
    scores = np.concatenate([np.random.default_rng(1).exponential(size=190), 50 + np.arange(10.0)])
    c = from_corpus(calibration(scores), 0.05, run="r")
    p = np.array([c.p_value(x) for x in scores])
    assert benjamini_hochberg(p, 0.5) == -1
    # Without the ten, found by evidence of another kind, it does, and few besides.
    rest = from_corpus(calibration(scores[:190]), 0.05, run="r", copies=10)
    p = np.array([rest.p_value(x) for x in scores])
    for q in (0.15, 0.3, 0.5):
        flagged = p <= benjamini_hochberg(p, q)
        assert flagged[190:].all()
        assert flagged[:190].sum() < q * flagged.sum()
    assert (p <= benjamini_hochberg(p, 0.5))[:190].any()


def test_the_label_is_in_the_file_and_the_run_in_no_fingerprint(tmp_path):
    plain = calibration(range(100))
    c = from_corpus(plain, 0.01, run="first", copies=3)
    assert c.nulls == "corpus, contamination <= 1%, without 3 copies"
    c.save(tmp_path / "c.json")
    assert load(tmp_path / "c.json") == c
    assert json.loads((tmp_path / "c.json").read_text())["nulls"] == c.nulls
    again = from_corpus(plain, 0.01, run="second", copies=3)
    assert again.fingerprint() == c.fingerprint()
    zero = from_corpus(plain, 0.0, run="first")
    assert zero.null_scores == plain.null_scores
    assert zero.fingerprint() != plain.fingerprint() == replace(plain, corpus=None).fingerprint()
    plain.save(tmp_path / "plain.json")
    assert "nulls" not in json.loads((tmp_path / "plain.json").read_text())
    assert (plain.nulls, plain.has_floor, c.has_floor) == ("", True, False)


@pytest.mark.parametrize(
    "wrong", [{"contamination": 0.3}, {"left_out": 100}, {"left_out": -1}], ids=str
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, wrong):
    path = tmp_path / "c.json"
    from_corpus(calibration(range(100)), 0.01, run="r").save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"corpus": content["corpus"] | wrong}))
    with pytest.raises(ConfigError, match="is not a calibration"):
        load(path)


@pytest.mark.parametrize("share", [-0.01, 0.26, float("nan")])
def test_a_share_that_bounds_nothing_is_refused(share):
    with pytest.raises(ConfigError, match=r"contamination must be in 0\.\.0\.25"):
        from_corpus(calibration(range(100)), share, run="r")


def test_one_corpus_own_rate_is_as_often_below_its_bound_as_is_said():
    """Nothing is memorized: the worst case of the trimmed form, and near it of the other."""
    rng = np.random.default_rng(3)
    for trim in (False, True):
        own, bound = list[float](), 0.0
        for _ in range(400):
            c = from_corpus(calibration(rng.random(500)), 0.02, run="r", trim=trim)
            assert c.corpus is not None
            bound = contamination.realized(c.corpus, 0.05) or 0.0
            own.append(1 - c.threshold(0.05))
        assert np.mean(np.array(own) <= bound) >= 0.96
        assert max(own) > 0.75 * bound


def test_words_say_what_holds():
    usual, trimmed = (
        CorpusNulls(0.01, "r", 5000, 50),
        CorpusNulls(0.01, "r", 5000, 50, trimmed=True),
    )
    said = contamination.lines(usual)
    assert said[0] == "nulls: corpus, contamination <= 1%; run r"
    assert "if at most 50 of 5,000 captions are memorized" in said[1]
    assert "--fdr flags none" in said[2]
    assert "needs the copies" in contamination.lines(replace(usual, copies=4))[2]
    assert "up to 0.0101 higher" in contamination.lines(trimmed)[1]
    assert contamination.promise(usual, 0.01).at_most == 0.01
    assert contamination.promise(trimmed, 0.01).at_most == pytest.approx(0.01 + 50 / 4951)
    assert contamination.realized(usual, 0.0001) is None
    assert most_memorized(0.01, 99) == 0

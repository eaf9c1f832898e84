import math

import numpy as np
import pytest

from scanner.analysis.detection import detection_row, family_weights, ranking, tpr_name

RNG = np.random.default_rng(1)


def pairs_auc(scores, positive):
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[positive] for n in scores[~positive]
    ]  # fmt: skip
    return np.mean(wins)


def brute_tpr(scores, positive, rate):
    best = (0.0, 0.0)
    for threshold in scores:
        fpr = np.mean(scores[~positive] >= threshold)
        if fpr <= rate:
            best = max(best, (np.mean(scores[positive] >= threshold), fpr))
    return best


def brute_ap(scores, positive):
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        now = (chosen & positive).sum() / positive.sum()
        total += (now - recall) * (chosen & positive).sum() / chosen.sum()
        recall = now
    return total


@pytest.mark.parametrize("levels", [3, 20, 10**6])
@pytest.mark.parametrize("number", [5, 300])
def test_the_measures_are_those_of_all_pairs_and_all_thresholds(levels, number) -> None:
    positive = RNG.random(number) < 0.3
    positive[:2] = True, False
    scores = RNG.integers(0, levels, number) + 0.3 * levels * positive
    found = ranking(scores, positive, np.ones((1, number)))
    assert found.auc[0] == pytest.approx(pairs_auc(scores, positive), abs=1e-12)
    assert found.precision[0] == pytest.approx(brute_ap(scores, positive), abs=1e-12)
    for name, rate in (("1%", 0.01), ("0.1%", 0.001)):
        reached = brute_tpr(scores, positive, rate)
        assert (found.tpr[name][0], found.fpr[name][0]) == pytest.approx(reached)


def test_the_rate_itself_is_still_within_the_rate() -> None:
    scores = np.array([3.0, 2.0] + [1.0] * 99)
    positive = np.array([False, True] + [False] * 99)
    found = ranking(scores, positive, np.ones((1, 101)))
    assert (found.tpr["1%"][0], found.fpr["1%"][0]) == (1.0, 0.01)
    assert found.tpr["0.1%"][0] == 0.0


def test_a_weight_is_a_repetition() -> None:
    scores, positive = RNG.integers(0, 6, 40).astype(float), RNG.random(40) < 0.5
    times = RNG.integers(0, 4, 40)
    weighted = ranking(scores, positive, times[None].astype(float))
    repeated = ranking(
        np.repeat(scores, times), np.repeat(positive, times), np.ones((1, times.sum()))
    )
    assert weighted.auc == pytest.approx(repeated.auc)
    assert weighted.precision == pytest.approx(repeated.precision)
    assert weighted.tpr["1%"] == pytest.approx(repeated.tpr["1%"])


def test_families_are_drawn_whole_and_groups_keep_their_size() -> None:
    families = np.array(list("aabbbcddee"))
    positive = np.array([True] * 5 + [False] * 5)
    weights = family_weights(families, positive, 50, np.random.default_rng(0))
    for name in set(families):
        members = weights[:, families == name]
        assert (members == members[:, :1]).all()
    assert (weights[:, [0, 2]].sum(1) == 2).all()
    assert (weights[:, [5, 6, 8]].sum(1) == 3).all()


def test_an_interval_of_few_families_is_wider_than_of_many() -> None:
    scores = np.concatenate([np.repeat(RNG.normal(1, 1, 8), 10), RNG.normal(0, 1, 80)])
    positive = np.arange(160) < 80
    alone = np.arange(160).astype(str)
    grouped = np.where(positive, (np.arange(160) // 10).astype(str), alone)
    widths = [
        np.diff(detection_row(scores, positive, f, 300, np.random.default_rng(0))["auc_interval"])
        for f in (alone, grouped)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_an_interval_does_not_depend_on_how_many_draws_fit_at_once(monkeypatch) -> None:
    positive = np.arange(30) < 10
    args = (RNG.normal(size=30), positive, np.arange(30).astype(str), 40)
    first = detection_row(*args, np.random.default_rng(0))
    again = detection_row(*args, np.random.default_rng(0))
    assert first == again


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("kind", [True, False])
def test_without_both_kinds_there_is_no_measure(number, kind) -> None:
    positive = np.full(number, kind)
    families = np.arange(number).astype(str)
    row = detection_row(np.arange(number) + 0.0, positive, families, 10, np.random.default_rng(0))
    assert all(math.isnan(row[name]) for name in ("auc", "ap", "tpr@1%", "fpr@1%"))
    assert all(map(math.isnan, row["auc_interval"]))


@pytest.mark.parametrize("is_right", [True, False])
def test_where_nothing_is_wrong_the_interval_says_of_how_many_families(is_right) -> None:
    """Resampling has no width there; 20 families of positives and 30 of negatives do."""
    positive = np.arange(100) < 40
    families = np.concatenate([np.arange(40) // 2, 100 + np.arange(60) // 2]).astype(str)
    scores = np.where(positive == is_right, 1.0, 0.0)
    row = detection_row(scores, positive, families, 50, np.random.default_rng(0))
    wanted = [0.025 ** (1 / 20), 1.0] if is_right else [0.0, 1 - 0.025 ** (1 / 20)]
    assert row["auc"] == float(is_right)
    assert row["auc_interval"] == pytest.approx(wanted)
    if is_right:
        assert row["tpr@1%_interval"] == row["tpr@0.1%_interval"] == pytest.approx(wanted)
        assert all(map(math.isnan, row["ap_interval"]))
    none = detection_row(scores, positive, families, 0, np.random.default_rng(0))
    assert all(map(math.isnan, none["auc_interval"]))


@pytest.mark.parametrize(
    ("rate", "negatives", "name"),
    [
        ("0.1%", 180, "TPR with no false positive among 180"),
        ("0.1%", 999, "TPR with no false positive among 999"),
        ("0.1%", 1000, "TPR at 0.1% FPR"),
        ("1%", 99, "TPR with no false positive among 99"),
        ("1%", 100, "TPR at 1% FPR"),
    ],
)
def test_a_rate_that_so_few_negatives_cannot_show_is_called_what_it_is(
    rate, negatives, name
) -> None:
    assert tpr_name(rate, negatives) == name

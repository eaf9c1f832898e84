"""P-values among null captions of a caption's kind."""

import numpy as np
import pytest

from scanner.errors import ConfigError
from scanner.statistics.calibration import Calibration
from scanner.statistics.kinds import LEAST, Kinds
from scanner.statistics.novelty import NullWords

THINGS = ("mug", "tree", "house", "boat", "cat", "shoe")


def drawn(rng, number, loud=0.25):
    """Captions, and scores: those of a plain ground score high, as their captions say."""
    plain = rng.random(number) < loud
    texts = [
        f"a {rng.choice(THINGS)} {n} on a {'plain' if p else 'busy'} ground"
        for n, p in enumerate(plain)
    ]
    return texts, plain * 3.0 + rng.normal(size=number), plain


def calibration(texts, scores):
    nulls = tuple(sorted(scores.tolist()))
    return Calibration(
        "m", "s", nulls, {}, 0.01, len(nulls), "", words=NullWords.of(texts),
        kinds={"delta_s": Kinds.of(texts, scores.tolist())},
    )  # fmt: skip


def test_kinds_follow_the_words_that_scores_follow():
    texts, scores, plain = drawn(np.random.default_rng(0), 600)
    kinds = Kinds.of(texts, scores.tolist())
    assert len(kinds) == 2
    found = np.array([kinds.kind(text) for text in texts])
    assert set(found[plain]) != set(found[~plain])
    assert len(set(found[plain])) == len(set(found[~plain])) == 1
    assert sorted(kinds.sizes) == sorted([plain.sum(), (~plain).sum()])


def test_p_values_are_among_null_scores_of_the_kind():
    texts, scores, plain = drawn(np.random.default_rng(1), 400)
    kinds, nulls = Kinds.of(texts, scores.tolist()), sorted(scores)
    for value in (-1.0, 1.5, scores[plain][0], 9.0):
        for own, text in ((scores[plain], "a mug on a plain ground"), (scores[~plain], "a mug")):
            expected = (1 + (own >= value).sum()) / (1 + len(own))
            assert kinds.p_value(nulls, value, text) == expected
    with pytest.raises(ValueError, match="not a number"):
        kinds.p_value(nulls, float("nan"), "a mug")


def test_rates_hold_within_each_kind_and_marginal_ones_do_not():
    rng = np.random.default_rng(2)
    hits = {(among, p): [0, 0] for among in ("all", "kind") for p in (True, False)}
    for _ in range(40):
        null = calibration(*drawn(rng, 400)[:2])
        for text, score, is_plain in zip(*drawn(rng, 200), strict=True):
            both = null.p_value(score), null.kind_p_value("delta_s", score, text)[0]
            for among, p in zip(("all", "kind"), both, strict=True):
                hits[among, is_plain][0] += p <= 0.1
                hits[among, is_plain][1] += 1
    rates = {name: flagged / number for name, (flagged, number) in hits.items()}
    assert rates["all", True] > 0.3
    assert rates["all", False] < 0.05
    for is_plain in (True, False):  # standard errors 0.005 and 0.003 of captions, more of nulls
        assert abs(rates["kind", is_plain] - 0.1) < 0.02


@pytest.mark.parametrize("seed", [0, 1])
def test_where_scores_do_not_depend_on_words_there_is_mostly_one_kind(seed):
    rng = np.random.default_rng(seed)
    several, flagged = 0, 0
    for _ in range(60):
        texts, _, _ = drawn(rng, 300)
        scores = rng.normal(size=300)
        null = calibration(texts, scores)
        several += len(null.kinds["delta_s"]) > 1
        fresh = drawn(rng, 50)[0]
        p = [null.kind_p_value("delta_s", x, t)[0] for x, t in zip(rng.normal(size=50), fresh,
                                                                   strict=True)]  # fmt: skip
        flagged += sum(value <= 0.1 for value in p)
    assert several <= 9  # 0.05 of 60, and chance
    assert abs(flagged / 3000 - 0.1) < 0.03


def test_a_caption_unlike_all_null_captions_is_of_no_kind():
    texts, scores, _ = drawn(np.random.default_rng(3), 200)
    null = calibration(texts, scores)
    assert null.kind_p_value("delta_s", 99.0, "strange words altogether") == (1.0, "unlike")
    p, kind = null.kind_p_value("delta_s", 99.0, texts[0])
    assert (p < 0.03, kind) == (True, "kind")


def test_a_kind_of_few_null_captions_is_kept_with_the_others():
    rng = np.random.default_rng(4)
    texts, scores, plain = drawn(rng, 300, loud=0.07)
    assert plain.sum() < LEAST
    kinds = Kinds.of(texts, scores.tolist())
    assert kinds.sizes == [300]


def test_the_order_of_null_captions_does_not_matter():
    texts, scores, _ = drawn(np.random.default_rng(5), 300)
    order = np.random.default_rng(6).permutation(300)
    again = Kinds.of([texts[i] for i in order], scores[order].tolist())
    assert again == Kinds.of(texts, scores.tolist())


@pytest.mark.parametrize("divisions", [((1, 0, -1),), ((1, -3, -1),), ((1, 1, -1),)])
def test_divisions_that_lead_nowhere_are_refused(divisions):
    with pytest.raises(ConfigError, match="leads to"):
        Kinds(divisions, "")


def test_a_null_score_of_no_kind_is_refused():
    with pytest.raises(ConfigError, match="there is not"):
        Kinds((), "AQA=")

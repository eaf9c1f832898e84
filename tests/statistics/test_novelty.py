"""How unlike the null captions a caption is, and what a run's captions say together."""

from dataclasses import replace
from math import comb, exp, lgamma

import numpy as np
import pytest

from scanner.errors import ConfigError
from scanner.statistics.novelty import (
    ALARM,
    MOST_WORDS,
    UNLIKE,
    NullWords,
    at_least,
    differ,
    word_hashes,
)
from scanner.statistics.packed import packed, unpacked

LETTERS = "abcdefghijklmnopqrst"
WORDS = [a + b for a in LETTERS for b in LETTERS]


def drawn(rng: np.random.Generator, number: int, words: list[str] = WORDS) -> list[str]:
    """Captions of Zipf-distributed words, as in a language."""
    shares = 1 / np.arange(1, len(words) + 1)
    shares /= shares.sum()
    lengths = rng.integers(4, 12, number)
    texts = {" ".join(rng.choice(words, int(n), p=shares)) for n in lengths}
    return [str(text) for text in rng.permutation(sorted(texts))]


def test_words_are_told_apart_from_nothing_else():
    assert word_hashes("A red mug, 12 cm") == word_hashes("mug red 99 a (cm)")
    assert word_hashes("a red mug") != word_hashes("a red jug")
    assert word_hashes("") == word_hashes("")
    assert len(word_hashes("")) == 1
    assert len(word_hashes(" ".join(f"word{chr(0x4E00 + n)}" for n in range(500)))) == MOST_WORDS


def test_null_captions_are_measured_without_themselves():
    rng = np.random.default_rng(0)
    captions = drawn(rng, 60)
    alone = list[float]()
    for text in captions:
        others = [set(word_hashes(other)) for other in captions if other != text]
        own = [sum(word in other for other in others) for word in word_hashes(text)]
        alone.append(-1e6 * float(np.mean(np.log1p(own))))
    found = unpacked(NullWords.of(captions).surprises, "<i4", "surprises")
    assert found == pytest.approx(sorted(alone), abs=1)


def test_captions_that_are_all_alike_are_neither_new_nor_usual():
    """Of equal captions every rank is as likely: a scanned one is not more usual than them."""
    words = NullWords.of([f"a red mug {n}" for n in range(50)])
    novelty = [words.novelty(f"a red mug {n}") for n in range(100, 600)]
    assert 0.4 < float(np.mean(novelty)) < 0.6
    assert min(novelty) < 0.05


@pytest.mark.parametrize("number", [40, 300])
def test_of_exchangeable_captions_a_share_is_unlike_and_no_more(number):
    """Over calibrations, a share a has a novelty of at most a."""
    rng = np.random.default_rng(number)
    found = list[float]()
    for _ in range(60):
        captions = drawn(rng, number + 80)
        words = NullWords.of(captions[:number])
        found += [words.novelty(text) for text in captions[number : number + 50]]
    p = np.array(found)
    for rate in (0.05, 0.2, 0.5):
        spread = (rate * (1 - rate) / 60 * (1 / 50 + 1 / number)) ** 0.5
        assert abs((p <= rate).mean() - rate) < 4 * spread


def test_captions_of_other_words_are_unlike_and_new():
    rng = np.random.default_rng(1)
    words = NullWords.of(drawn(rng, 200))
    others = drawn(rng, 50, [f"other{letter}" for letter in LETTERS])
    assert max(words.novelty(text) for text in others) <= 1 / words.captions
    assert all(words.is_new(text) for text in others)
    assert not words.is_new("aa ab")


def test_a_caption_twice_counts_once():
    assert NullWords.of(["a b", "a b", "a c"]) == NullWords.of(["a b", "a c"])


def test_no_word_stands_in_the_file():
    words = NullWords.of(["secret garden", "hidden valley"])
    assert not any(w in str(words) for w in ("secret", "garden", "hidden", "valley"))


def test_what_does_not_fit_together_is_refused():
    words = NullWords.of(["a b", "a c", "d"])
    for changed in (
        {"captions": 2}, {"counts": packed(np.array([1], "<u4"))}, {"words": "!"},
        {"surprises": packed(np.array([3, 2, 1], "<i4"))}, {"surprises": "AAA="},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            replace(words, **changed)


def beta_binomial(hits: int, number: int, a: float, b: float) -> float:
    def log_beta(x: float, y: float) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    return sum(
        comb(number, x) * exp(log_beta(x + a, number - x + b) - log_beta(a, b))
        for x in range(hits, number + 1)
    )


@pytest.mark.parametrize(("hits", "number", "rate", "nulls"), [
    (1, 1, 0.05, 99), (3, 20, 0.05, 39), (20, 20, 0.5, 9), (12, 30, 0.5, 199), (0, 5, 0.1, 9),
])  # fmt: skip
def test_hits_are_beta_binomial(hits, number, rate, nulls):
    expected = beta_binomial(hits, number, rate * (nulls + 1), (1 - rate) * (nulls + 1))
    assert at_least(hits, number, rate, nulls) == pytest.approx(expected, rel=1e-9)


def test_more_than_there_are_never_hit():
    assert at_least(6, 5, 0.1, 99) == 0


def test_exchangeable_captions_are_called_different_no_more_often_than_said():
    """Calibrations and captions drawn alike: 1% of runs, though all share one calibration each."""
    rng = np.random.default_rng(2)
    warned, runs, nulls, number = 0, 4000, 60, 400
    for _ in range(runs):
        null, new = np.sort(rng.random(nulls)), rng.random(number)
        above = nulls - np.searchsorted(null, new)
        p = (above + rng.random(number)) / (nulls + 1)
        warned += differ(int((p <= UNLIKE).sum()), int((p <= 0.5).sum()), number, nulls) <= ALARM
    assert warned / runs < ALARM + 3 * (ALARM / runs) ** 0.5


def test_too_many_unlike_or_too_many_usual_captions_differ():
    assert differ(100, 250, 500, 1000) <= ALARM
    assert differ(0, 20, 500, 1000) <= ALARM
    assert differ(20, 480, 500, 1000) <= ALARM
    assert differ(25, 250, 500, 1000) == 1

import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.statistics.families import families, near, shared_words

WORDS = ("red", "blue", "green", "mug", "tree", "lake", "old", "new", "12", "7")


def together(*captions: str) -> bool:
    return len(set(families(captions))) == 1


@pytest.mark.parametrize(
    "pair",
    [
        ("A red mug, 12 cm", "a RED mug 14 cm!"),
        ("old map of the northern sea", "old map of the southern sea"),
        ("phone case for model x in leather, black", "phone case for model x in leather, brown"),
        ("sea, northern, the of map old", "old map of the northern sea"),
        ("ﬁne ｗｉｄｅ café", "fine wide café"),
        ("赤い大きな犬が走る", "赤い大きな犬が走った"),
        ("", ""),
    ],
)
def test_captions_that_differ_in_a_word_or_in_how_they_are_written_are_a_family(pair):
    assert together(*pair)


@pytest.mark.parametrize(
    "pair",
    [
        ("a red mug", "a blue mug"),
        ("two dogs on a beach at dawn", "two cats in a garden at night"),
        ("犬が走る", "猫がいる"),
        ("!!!", "???"),
        ("", "a"),
    ],
)
def test_other_captions_are_not(pair):
    assert not together(*pair)


def test_a_family_is_of_what_is_near_its_leader_and_does_not_chain():
    words = list(string.ascii_lowercase[:20])
    chain = [" ".join(words[n : n + 10]) for n in range(10)]
    found = families(chain)
    assert found[0] == found[1] == 0
    assert len(set(found)) > 2


@pytest.mark.parametrize("seed", range(5))
def test_the_index_finds_what_comparing_all_pairs_finds(seed):
    rng = random.Random(seed)
    captions = [
        " ".join(rng.choice("abcdefgh") * rng.randint(1, 2) for _ in range(rng.randint(1, 9)))
        for _ in range(150)
    ]
    sets, expected = [set(text.split()) for text in captions], list[int]()
    for place, own in enumerate(sets):
        leaders = (j for j in range(place) if expected[j] == j)
        near = (j for j in leaders if len(own & sets[j]) / len(own | sets[j]) >= 0.7 - 1e-9)
        expected.append(next(near, place))
    assert families(captions) == expected


@given(st.lists(st.sampled_from(WORDS), min_size=1),
       st.lists(st.sampled_from(WORDS), min_size=1))  # fmt: skip
def test_a_near_identical_caption_has_one_of_the_shared_words(one, other):
    caption, candidate = " ".join(one), " ".join(other)
    found = near(caption, [candidate])
    together = families([caption, candidate]) == [0, 0]
    assert bool(found) is together
    if found:
        own = set(re.sub(r"\d+", "0", candidate).split())
        assert own & set(shared_words(caption))


def test_the_most_similar_caption_comes_first():
    others = ["a tall tree", "a small red mug on a desk", "a small red mug on a table"]
    assert [place for place, _ in near("a small red mug on a table", others)] == [2, 1]

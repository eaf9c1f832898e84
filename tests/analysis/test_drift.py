"""Are a run's captions like the null captions? What is said, and what is not."""

from contextlib import closing
from dataclasses import replace

import pytest
from made_results import commit, score

from scanner.analysis.drift import Drift, Group, drift, groups, of_run
from scanner.analysis.query import connect
from scanner.results.run_file import RunFile

USUAL = [f"a man number {n} rides a horse in a field" for n in range(190)]
PLAIN = [f"a {thing} on a plain black ground" for thing in ("mug", "tree", "cat", "shoe", "boat")]
STRANGE = [before + text for before in ("", "custom sticker ", "old poster ") for text in PLAIN]


def scored(texts, novelty, flagged=()):
    return [
        score(text, 1.0, key=f"{n:04d}", novelty=p, flagged=text in flagged)
        for n, (text, p) in enumerate(zip(texts, novelty, strict=True))
    ]


@pytest.fixture
def results(make):
    made = make(runs=("like", "mixed", "old"))
    even = [(n + 0.5) / 190 for n in range(190)]
    commit(made, "like", scored(USUAL, even, flagged=USUAL[:3]))
    mixed = [*scored(USUAL, even), *scored(STRANGE, [0.001] * 15, flagged=PLAIN)]
    rows = [
        replace(row, caption=replace(row.caption, key=f"{n:04d}")) for n, row in enumerate(mixed)
    ]
    commit(made, "mixed", rows, chunk="b-00000")
    commit(made, "old", [score("a caption", 1.0)], chunk="c-00000")
    return made


def found(results, run, null_captions=1000) -> Drift | None:
    with closing(connect(results, runs=[run])) as con:
        return drift(con, RunFile(null_captions=null_captions))


def test_captions_like_the_null_captions_are_not_warned_of(results):
    own = found(results, "like")
    assert own is not None
    assert (own.captions, own.unlike, own.ordinary, own.flagged) == (190, 10, 95, 3)
    assert own.flagged_unlike == 3
    assert not own.is_drift
    assert own.lines() == []


def test_other_captions_are_counted_and_named_with_their_flags(results):
    own = found(results, "mixed")
    assert own is not None
    assert (own.captions, own.unlike, own.flagged, own.flagged_unlike) == (205, 25, 5, 5)
    assert own.is_drift
    first, second = own.lines()
    assert first.startswith("warning: 25 of 205 captions (12.2%) are unlike the null captions")
    assert "5 of 5 flagged" in first
    assert "“black ground on” (15 captions, 5 flagged)" in second


def test_words_are_withheld_where_captions_are(results):
    own = found(results, "mixed")
    assert own is not None
    assert len(own.lines(redact=True)) == 1
    assert all(group["words"] == [] for group in own.as_json(redact=True)["groups"])
    assert any(group["words"] for group in own.as_json()["groups"])
    assert own.as_json()["warning"] is True


def test_captions_that_are_all_too_usual_are_warned_of(make):
    made = make()
    commit(made, "r1", scored(USUAL, [0.9] * 190))
    own = found(made, "r1")
    assert own is not None
    (line,) = own.lines()
    assert "not mixed as the null captions are" in line
    assert "100%" in line


def test_rows_or_records_from_before_tell_nothing(results):
    assert found(results, "old") is None
    assert found(results, "mixed", None) is None
    results.write_run("mixed", {"null_captions": 1000})
    assert of_run(results, "mixed") == found(results, "mixed")


def test_groups_are_named_by_words_that_others_lack():
    own = [(text, n % 2 == 0) for n, text in enumerate(STRANGE)]
    told = groups(own, USUAL)
    assert told[0].captions == 15
    assert not {"a", "in", "field"} & set(told[0].words)
    assert sum(group.captions for group in told) == 15
    assert sum(group.flagged for group in told) == 8


def test_what_shares_no_word_is_the_rest():
    own = [(f"{word} {word}er", False) for word in ("one", "two", "three")]
    assert groups(own, USUAL) == (Group((), 3, 0),)
    assert groups([], USUAL) == ()

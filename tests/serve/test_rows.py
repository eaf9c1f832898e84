"""Filters and pages: every order is cut into pages without loss, forwards and backwards."""

import pytest

from scanner.errors import ConfigError
from scanner.serve.filters import CHOICES, Filter, Known, words
from scanner.serve.listing import SORTS, listing
from scanner.serve.rows import beside, page
from scanner.serve.source import Source

NOBODY = Known({})


@pytest.fixture
def found(results):
    return listing(Source(results), "r1")


def captions(found, known=NOBODY, **asked) -> list[str]:
    return [row["caption"] for row in page(found, Filter(**asked), known).rows]


@pytest.mark.parametrize("order", ["", "reversed"])
@pytest.mark.parametrize("sort", [*SORTS, "wen"])
@pytest.mark.parametrize("flagged", ["", "no"])
def test_pages_are_the_whole_order_in_parts(found, sort, order, flagged):
    asked = Filter(sort=sort, order=order, flagged=flagged)
    whole = [row["id"] for row in page(found, asked, NOBODY).rows]
    assert len(whole) == (6 if flagged else 9)
    forwards, after = [], ""
    while True:
        some = page(found, asked, NOBODY, after=after, rows=2)
        assert (some.total, some.before) == (len(whole), len(forwards))
        forwards += [row["id"] for row in some.rows]
        if not (after := some.next):
            break
    assert forwards == whole
    backwards, before = [], whole[-1]
    while before:
        some = page(found, asked, NOBODY, before=before, rows=2)
        backwards = [row["id"] for row in some.rows] + backwards
        assert some.before == len(whole) - 1 - len(backwards)
        before = some.previous
    assert backwards == whole[:-1]
    for place, id in enumerate(whole):
        near = beside(found, asked, NOBODY, id)
        expected = (whole[place - 1] if place else "", (*whole, "")[place + 1], place + 1)
        assert near[:3] == expected


def test_a_row_that_a_filter_leaves_out_has_no_number(found):
    clear = page(found, Filter(flagged="no"), NOBODY).rows[0]["id"]
    assert beside(found, Filter(flagged="yes"), NOBODY, clear)[2:] == (0, 3)


def test_suspicious_ends_come_first(found):
    rows = page(found, Filter(sort="wen"), NOBODY).rows
    assert [row["sorted"] for row in rows] == sorted((row["sorted"] for row in rows), reverse=True)
    p_values = [row["p_value"] for row in page(found, Filter(sort="p_value"), NOBODY).rows]
    assert p_values == [*sorted(p for p in p_values if p is not None), None]


@pytest.mark.parametrize(
    ("q", "number"),
    [("circle", 2), ("RED circle", 2), ('"circle on a blue"', 1), ("blue circle", 1), ("zebra", 0),
     ("100%", 1), ("_", 1), ("%", 1), ("k3", 1), ("'", 2), ("''; DROP TABLE listed", 0),
     ("\\", 0), ("\x00", 1)],
)  # fmt: skip
def test_search_finds_what_stands_there(found, q, number):
    assert len(captions(found, q=q)) == number


def test_a_hash_or_its_start_finds_its_caption(found):
    row = page(found, Filter(), NOBODY).rows[4]
    assert captions(found, q=row["id"][:10]) == [row["caption"]]


def test_what_people_said_can_be_asked_for(found):
    first, second = (row["id"] for row in page(found, Filter(), NOBODY).rows[:2])
    known = Known({first: "false", second: "confirmed"}, {second: {}})
    assert len(captions(found, known, mark="false")) == 1
    assert len(captions(found, known, mark="unmarked")) == 7
    assert len(captions(found, known, muted="yes")) == 1
    assert len(captions(found, known, muted="no", flagged="yes")) == 2
    assert len(captions(found, mark="licensed")) == 0


def test_an_address_gives_the_filter_back():
    asked = Filter(q="a & b", flagged="yes", match="none", mark="unmarked", sort="wen")
    assert Filter.of(dict(part.split("=") for part in asked.address().split("&"))).sort == "wen"
    assert Filter().address() == ""
    assert Filter.of({"after": "x", "q": " "}) == Filter()


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_there_is_not_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be one of"):
        Filter.of({name: "'; SELECT"})


def test_a_column_that_there_is_not_is_refused(found):
    with pytest.raises(ConfigError, match="sort must be one of worst, delta_s"):
        page(found, Filter(sort='"x"'), NOBODY)


def test_words_are_few():
    assert len(words("a b " * 100)) == 2
    assert len(words(" ".join(map(str, range(100))))) == 16

"""The rules of levels and extents, as the views apply them, and the words beside them."""

from contextlib import closing
from itertools import pairwise, product

import duckdb
import pytest

from scanner.analysis import levels
from scanner.analysis.findings import Finding
from scanner.analysis.views import MATCH_RANK
from scanner.masks import WINDOW_SHARE
from scanner.matching.confirmation import told
from scanner.matching.reproduced import Reproduced


@pytest.fixture(scope="module")
def con():
    with closing(duckdb.connect()) as con:
        for macro in (MATCH_RANK, levels.LEVEL_OF, levels.LEVEL_RANK, levels.EXTENT_OF):
            con.execute(macro)
        yield con


def level(con, drawn=0, given_back=0, plain=0, agreeing=1, *, image=True, match=None, pinned=None):
    row = {}
    if drawn:
        sample = Reproduced(
            *("s", "k", "sha", "c", 1.0), drawn=drawn if image else 0, plain=plain,
            verbatim=given_back,
        )  # fmt: skip
        row = told(sample, drawn, agreeing)
    names = ("given_back", "plain", "rate_low", "rate_high", "agreeing", "agreeing_low")
    values = [match, pinned, *(row.get(name) for name in names)]
    return con.execute("SELECT level_of(?, ?, ?, ?, ?, ?, ?, ?)", values).fetchall()[0][0]


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        ("suspected", {}),
        ("suspected", {"match": "none"}),
        ("reproduced", {"match": "verbatim"}),
        ("reproduced", {"match": "template"}),
        ("stored", {"pinned": "region"}),
        ("suspected", {"pinned": "none"}),
        ("copied", {"drawn": 20, "given_back": 18}),
        ("copied", {"drawn": 6, "given_back": 6}),
        ("reproduced", {"drawn": 5, "given_back": 5}),
        ("reproduced", {"drawn": 20, "given_back": 1}),
        ("not confirmed", {"drawn": 20}),
        ("not confirmed", {"drawn": 6}),
        ("suspected", {"drawn": 5}),
        ("reproduced", {"drawn": 20, "match": "verbatim"}),
        ("suspected", {"drawn": 20, "plain": 20, "match": "verbatim"}),
        ("suspected", {"drawn": 20, "agreeing": 3}),
        ("stored", {"drawn": 20, "agreeing": 20}),
        ("stored", {"drawn": 20, "agreeing": 20, "image": False}),
        ("not confirmed", {"drawn": 20, "image": False}),
        ("suspected", {"drawn": 1, "image": False}),
    ],
)
def test_what_is_seen_makes_the_level(con, expected, seen):
    assert level(con, **seen) == expected


@pytest.mark.parametrize("name", ["given_back", "agreeing"])
def test_more_of_what_points_at_a_copy_never_lowers_a_level(con, name):
    for drawn, image in product((1, 2, 6, 20), (True, False)):
        if name == "given_back" and not image:
            continue
        first = int(name == "agreeing")
        found = [level(con, drawn, image=image, **{name: k}) for k in range(first, drawn + 1)]
        ranks = [levels.rank(each) for each in found]
        assert all(less >= more for less, more in pairwise(ranks)), (drawn, found)


def test_the_order_is_the_same_in_sql_and_in_python(con):
    for name in (*levels.LEVELS, None, "of another version"):
        found = con.execute("SELECT level_rank(?)", [name]).fetchall()[0][0]
        assert found == levels.rank(name)
    assert levels.rank(None) == levels.rank("suspected")
    assert set(levels.RULES) == set(levels.LEVELS)


def test_a_mask_is_of_the_whole_of_a_region_or_of_nothing(con):
    areas = [None, 0.0, WINDOW_SHARE**2 - 1e-6, WINDOW_SHARE**2, 0.5, 0.8999, 0.9, 1.0]
    found = [con.execute("SELECT extent_of(?)", [area]).fetchall()[0][0] for area in areas]
    assert found == [None, "none", "none", *["region"] * 3, "whole", "whole"]


def finding(**changes):
    usual = {
        "caption_sha256": "0" * 64, "caption": "secret", "delta_s": 1.0, "p_value": 0.0001,
        "copies": 1, "shard": "a.tar", "key": "k",
    }  # fmt: skip
    return Finding(**usual | changes)


def test_a_sentence_says_what_was_seen_and_nothing_of_the_corpus():
    drawn = {"drawn": 20, "compared": 20, "given_back": 18, "plain": 0, "rate_low": 0.683,
             "rate_high": 0.988, "agreeing": 18}  # fmt: skip
    said = finding(**drawn, area=0.31, extent="region").known
    assert said == "given back in 18 of 20 draws (68% to 99%), region 31%, p 0.0001"
    assert "region 63%" in finding(area=0.625, extent="region").known
    none = drawn | {"given_back": 0, "rate_low": 0.0, "rate_high": 0.168, "agreeing": 1}
    assert finding(**none, area=0.0, extent="none").known == (
        "given back in 0 of 20 draws (0% to 17%), no two draws are alike, no region, p 0.0001"
    )
    without = none | {"compared": 0, "agreeing": 7}
    assert finding(**without, p_value=None, area=1.0, extent="whole").known == (
        "no image to compare with, 7 of 20 draws are alike, whole picture"
    )
    assert finding(match="verbatim").known == "given back by the scan, not drawn again, p 0.0001"
    assert finding(p_value=None, snap_back=1.25).known == "not drawn again, snap-back 1.25 bits"


def test_findings_are_ordered_by_level_first():
    known = [finding(level=name, match=match) for name, match in (
        ("not confirmed", None), ("suspected", None), (None, None), ("reproduced", "template"),
        ("reproduced", "verbatim"), ("copied", "template"))]  # fmt: skip
    ordered = [(f.level, f.match) for f in sorted(known, key=lambda f: f.order)]
    assert ordered[:3] == [("copied", "template"), ("reproduced", "verbatim"),
                           ("reproduced", "template")]  # fmt: skip
    assert ordered[-1] == ("not confirmed", None)

import json

import numpy as np
import pytest
from made_results import commit, mask, record, score

from scanner.analysis.changes import as_json, as_text
from scanner.analysis.diff import RunView, diff
from scanner.errors import ResultsError

HILL = np.where(np.arange(64).reshape(8, 8) < 32, 5.0, -1.0)


def flagged(text, p, **more):
    return score(text, 10.0, p_value=p, flagged=True, **more)


def copied(text, match):
    row = mask(text, HILL, threshold=1.0)
    return type(row)(**{**{n: getattr(row, n) for n in row.__slots__}, "match": match})


@pytest.fixture
def both(make):
    results = make(runs=("a", "b"))
    later = record("2026-02-01T00:00:00+00:00")
    results.write_run("b", later | {"identity": {"model": "other", "calibration": "c"}})
    commit(
        results,
        "a",
        [
            *(flagged(t, 0.01) for t in ("stays", "cured", "gone", "grows", "shrinks")),
            flagged("proven", 0.01, stage="localize"),
            score("awakes", 1.0, p_value=0.6, flagged=False),
        ],
    )
    commit(
        results,
        "b",
        [
            flagged("stays", 0.012), flagged("grows", 0.001), flagged("shrinks", 0.04),
            score("cured", 1.0, p_value=0.5, flagged=False),
            flagged("awakes", 0.02), flagged("unseen <b>\u202e", 0.02),
            flagged("proven", 0.01, stage="localize"),
        ],
        [copied("proven", "verbatim")],
    )  # fmt: skip
    return results


def views(results, a="a", b="b"):
    return RunView(results=results, run=a), RunView(results=results, run=b)


def test_each_finding_has_the_state_and_reason_that_it_was_made_with(both):
    found = diff(*views(both))
    cause = "new model, new calibration"
    assert found.causes == ["new model", "new calibration"]
    assert {c.finding.caption.split()[0]: (c.state, c.reason) for c in found.changes} == {
        "unseen": ("new", "new data"),
        "awakes": ("new", cause),
        "grows": ("worse", f"{cause}: p-value 0.01, now 0.001"),
        "proven": ("worse", f"{cause}: score only, now verbatim"),
        "shrinks": ("better", f"{cause}: p-value 0.01, now 0.04"),
        "stays": ("persisting", ""),
        "cured": ("resolved", cause),
        "gone": ("resolved", "no longer scanned"),
    }
    assert found.counts() == {
        "new": 2, "worse": 2, "persisting": 1, "better": 1, "pending": 0, "resolved": 2,
    }  # fmt: skip


def test_a_run_against_itself_changes_nothing_and_against_nothing_is_new(both):
    before, after = views(both, "b", "b")
    assert diff(before, after).counts()["persisting"] == 6
    assert diff(None, after).counts() == {
        "new": 6, "worse": 0, "persisting": 0, "better": 0, "pending": 0, "resolved": 0,
    }  # fmt: skip


def test_a_diff_is_told_to_people_and_programs(both):
    found = diff(*views(both))
    text = as_text(found, 1, 160)
    assert text.startswith("2 new, 2 worse, 1 persisting, 1 better, 0 pending, 2 resolved\n")
    assert "(1 more)" in text
    assert "\u202e" not in as_text(found, 20)
    content = json.loads(json.dumps(as_json(found)))
    assert content["counts"] == found.counts()
    assert {c["state"] for c in content["changes"]} == {
        "new", "worse", "persisting", "better", "resolved",
    }  # fmt: skip


def test_an_unknown_run_is_refused(both):
    with pytest.raises(ResultsError, match="no run nope"):
        diff(*views(both, "nope"))

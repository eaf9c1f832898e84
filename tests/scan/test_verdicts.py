"""Verdicts on captions from rows that an earlier scan wrote."""

from dataclasses import replace

import pytest

from scanner.records import Caption, ScoreRow
from scanner.scan.contexts import SourceContext, SourceContexts
from scanner.scan.verdicts import Verdicts
from scanner.spec import ScanSpec

SPEC = ScanSpec(seeds=(0, 1), threshold=5.0, detectors=("wen",))
CAPTION = Caption("s.tar", "k", "a caption")
ROWS = [
    ScoreRow(caption=CAPTION, seed=seed, stage="localize", delta_s=value, extra={"wen": 2.0})
    for seed, value in ((0, 1.0), (1, 4.0), (7, 100.0))
]


def judge(spec, rows):
    return Verdicts(spec, SourceContexts(SourceContext(spec, None, ()), None)).of_earlier_rows(rows)


def test_earlier_rows_get_todays_verdict_and_columns_of_todays_seeds():
    rows = [replace(row, flagged=True, extra=row.extra | {"cosine": 1.0}) for row in ROWS]
    verdict = judge(SPEC, rows)
    assert verdict.flagged is False
    assert [(row.seed, row.stage, row.flagged, row.extra) for row in verdict.rows] == [
        (0, "detect", False, {"wen": 2.0}), (1, "detect", False, {"wen": 2.0}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    [
        [],
        ROWS[:1],
        [ROWS[0], replace(ROWS[1], extra={})],
        [ROWS[0], replace(ROWS[1], delta_s=None)],
    ],
    ids=["no row", "a seed less", "a detector less", "no score"],
)
def test_rows_that_lack_what_is_asked_give_no_verdict(rows):
    assert judge(SPEC, rows) is None


def test_a_caption_that_is_to_be_localized_is_sampled_again():
    assert judge(replace(SPEC, threshold=2.0), ROWS) is None
    assert judge(replace(SPEC, threshold=2.0, localize="none"), ROWS).flagged is True


def test_a_screen_judges_earlier_rows_by_their_first_steps():
    spec = replace(SPEC, screen=3.0)
    screened = [replace(row, screen=norm) for row, norm in zip(ROWS, (1.0, 2.0, 9.0), strict=True)]
    verdict = judge(spec, screened)
    assert [(row.stage, row.screen, row.delta_s) for row in verdict.rows] == [
        ("screen", 1.0, None), ("screen", 2.0, None),
    ]  # fmt: skip
    assert judge(spec, ROWS) is None
    passed = judge(replace(SPEC, screen=1.0), screened)
    assert [(row.stage, row.screen) for row in passed.rows] == [("detect", 1.0), ("detect", 2.0)]

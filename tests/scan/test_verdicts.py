"""Verdicts on captions from rows that an earlier scan wrote."""

from dataclasses import replace

import numpy as np
import pytest

from scanner.records import Caption, ScoreRow
from scanner.scan.contexts import SourceContext, SourceContexts
from scanner.scan.verdicts import Verdicts
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration
from scanner.statistics.kinds import Kinds
from scanner.statistics.novelty import NullWords

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


def test_p_values_by_kind_judge_earlier_rows_by_their_words():
    rng = np.random.default_rng(0)
    texts = [f"a {colour} mug {n}" for colour in ("red", "blue") for n in range(99)]
    scores = np.where(np.arange(198) < 99, 10.0, 0.0) + rng.random(198)
    nulls = tuple(sorted(scores.tolist()))
    null = Calibration(
        "m", "s", nulls, {}, 0.01, 198, "", words=NullWords.of(texts),
        kinds={"delta_s": Kinds.of(texts, scores.tolist())},
    )  # fmt: skip
    spec = ScanSpec(localize="none", p_values="kind")
    judges = {
        name: Verdicts(own, SourceContexts(SourceContext(own, null, ()), None))
        for name, own in (("kind", spec), ("all", replace(spec, p_values="all")))
    }

    def verdict(name, text, score):
        row = ScoreRow(caption=Caption("s.tar", "k", text), seed=0, stage="detect", delta_s=score)
        found = judges[name].of_earlier_rows([row])
        return found.p_value, found.p_kind, found.flagged

    assert verdict("kind", "a blue mug 7", 5.0) == (0.01, "kind", True)
    assert verdict("all", "a blue mug 7", 5.0) == (100 / 199, "conformal", False)
    assert verdict("kind", "a red mug 7", 5.0) == (1.0, "kind", False)
    assert verdict("kind", "another thing altogether", 99.0) == (1.0, "unlike", False)
    assert verdict("all", "another thing altogether", 99.0) == (1 / 199, "conformal", True)

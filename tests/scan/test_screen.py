"""The screen: what it drops, what it costs, and that nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scanner.errors import ConfigError
from scanner.models.gaussian import Gaussian
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

PLAIN = ScanSpec(seeds=(0, 1), steps=4, probes=1, guidance_scale=2.0, detectors=("wen_first",))
CAPTIONS = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(24)]
NULL = Calibration("m", "s", tuple(map(float, range(99))), {}, 0.01, 99, "")


def by_key(result):
    return {(row.caption.key, row.seed): row for row in result.scores}


@pytest.fixture(scope="module")
def unscreened():
    return by_key(Scanner(Gaussian(), PLAIN, calibration=NULL).scan(CAPTIONS))


@pytest.fixture(scope="module")
def norms(unscreened):
    """The first steps' norms, mean over seeds."""
    return {
        c.key: np.mean([unscreened[c.key, seed].extra["wen_first"] for seed in PLAIN.seeds])
        for c in CAPTIONS
    }


@pytest.fixture(scope="module")
def spec(norms):
    return replace(PLAIN, screen=float(np.median(list(norms.values()))))


def test_what_is_below_is_dropped_after_one_step_and_the_rest_is_as_it_was(unscreened, norms, spec):
    scanner = Scanner(Gaussian(), spec, calibration=NULL, batch_size=5)
    rows = by_key(scanner.scan(CAPTIONS))
    assert rows.keys() == unscreened.keys()
    dropped = {key for key, norm in norms.items() if norm < spec.screen}
    assert len(dropped) == 12
    for (key, seed), row in rows.items():
        before = unscreened[key, seed]
        assert row.screen == pytest.approx(before.extra["wen_first"], rel=1e-5)
        assert row.extra["wen_first"] == pytest.approx(row.screen, rel=1e-5)
        if key in dropped:
            assert (row.stage, row.delta_s, row.seed_p_value) == ("screen", None, None)
            assert (row.p_value, row.p_kind, row.flagged) == (1.0, "screen", False)
        else:
            assert (row.stage, row.p_kind, row.flagged) == (
                before.stage, before.p_kind, before.flagged,
            )  # fmt: skip
            assert row.delta_s == pytest.approx(before.delta_s, rel=1e-5)
            assert row.p_value == before.p_value
    draws = len(CAPTIONS) * 2
    localized = sum(row.stage == "localize" for row in rows.values())
    assert scanner.evaluations["draws"] == draws // 2
    assert scanner.evaluations["forward"] == 2 * draws + 6 * draws // 2 + 2 * localized


def test_a_false_positive_rate_holds_behind_a_screen(unscreened, spec):
    """No p-value is smaller than without it."""
    rows = by_key(Scanner(Gaussian(), spec, calibration=NULL).scan(CAPTIONS))
    assert all(row.p_value >= unscreened[key].p_value for key, row in rows.items())


def test_rows_do_not_depend_on_batch_size_or_company(spec):
    whole = by_key(Scanner(Gaussian(), spec, batch_size=16).scan(CAPTIONS))
    apart = {}
    for caption in CAPTIONS:
        apart |= by_key(Scanner(Gaussian(), spec, batch_size=1).scan([caption]))
    for key, row in whole.items():
        assert (row.stage, row.p_value, row.flagged) == (apart[key].stage, None, None)
        assert (row.delta_s is None) == (row.stage == "screen")
        if row.delta_s is not None:
            assert row.delta_s == pytest.approx(apart[key].delta_s, rel=1e-5)
        assert row.screen == pytest.approx(apart[key].screen, rel=1e-5)


def test_earlier_rows_do_for_a_screen_only_if_they_have_its_number(unscreened, spec):
    screened = by_key(Scanner(Gaussian(), spec, calibration=NULL).scan(CAPTIONS))

    def known(rows):
        return {c.sha256: [rows[c.key, seed] for seed in PLAIN.seeds] for c in CAPTIONS}

    scanner = Scanner(Gaussian(), spec, calibration=NULL)
    work = scanner.detect(CAPTIONS, known(unscreened))
    assert not work.cached
    again = Scanner(Gaussian(), spec, calibration=NULL)
    work = again.detect(CAPTIONS, known(screened))
    flagged = {key for (key, _), row in screened.items() if row.flagged}
    assert len(work.cached) == 24 - len(flagged)
    again.localize(work.waiting)
    again.finish(work)
    for key, row in by_key(again.rows(work)).items():
        assert row.stage == screened[key].stage
        assert (row.p_value, row.screen) == (screened[key].p_value, screened[key].screen)
    plain = Scanner(Gaussian(), PLAIN, calibration=NULL)
    work = plain.detect(CAPTIONS, known(screened))
    kept = {key for (key, _), row in screened.items() if row.delta_s is not None} - flagged
    assert len(work.cached) == len(kept)


def test_a_first_step_that_is_no_number_is_done_again_in_float32():
    class Half(Gaussian):
        def score(self, x, level, condition):
            score = super().score(x, level, condition)
            score[condition[:, 0, 0, 0, 0] == self.encode([CAPTIONS[2].text])[0, 0, 0, 0, 0]] = (
                torch.nan
            )
            return score

    spec = replace(PLAIN, screen=1e30, dtype="float16", localize="none")
    scanner = Scanner(Half(), spec, precise=lambda: (Gaussian(), {}))
    rows = by_key(scanner.scan(CAPTIONS[:4]))
    assert {key: row.stage for (key, _), row in rows.items()} == {
        "k0": "screen", "k1": "screen", "k2": "detect", "k3": "screen",
    }  # fmt: skip
    assert rows["k2", 0].screen is None


def test_without_calibration_a_dropped_caption_has_no_p_value():
    rows = Scanner(Gaussian(), replace(PLAIN, screen=1e30)).scan(CAPTIONS[:2]).scores
    assert {(row.stage, row.p_value, row.flagged) for row in rows} == {("screen", None, None)}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": 1}, "at least 2 steps, got 1.0 and 1"),
        ({"screen": float("nan")}, "needs a finite number"),
        ({"source": "image"}, "leave screen out"),
    ],
)
def test_a_screen_that_cannot_be_is_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        replace(replace(PLAIN, screen=1.0), **changes)


def test_a_screen_is_in_a_runs_name_but_not_in_a_calibrations():
    screened = replace(PLAIN, screen=1.0)
    assert screened.fingerprint() != replace(PLAIN, screen=2.0).fingerprint()
    assert screened.score_fingerprint() == PLAIN.score_fingerprint()
    assert replace(screened, source="auto").only("image").screen is None

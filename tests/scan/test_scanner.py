"""The scan against the closed-form model, and its laws."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scanner import masks
from scanner.models.gaussian import Gaussian
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration

SPEC = ScanSpec(seeds=(0, 1), steps=10, guidance_scale=2.0, localize="all", probes=4)
CAPTIONS = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(24)]


def rows(result):
    return {(row.caption.key, row.seed): row for row in result.scores}


def test_delta_h_is_the_closed_form_and_needs_no_sampling_luck():
    model = Gaussian()
    result = Scanner(model, SPEC, batch_size=5).scan(CAPTIONS)
    schedule = model.schedule(10)
    alpha, sigma = schedule.alphas[9], schedule.sigmas[9]
    for row in result.masks:
        if (row.metric, row.baseline) != ("delta_h", "null"):
            continue
        variance = model.encode([row.caption.text])[0, 1]
        expected = (1 / (alpha**2 * variance + sigma**2) - 1).sum(dim=0).numpy()
        stored = masks.from_heatmap(row.heatmap, row.height, row.width)
        assert np.allclose(stored, expected, rtol=4e-3, atol=1e-2)


def test_delta_s_is_the_closed_form_at_the_sampled_point():
    from scanner.scan.stages.draws import Draw
    from scanner.scan.stages.sampling import detect

    model = Gaussian()
    seen = detect(model, [Draw("caption number 3", "aa", 0)], SPEC)
    schedule = model.schedule(10)
    alpha, sigma = schedule.alphas[9], schedule.sigmas[9]
    mean, variance = model.encode(["caption number 3"])[0]
    difference = -(seen.point[0] - alpha * mean) / (alpha**2 * variance + sigma**2) + seen.point[0]
    assert torch.allclose(seen.delta_s[0], difference.square().sum(dim=0), rtol=1e-4)


def test_memorized_captions_score_highest_and_their_maps_show_the_region():
    model = Gaussian()
    result = Scanner(model, SPEC).scan(CAPTIONS)
    memorized = {c.key for c in CAPTIONS if model.encode([c.text])[0, 1].min() < 0.01}
    assert 1 <= len(memorized) < 12
    means = {c.key: np.mean([rows(result)[c.key, s].delta_s for s in SPEC.seeds]) for c in CAPTIONS}
    others = [means[k] for k in means if k not in memorized]
    assert min(means[k] for k in memorized) > max(others)
    for row in result.masks:
        if row.metric == "delta_h" and row.caption.key in memorized:
            m = masks.from_heatmap(row.heatmap, 8, 8)
            assert m[:4].min() > 10 * np.abs(m[4:]).max()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_rows_of_the_closed_form_are_the_same_in_any_batch_to_the_last_bit(size):
    """What the fault suite rests on: it compares every column exactly."""
    whole = Scanner(Gaussian(), SPEC, batch_size=16).scan(CAPTIONS)
    other = Scanner(Gaussian(), SPEC, batch_size=size).scan(CAPTIONS[::-1])
    before, after = rows(whole), rows(other)
    assert before.keys() == after.keys()
    for key, row in before.items():
        assert (row.delta_s, row.extra) == (after[key].delta_s, after[key].extra)
    maps = [{(m.caption.key, m.seed, m.metric): m.heatmap for m in r.masks} for r in (whole, other)]
    assert maps[0] == maps[1]


def test_a_network_gives_the_same_rows_in_any_batch(pipeline_folder):
    from scanner import models

    model = models.load(str(pipeline_folder))
    spec = ScanSpec(steps=3, localize="all", probes=4)
    few = CAPTIONS[:5]
    together = rows(Scanner(model, spec, batch_size=5).scan(few))
    apart = rows(Scanner(model, spec, batch_size=2).scan(few[::-1]))
    for key, row in together.items():
        assert row.delta_s == pytest.approx(apart[key].delta_s, rel=1e-3)
        assert row.extra == pytest.approx(apart[key].extra, rel=1e-3, abs=1e-3)


def test_a_repeated_caption_is_scored_once_and_fanned_out():
    class Counting(Gaussian):
        calls = 0

        def score(self, x, level, condition):
            Counting.calls += len(x)
            return super().score(x, level, condition)

    twice = [CAPTIONS[0], Caption("other.tar", "z", CAPTIONS[0].text)]
    spec = ScanSpec(steps=10, localize="none")
    result = Scanner(Counting(), spec).scan(twice)
    assert Counting.calls == 10 * 2
    assert [(r.caption.shard, r.delta_s == result.scores[0].delta_s) for r in result.scores] == [
        ("s.tar", True), ("other.tar", True),
    ]  # fmt: skip


def test_scores_that_are_not_finite_are_rejects_and_spoil_nobody_else():
    class Broken(Gaussian):
        def score(self, x, level, condition):
            value = super().score(x, level, condition)
            value[condition[:, 0, 0, 0, 0] == self.encode([CAPTIONS[2].text])[0, 0, 0, 0, 0]] = (
                torch.nan
            )
            return value

    result = Scanner(Broken(), SPEC).scan(CAPTIONS[:6])
    assert [(r.key, r.reason) for r in result.rejects] == [("k2", "not_finite")]
    assert {row.caption.key for row in result.scores} == {"k0", "k1", "k3", "k4", "k5"}


def test_masks_are_what_the_calibrations_rule_makes_of_the_maps():
    spec = ScanSpec(steps=5, probes=4, localize="all")
    null = Calibration("m", "s", (0.0,), {"delta_h/null": 20.0}, 0.01, 1, "", mask_share=0.3)
    for calibration in (null, replace(null, mask_share=0.0)):
        found = Scanner(Gaussian(), spec, calibration=calibration).scan(CAPTIONS)
        of_maps = [m for m in found.masks if m.metric == "delta_h"]
        for row in of_maps:
            values = masks.from_heatmap(row.heatmap, row.height, row.width)
            threshold, mask = masks.region(values, 20.0, calibration.mask_share)
            assert row.threshold == pytest.approx(threshold, rel=0.01)
            assert row.mask is not None
            stored = masks.from_runs(row.mask, row.height, row.width)
            assert (stored != mask).mean() <= 0.02
            assert row.area == pytest.approx(stored.mean())
        raised = {row.caption.text for row in of_maps if row.threshold != 20.0}
        memorized = {c.text for c in CAPTIONS if Gaussian().encode([c.text])[0, 1].min() < 0.01}
        assert raised == (memorized if calibration is null else set())
    own = replace(spec, pixel_threshold=33.0)
    found = Scanner(Gaussian(), own, calibration=null).scan(CAPTIONS)
    assert {row.threshold for row in found.masks if row.metric == "delta_h"} == {33.0}


def test_without_calibration_nothing_is_flagged_and_a_threshold_flags():
    spec = ScanSpec(steps=5, localize="flagged")
    assert {r.flagged for r in Scanner(Gaussian(), spec).scan(CAPTIONS).scores} == {None}
    result = Scanner(Gaussian(), ScanSpec(steps=5, threshold=1000.0, probes=4)).scan(CAPTIONS)
    assert {r.flagged for r in result.scores} == {True, False}
    assert {r.stage for r in result.scores if r.flagged} == {"localize"}
    assert {r.stage for r in result.scores if not r.flagged} == {"detect"}


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_an_unreadable_image_is_evidence_of_nothing(content):
    caption = Caption("s.tar", "k", "words", image=content)
    row = Scanner(Gaussian(), ScanSpec(steps=2, localize="all", probes=4)).scan([caption]).masks[0]
    assert (row.match, row.match_mse) == ("unreadable", None)

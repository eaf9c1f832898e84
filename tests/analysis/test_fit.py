import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from made_results import MODEL, SPEC, commit, mask, record, score

from scanner import calibrate, load_model
from scanner.analysis import fit as fitting
from scanner.analysis.fit import fit, screen
from scanner.errors import ConfigError
from scanner.masks import from_heatmap, region, to_heatmap
from scanner.spec import MASK_FLOORS
from scanner.statistics.calibration import (
    MASK_SHARE,
    Calibration,
    Screen,
    SnapBack,
    benjamini_hochberg,
    load,
)
from scanner.statistics.kinds import Kinds
from scanner.statistics.novelty import NullWords


def calibration(scores: tuple[float, ...]) -> Calibration:
    return Calibration(MODEL, SPEC.score_fingerprint(), scores, {}, 0.01, len(scores), "today")


SCORES = (1.0, 2.0, 2.0, 3.0, 5.0, 8.0, 8.0, 9.0, 10.0)


@pytest.mark.parametrize("score_", [0.0, 1.0, 2.0, 2.5, 8.0, 10.0, 11.0])
def test_the_p_value_counts_nulls_at_or_above(score_) -> None:
    at_least = sum(null >= score_ for null in SCORES)
    assert calibration(SCORES).p_value(score_) == (1 + at_least) / 10


@pytest.mark.parametrize("fpr", [0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 0.99])
def test_above_the_threshold_and_a_small_p_value_say_the_same(fpr) -> None:
    c = calibration(SCORES)
    for value in np.arange(0, 12, 0.25):
        assert (value > c.threshold(fpr)) == (c.p_value(value) <= fpr)


def test_too_few_nulls_flag_nothing() -> None:
    c = calibration(SCORES)
    assert c.min_p == 0.1
    assert c.threshold(0.09) == math.inf
    assert c.threshold(0.1) == 10.0


def test_it_comes_back_from_its_file(tmp_path) -> None:
    c = replace(
        calibration((0.1, 0.2)),
        pixel_thresholds={"delta_h/null": 1 / 3},
        seed_scores={0: (0.1, 0.3), 7: (0.0, 0.2)},
        families=1,
        settings=SPEC.score_settings(),
        mask_share=0.3,
        snap_back=SnapBack((-0.5, 0.25)),
        screen=Screen(1.5, 0.9, 40, 0.2, 1, 20),
        words=NullWords.of(["a red mug", "a tall tree"]),
        kinds={"delta_s": Kinds(((7, -1, -2),), "AAABAA==")},
    )
    c.save(tmp_path / "c.json")
    assert load(tmp_path / "c.json") == c
    assert json.loads((tmp_path / "c.json").read_text())["conformal_from"] == c.min_p


def test_words_and_kinds_are_in_no_name_but_that_of_p_values_by_kind() -> None:
    c = calibration((0.1, 0.2))
    known = replace(
        c, words=NullWords.of(["a", "b"]), kinds={"delta_s": Kinds.of(["a", "b"], [0.1, 0.2])}
    )
    assert known.fingerprint() == c.fingerprint()
    assert known.fingerprint("kind") not in (c.fingerprint(), c.fingerprint("kind"))
    assert known.named(known.fingerprint("kind"))
    assert not c.named(known.fingerprint("kind"))
    known.check_kinds("delta_s")
    for lacking, score_ in (
        (c, "delta_s"),
        (known, "wen"),
        (replace(known, words=None), "delta_s"),
    ):
        with pytest.raises(ConfigError, match="calibrate again"):
            lacking.check_kinds(score_)


def test_p_values_by_kind_of_images_are_the_larger_of_two() -> None:
    texts, nulls = [f"a {n}" for n in range(9)], tuple(float(n) for n in range(1, 10))
    c = replace(
        calibration(nulls), snap_back=SnapBack(nulls), words=NullWords.of(texts),
        kinds={"delta_s": Kinds.of(texts, nulls)},
    )  # fmt: skip
    assert c.kind_p_value("delta_s", 20.0, "a 1") == (0.1, "kind")
    assert c.kind_p_value("delta_s", 20.0, "a 1", 5.0) == (0.6, "kind")


def test_where_images_are_scored_the_larger_p_value_counts() -> None:
    nulls = tuple(float(n) for n in range(1, 100))
    c = replace(calibration(nulls), snap_back=SnapBack(nulls))
    assert c.p_value(200.0) == c.p_value(200.0, 300.0) == 0.01
    assert c.p_value(200.0, 50.5) == c.p_value(50.5, 200.0) == 0.5
    assert SnapBack(nulls).threshold(0.5) == c.threshold(0.5)
    assert c.fingerprint() != replace(c, snap_back=None).fingerprint()
    with pytest.raises(ConfigError, match="ascending"):
        SnapBack((2.0, 1.0))


def test_a_run_over_images_has_their_snap_backs_too(make) -> None:
    results = make(runs=())
    results.write_run("r1", record() | {"spec": asdict(replace(SPEC, source="image"))})
    rows = [
        replace(score(f"caption {i}", i, seed=seed), extra={"snap_back": i / 2 + seed})
        for i in range(5)
        for seed in (0, 1)
    ]
    commit(results, "r1", rows)
    c = fit(results, "r1")
    assert c.snap_back == SnapBack(tuple(i / 2 + 0.5 for i in range(5)))


def test_an_old_file_is_read_and_keeps_its_name(tmp_path) -> None:
    old = {
        "model": MODEL, "score_fingerprint": SPEC.score_fingerprint(), "null_scores": [1.0, 2.5],
        "pixel_thresholds": {}, "pixel_fpr": 0.01, "captions": 2, "created": "then",
    }  # fmt: skip
    path = tmp_path / "c.json"
    path.write_text(json.dumps(old))
    c = load(path)
    assert (c.families, c.mask_share, c.tail_fingerprint) == (None, 0, "")
    assert c.fingerprint() == "80c29f1f69d5" != replace(c, mask_share=0.3).fingerprint()
    c.check(MODEL, SPEC)
    path.write_text(json.dumps(old | {"schema_version": 4}))
    with pytest.raises(ConfigError, match="it is of version 4, this memscan reads up to 3"):
        load(path)


TAIL = {
    "threshold": 2.0, "exceedances": 60, "captions": 600, "shape": 0.25, "scale": 0.5,
    "shape_error": 0.15, "scale_error": 0.1, "anderson_darling": 0.3, "fit_p": 0.5,
    "bounds": [[0.0, 0.75], [0.5, 0.625]],
}  # fmt: skip
"""A tail model as it was written before there was none."""


@pytest.mark.parametrize(
    ("snap_back", "now", "then"),
    [
        (None, "58d3e8b78997", "926dedbb0914"),
        ({"null_scores": [0.0, 0.5], "tail": TAIL}, "097408a00965", "a6c2f4edf289"),
    ],
    ids=["samples", "images"],
)
def test_a_tail_in_an_old_file_is_ignored_and_its_runs_are_known(tmp_path, snap_back, now, then):
    """The fingerprints are those of the release that had tails."""
    path = tmp_path / "c.json"
    old = {
        "schema_version": 3, "model": "m", "score_fingerprint": "s", "null_scores": [1.0, 2.5],
        "pixel_thresholds": {"delta_h/null": 1.5}, "pixel_fpr": 0.01, "captions": 2,
        "created": "then", "tail": TAIL, "tail_note": "x", "mask_share": 0.3,
        "snap_back": snap_back,
    }  # fmt: skip
    path.write_text(json.dumps(old))
    c = load(path)
    assert (c.fingerprint(), c.tail_fingerprint) == (now, then)
    assert c.p_value(1e9) == c.min_p == 1 / 3
    assert c.threshold(0.3) == math.inf
    assert c.named(now)
    assert c.named(then)
    assert not c.named("")
    assert not c.named("other")
    c.save(path)
    assert load(path) == c
    untailed = None if snap_back is None else snap_back | {"tail": None}
    path.write_text(json.dumps(old | {"tail": None, "snap_back": untailed}))
    c = load(path)
    assert (c.fingerprint(), c.tail_fingerprint) == (now, "")


def test_an_old_screen_says_what_it_shows(tmp_path):
    """The threshold was the positive number floor((1 - recall)(m + 1)) from below."""
    path = tmp_path / "c.json"
    calibration(SCORES).save(path)
    old = {"threshold": 1.0, "recall": 0.95, "positives": 19, "passing": 0.5}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"screen": old}))
    screen = load(path).screen
    assert screen is not None
    assert (screen.dropped, screen.families) == (0, None)
    assert screen.expected == pytest.approx(0.95)
    assert screen.bound == pytest.approx(0.05 ** (1 / 19))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"screen": old | {"dropped": 19}}))
    with pytest.raises(ConfigError, match="drops fewer positives than it has, got 19 of 19"):
        load(path)


def test_one_seeds_p_value_is_against_that_seeds_null_scores() -> None:
    c = replace(calibration(SCORES), seed_scores={0: (1.0, 2.0, 3.0), 5: (2.0, 3.0, 4.0)})
    assert (c.seed_p_value(0, 2.5), c.seed_p_value(5, 2.5)) == (0.5, 0.75)
    with pytest.raises(ValueError, match=r"seed 1 must be among \[0, 5\]"):
        c.seed_p_value(1, 2.5)
    assert calibration(SCORES).seed_p_value(3, 9.5) == calibration(SCORES).p_value(9.5)


def test_benjamini_hochberg_takes_the_last_step_that_holds() -> None:
    p = np.array([0.04, 0.001, 0.03, 0.9])
    assert benjamini_hochberg(p, 0.05) == 0.001
    assert benjamini_hochberg(p, 0.1) == 0.04
    assert benjamini_hochberg(p, 0.0001) == -1
    assert benjamini_hochberg(np.array([]), 0.1) == -1
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg(p, 1.0)


def test_the_fingerprint_follows_the_numbers_and_not_the_date() -> None:
    c = calibration(SCORES)
    assert replace(c, created="later").fingerprint() == c.fingerprint()
    assert replace(c, null_scores=(1.0,)).fingerprint() != c.fingerprint()


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"model": 1}', "\x00"], ids=range(6))
def test_what_is_no_calibration_is_refused(tmp_path, content) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"c\.json is not a calibration"):
        load(path)
    with pytest.raises(ConfigError, match=r"calibration .* cannot be read"):
        load(tmp_path / "nothing.json")


@pytest.mark.parametrize("scores", [[], [2.0, 1.0], [1.0, math.nan]])
def test_scores_out_of_order_or_not_finite_are_refused(tmp_path, scores) -> None:
    path = tmp_path / "c.json"
    calibration((1.0,)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"null_scores": scores}))
    with pytest.raises(ConfigError, match="null_scores must be finite, ascending"):
        load(path)


def test_another_model_or_other_settings_are_named() -> None:
    c = calibration(SCORES)
    c.check(MODEL, replace(SPEC, fpr=0.5, store_image=False))
    with pytest.raises(ConfigError, match=f"it is of {MODEL}, the scan is of other"):
        c.check("other", SPEC)
    with pytest.raises(ConfigError, match=r"settings; the scan's: seeds 0 1, steps 7"):
        c.check(MODEL, replace(SPEC, steps=7))
    told = replace(c, settings=SPEC.score_settings())
    wrong = replace(SPEC, steps=7, seeds=tuple(range(5)), baseline="abc")
    with pytest.raises(ConfigError) as caught:
        told.check(MODEL, wrong)
    assert "seeds (calibration 0 1, scan 0..4), steps (calibration 50, scan 7)" in str(caught.value)
    assert "baseline (calibration none, scan abc)" in str(caught.value)
    assert "guidance" not in str(caught.value)


def test_it_is_fitted_on_means_over_seeds_and_all_null_pixels(make) -> None:
    results = make()
    rng = np.random.default_rng(0)
    scores, masks = [], []
    for i in range(20):
        text = f"caption {i}"
        scores += [score(text, i + 0.0, seed=0), score(text, i + 1.0, seed=1)]
        scores += [score(text, i + 0.0, seed=0, key=f"copy{i}"),
                   score(text, i + 1.0, seed=1, key=f"copy{i}")]  # fmt: skip
        masks += [mask(text, rng.normal(size=(8, 8)) * 50, seed=seed) for seed in (0, 1)]
    masks += [mask("caption 0", rng.normal(size=(8, 8)), metric="curvature", baseline="none")]
    commit(results, "r1", scores, masks)

    c = fit(results, "r1", pixel_fpr=0.05)

    assert c.null_scores == tuple(i + 0.5 for i in range(20))
    assert c.captions == 20
    assert c.seed_scores == {
        0: tuple(float(i) for i in range(20)), 1: tuple(i + 1.0 for i in range(20))
    }  # fmt: skip
    assert c.families == 1  # "caption 0" to "caption 19"
    assert c.independent == 1
    assert c.settings == SPEC.score_settings()
    assert set(c.pixel_thresholds) == {"delta_h/null", "curvature/none"}
    maps = [from_heatmap(m.heatmap, 8, 8) for m in masks if m.metric == "delta_h"]
    pixels = np.sort(np.concatenate([m.ravel() for m in maps]))
    threshold = c.pixel_thresholds["delta_h/null"]
    assert threshold in pixels
    assert (pixels > threshold).mean() <= 0.05
    assert (pixels >= threshold).mean() > 0.05
    c.check(MODEL, SPEC)


def test_the_pixel_threshold_is_of_smoothed_maps(make) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(16, 16)) * 50 for _ in range(20)]
    texts = [f"caption {i}" for i in range(20)]
    commit(results := make(), "r1", [score(text, 1.0) for text in texts],
           [mask(text, values) for text, values in zip(texts, maps, strict=True)])  # fmt: skip
    c = fit(results, "r1", pixel_fpr=0.05)
    regions = [region(values, c.pixel_thresholds["delta_h/null"], 1e-9)[1] for values in maps]
    assert np.mean(regions) == pytest.approx(0.05, abs=2e-3)
    assert c.mask_share == MASK_SHARE


def test_a_run_without_a_score_for_every_caption_is_refused(make) -> None:
    results = make("some")
    commit(results, "r1", [score("a", 1.0), score("b", None, stage="screen", screen=0.5)])
    with pytest.raises(ConfigError, match="2 captions, 1 of them without"):
        fit(results, "r1")
    with pytest.raises(ConfigError, match="0 captions"):
        fit(make("none"), "r1")


def test_maps_that_are_not_finite_are_refused(make) -> None:
    results = make()
    commit(results, "r1", [score("a", 1.0)], [mask("a", np.full((2, 2), np.nan))])
    with pytest.raises(ConfigError, match="null maps must be finite"):
        fit(results, "r1")


def test_a_record_without_a_model_or_with_a_foreign_spec_is_refused(make) -> None:
    results = make()
    commit(results, "r1", [score("a", 1.0)])
    results.write_run("r1", {"started": "now"})
    with pytest.raises(ConfigError, match="the record of run r1 names no model"):
        fit(results, "r1")
    results.write_run("r1", {"identity": {"model": MODEL}, "spec": {"colour": 1}})
    with pytest.raises(ConfigError, match="the spec of run r1 is of another version"):
        fit(results, "r1")


def test_steps_have_the_mean_and_the_deviation_of_null_trajectories(make):
    """Two seeds of three captions; a copy of a caption counts once."""
    lengths = {(n, seed): (1.0 + n, 10.0 * seed + n, 3.0) for n in range(3) for seed in (0, 1)}
    rows = [
        replace(score(f"null {n}", 1.0 + n, seed=seed), increments=steps)
        for (n, seed), steps in lengths.items()
    ]
    rows += [replace(row, caption=replace(row.caption, key="copy")) for row in rows[:2]]
    results = make()
    commit(results, "r1", rows)
    found = fit(results, "r1")
    paths = np.array(list(lengths.values()))
    expected = np.stack([paths.mean(axis=0), paths.std(axis=0, ddof=1)], axis=1)
    assert np.allclose(found.increments, expected)
    # The third step never varies and is passed over; the second is the unusual one.
    assert found.increment_z((2.0, 30.0, 99.0)) == pytest.approx(
        (30 - expected[1, 0]) / expected[1, 1]
    )
    with pytest.raises(ValueError, match="steps must be 3, got 2"):
        found.increment_z((1.0, 2.0))
    assert found.fingerprint() != replace(found, increments=()).fingerprint()


def test_the_same_rows_give_the_same_calibration_to_the_last_bit(make):
    rng = np.random.default_rng(0)
    rows = [
        replace(score(f"null {n}", 1.0 + n, seed=seed), increments=tuple(rng.random(20).tolist()))
        for n in range(400)
        for seed in (0, 1)
    ]
    results = make()
    commit(results, "r1", rows)
    assert len({fit(results, "r1").increments for _ in range(6)}) == 1


def test_a_calibration_with_steps_is_read_back_and_one_without_is_as_before(make, tmp_path):
    results = make()
    commit(results, "r1", [replace(score("a", 1.0), increments=(1.0, 2.0)),
                           replace(score("b", 2.0), increments=(2.0, 2.0))])  # fmt: skip
    found = fit(results, "r1")
    found.save(tmp_path / "c.json")
    assert load(tmp_path / "c.json") == found
    assert found.increments[1] == (2.0, 0.0)
    content = json.loads((tmp_path / "c.json").read_text())
    del content["increments"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert load(tmp_path / "old.json").increments == ()
    content["increments"] = [[1.0, -1.0]]
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="increments must be finite"):
        load(tmp_path / "bad.json")


FAMILIES = [f"blue mug with a handle, size {n} cm" for n in range(12)] + [
    "an old map of the northern sea",
    "two dogs run along the beach",
]


def test_near_identical_null_captions_are_one_family_of_which_one_can_be_kept(make) -> None:
    results = make()
    rows = [
        score(text, n + seed / 2, seed=seed) for n, text in enumerate(FAMILIES) for seed in (0, 1)
    ]
    commit(results, "r1", rows)
    every = fit(results, "r1")
    assert (len(every.null_scores), every.captions, every.families) == (14, 14, 3)
    assert (every.independent, every.min_p) == (3, 1 / 15)
    one = fit(results, "r1", one_per_family=True)
    assert (len(one.null_scores), one.captions, one.families) == (3, 14, 3)
    assert (one.independent, one.min_p) == (3, 0.25)
    assert set(one.null_scores) > {12.25, 13.25}
    assert {seed: len(own) for seed, own in one.seed_scores.items()} == {0: 3, 1: 3}
    assert one.fingerprint() != every.fingerprint()
    assert replace(every, families=None).fingerprint() == every.fingerprint()


def test_the_caption_that_stands_for_its_family_is_chosen_whatever_its_score(make) -> None:
    kept = []
    for name, sign in (("up", 1), ("down", -1)):
        rows = [score(text, 50.0 + sign * n) for n, text in enumerate(FAMILIES)]
        commit(results := make(name), "r1", rows)
        scores = fit(results, "r1", one_per_family=True).null_scores
        kept.append({sign * (value - 50) for value in scores})
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("recall", "positives", "dropped"),
    [(0.95, 19, 0), (0.95, 58, 0), (0.95, 59, 0), (0.95, 92, 0), (0.95, 93, 1), (0.5, 5, 0),
     (0.5, 8, 1)],
)  # fmt: skip
def test_a_screen_has_its_recall_with_confidence_or_drops_no_positive(
    make, recall, positives, dropped
) -> None:
    results = make(runs=())
    for run in ("known", "null"):
        results.write_run(run, record())
    norms = np.random.default_rng(0).permutation(positives).tolist()
    known = [
        score("w" * (n + 1), None, stage="screen", screen=float(norm))
        for n, norm in enumerate(norms)
    ]
    commit(results, "known", known)
    nulls = [replace(score(f"n{n} m{n}", 1.0), extra={"wen_first": n / 2}) for n in range(4)]
    commit(results, "null", nulls)
    found = screen(results, "known", "null", recall)
    assert (found.threshold, found.dropped, found.positives) == (dropped, dropped, positives)
    assert (found.recall, found.families) == (recall, positives)
    assert found.expected == 1 - (dropped + 1) / (positives + 1)
    assert (found.bound >= recall) is (positives not in (19, 58))
    assert found.passing == sum(n / 2 >= dropped for n in range(4)) / 4
    with pytest.raises(ConfigError, match=r"0\.999 needs 999 positives for that, and 2995"):
        screen(results, "known", "null", 0.999)


def test_a_typical_floor_is_not_set_by_a_few_null_maps() -> None:
    def stored(level):
        return to_heatmap(np.full((16, 16), level)), 16, 16

    maps = [stored(1.0 + n / 100) for n in range(90)] + [stored(1000.0)] * 10
    assert fitting.typical_level(maps) == pytest.approx(1.495, rel=0.01)
    assert fitting.pixel_threshold(maps, 0.01) == pytest.approx(1000, rel=0.01)
    with pytest.raises(ConfigError, match="null maps must be finite"):
        fitting.typical_level([*maps, stored(np.inf)])


def test_a_calibration_may_take_its_floors_from_typical_maps() -> None:
    model = load_model("gaussian")
    null = [f"a caption that is not memorized, number {n}" for n in range(19)]
    pooled, typical = (
        calibrate(model, null, steps=4, probes=4, mask_floor=floor) for floor in MASK_FLOORS
    )
    assert typical.null_scores == pooled.null_scores
    assert set(typical.pixel_thresholds) == set(pooled.pixel_thresholds)
    for name, floor in typical.pixel_thresholds.items():
        assert floor < pooled.pixel_thresholds[name]
    assert typical.fingerprint() != pooled.fingerprint()
    with pytest.raises(ConfigError, match="mask_floor must be one of pooled, typical"):
        calibrate(model, null, steps=4, probes=4, mask_floor="none")

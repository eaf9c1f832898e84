import json
import math

import numpy as np
import pytest
from made_results import commit, mask, score, write_truth
from PIL import Image

from scanner.analysis.evaluate import evaluate
from scanner.analysis.evaluation import Evaluation
from scanner.analysis.truth import Truth
from scanner.errors import ConfigError
from scanner.masks import window
from scanner.records import Reject, caption_hash
from scanner.report import figures

REGION = np.zeros((16, 16), bool)
REGION[:, :8] = True


@pytest.fixture
def planted(make, tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"copy {i}", "template", f"family {i // 2}", REGION) for i in range(6)]
    rows += [(f"scene {i}", "scene", f"scene {i}", None) for i in range(10)]
    rows += [(f"trap {i}", "trap", f"trap {i}", None) for i in range(5)]
    truth = tmp_path / "truth.parquet"
    write_truth(truth, [*rows, ("gone", "scene", "gone", None), ("bad", "scene", "bad", None)])
    scores, masks = [], []
    for text, kind, _, _ in rows:
        level = {"template": 10.0, "trap": 20.0, "scene": 1.0}[kind] + rng.random()
        for seed in (0, 1):
            signal = np.where(REGION[::2, ::2], 10.0, 0.0) * (kind == "template")
            values = signal + rng.normal(size=(8, 8)) * 0.1
            flagged = kind != "scene"
            extra = {"wen": level / 2} if kind != "trap" else {}
            scores.append(score(text, level + seed, seed=seed, flagged=flagged, extra=extra))
            masks.append(mask(text, values, seed=seed, threshold=5.0))
            masks.append(mask(text, values, seed=seed, metric="curvature", baseline="none"))
    scores.append(score("unheard of", 5.0, flagged=False, extra={"wen": 1.0}))
    results = make()
    bad = Reject("a.tar", "bad", "not_finite", "a nan", caption_hash("bad"))
    commit(results, "r1", scores, masks, [bad])
    return results, truth


def row_of(table, **wanted):
    rows = [row for row in table if all(row[k] == v for k, v in wanted.items())]
    assert len(rows) == 1
    return rows[0]


def test_detection_is_per_caption_and_per_kind(planted) -> None:
    found = evaluate(*planted[:1], "r1", planted[1], bootstrap=50)
    assert row_of(found.detection, score="delta_s", against="all")["auc"] == pytest.approx(2 / 3)
    easy = row_of(found.detection, score="delta_s", against="all but trap")
    assert (easy["auc"], easy["tpr@1%"], easy["fpr@1%"], easy["ap"]) == (1, 1, 0, 1)
    # Three families of either side, and nothing wrong: resampling would give [1, 1].
    assert easy["negative_families"] >= 3
    assert easy["auc_interval"] == easy["tpr@1%_interval"] == [pytest.approx(0.025 ** (1 / 3)), 1]
    assert all(map(math.isnan, easy["ap_interval"]))
    assert any(note.startswith("tpr@0.1% needs 1,000 negatives; among few") for note in found.notes)
    assert "TPR, no false positive" in found.as_text()
    assert "TPR@" not in found.as_text()
    assert (easy["positives"], easy["negatives"], easy["positive_families"]) == (6, 10, 3)
    assert row_of(found.detection, score="delta_s", against="kind trap")["auc"] == 0
    assert row_of(found.detection, score="wen", against="all")["negatives"] == 10
    assert any(note.startswith("wen is there for 16 of 21") for note in found.notes)


def test_one_seed_stands_beside_the_mean_over_seeds(make, tmp_path) -> None:
    results, path = make(), tmp_path / "truth.parquet"
    write_truth(path, [("copy", "template", "copy", REGION), ("a", "scene", "a", None)])
    rows = [score("copy", 1.0, seed=3), score("copy", 9.0, seed=5)]
    commit(results, "r1", [*rows, score("a", 2.0, seed=3), score("a", 2.0, seed=5)])
    found = evaluate(results, "r1", path, bootstrap=0)
    assert row_of(found.detection, score="delta_s", against="all")["auc"] == 1
    assert row_of(found.detection, score="delta_s, seed 3 alone", against="all")["auc"] == 0
    assert "delta_s, seed 3 alone" in found.headlines().as_text()
    commit(single := make("single"), "r1", [rows[0], score("a", 2.0, seed=3)])
    scores = {row["score"] for row in evaluate(single, "r1", path, bootstrap=0).detection}
    assert scores == {"delta_s"}


def test_the_stored_flag_has_its_rates(planted) -> None:
    found = evaluate(planted[0], "r1", planted[1], bootstrap=0)
    all_ = row_of(found.deployed, against="all")
    assert (all_["tpr"], all_["fpr"]) == (1.0, 5 / 15)
    assert row_of(found.deployed, against="all but trap")["fpr"] == 0


def test_captions_that_do_not_meet_are_counted(planted) -> None:
    found = evaluate(planted[0], "r1", planted[1], bootstrap=0)
    assert found.counts == {
        "captions_evaluated": 21,
        "captions_without_truth": 1,
        "truth_captions_without_score_row": 2,
        "of_these_rejected": 1,
    }
    assert any("differ" in note for note in found.notes)


def test_localization_has_every_method_and_pool(planted) -> None:
    found = evaluate(planted[0], "r1", planted[1], bootstrap=0)
    for pool, maps in (("template", 12), ("all", 42)):
        where = {"pool": pool, "metric": "delta_h", "baseline": "null"}
        assert row_of(found.localization, **where, method="deployed")["iou"] == 1
        oracle = row_of(found.localization, **where, method="oracle")
        assert oracle["maps"] == maps
        assert oracle["iou"] > 0.85
        ones = row_of(found.localization, **where, method="all ones")
        assert ones["iou"] == pytest.approx(0.5 * 12 / maps)
    curvature = [r["method"] for r in found.localization if r["metric"] == "curvature"]
    assert curvature == ["oracle", "smoothed", "all ones"] * 2


def test_the_side_of_the_mean_filter_can_be_chosen(planted) -> None:
    """A filter of one pixel is none; one wider than the map leaves a constant: all ones."""
    where = {"pool": "template", "metric": "delta_h"}

    def measures(side):
        rows = evaluate(planted[0], "r1", planted[1], bootstrap=0, smooth=side).localization
        return {m: row_of(rows, **where, method=m)["iou"] for m in ("oracle", "smoothed")}

    assert measures(1)["smoothed"] == measures(1)["oracle"]
    assert measures(None) == measures(window(8))
    assert measures(99)["smoothed"] == pytest.approx(0.5, abs=0.05)
    for even in (0, 4):
        with pytest.raises(ConfigError, match="smooth must be odd"):
            evaluate(planted[0], "r1", planted[1], smooth=even)


def test_it_reads_as_text_and_as_json(planted) -> None:
    found = evaluate(planted[0], "r1", planted[1], bootstrap=20)
    text = found.as_text()
    assert "Detection in run r1" in text
    assert "all but trap" in text
    assert "captions without truth: 1" in text
    assert json.loads(found.as_json())["counts"]["captions_evaluated"] == 21


def test_without_a_memorized_caption_measures_are_absent_and_said_so(make, tmp_path) -> None:
    results, path = make(), tmp_path / "truth.parquet"
    write_truth(path, [("a", "scene", "a", None)])
    commit(results, "r1", [score("a", 1.0)])
    found = evaluate(results, "r1", path)
    assert math.isnan(row_of(found.detection, against="all")["auc"])
    assert found.deployed == []
    assert any("no memorized caption" in note for note in found.notes)
    assert json.loads(found.as_json())["detection"][0]["auc"] is None
    assert "nan" in found.as_text()


def test_a_truth_that_cannot_be_used_is_refused(make, tmp_path) -> None:
    results = make()
    commit(results, "r1", [score("a", 1.0)])
    path = tmp_path / "truth.parquet"
    with pytest.raises(ConfigError, match=r"truth\.parquet cannot be read: No such file"):
        evaluate(results, "r1", path)
    path.write_text("no table")
    with pytest.raises(ConfigError, match="must be Parquet with caption_sha256"):
        evaluate(results, "r1", path)
    write_truth(path, [("a", "scene", "a", None), ("a", "trap", "a", None)])
    with pytest.raises(ConfigError, match="says two things of caption"):
        evaluate(results, "r1", path)


def test_headlines_keep_the_pools_that_matter_and_one_baseline(tmp_path):
    found = Evaluation(
        "r", {},
        detection=[{"against": a} for a in ("all", "all but trap", "kind scene")],
        deployed=[{"against": a} for a in ("all", "kind scene")],
        localization=[
            {"pool": p, "metric": m, "method": how}
            for p in ("template", "all") for m in ("a", "b") for how in ("oracle", "all ones")
        ],
    )  # fmt: skip
    brief = found.headlines()
    assert [r["against"] for r in brief.detection] == ["all", "all but trap"]
    assert [r["against"] for r in brief.deployed] == ["all"]
    assert [(r["pool"], r["metric"], r["method"]) for r in brief.localization] == [
        ("template", "a", "oracle"), ("template", "b", "oracle"), ("template", "a", "all ones"),
    ]  # fmt: skip


def test_further_detectors_and_maps_are_measured_like_the_first(make, tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"copy {i}", "template", f"f {i}", REGION) for i in range(3)]
    rows += [(f"scene {i}", "scene", f"s {i}", None) for i in range(4)]
    write_truth(tmp_path / "truth.parquet", rows)
    scores, masks = [], []
    for text, _, _, region in rows:
        copied = region is not None
        extra = {"metric2": 9.0 if copied else 1.0, "flipd": 100.0 if copied else 200.0}
        scores.append(score(text, rng.random(), extra=extra))
        values = np.where(REGION[::2, ::2] & copied, 0.3, 0.01)
        masks.append(mask(text, values, metric="bright_ending", baseline="none"))
        masks.append(mask(text, 50 * values, metric="combined"))
    results = make()
    commit(results, "r1", scores, masks)
    found = evaluate(results, "r1", tmp_path / "truth.parquet", bootstrap=10)
    for name in ("metric2", "flipd"):
        assert row_of(found.detection, score=name, against="all")["auc"] == 1
    assert any("flipd is suspicious where it is low" in note for note in found.notes)
    for metric, baseline in (("bright_ending", "none"), ("combined", "null")):
        row = row_of(
            found.localization, metric=metric, baseline=baseline, method="oracle", pool="all"
        )
        assert (row["maps"], row["iou"]) == (7, 1)


def test_figures_are_drawn_for_what_the_run_has(planted, make, tmp_path) -> None:
    found = figures.draw(*planted[:1], "r1", planted[1], tmp_path / "figures")
    assert [path.name for path in found] == ["roc.png", "scores.png", "iou.png", "maps.png"]
    for path in found:
        with Image.open(path) as picture:
            assert min(picture.size) > 200
            assert len(set(np.asarray(picture.convert("L")).ravel().tolist())) > 20
    bare = make("bare", ("r2",))
    commit(bare, "r2", [score("copy 0", 5.0), score("scene 0", 1.0)], [], [])
    found = figures.draw(bare, "r2", planted[1], tmp_path / "bare")
    assert [path.name for path in found] == ["roc.png", "scores.png"]


def test_figures_of_another_corpus_are_refused(planted, make, tmp_path) -> None:
    other = make("other", ("r3",))
    commit(other, "r3", [score("never planted", 5.0)], [], [])
    with pytest.raises(ConfigError, match="truth of this corpus"):
        figures.draw(other, "r3", planted[1], tmp_path)


def test_the_roc_goes_through_every_threshold_with_ties_together() -> None:
    rows = [(1, 5.0), (0, 5.0), (1, 4.0), (0, 3.0), (0, 3.0), (1, 2.0)]
    pool = [(Truth("x", "x", bool(m), None), s) for m, s in rows]
    fpr, tpr = figures._curve(pool)
    wanted = {
        (
            sum(s >= level for m, s in rows if not m) / 3,
            sum(s >= level for m, s in rows if m) / 3,
        )
        for level in (9.0, 5.0, 4.0, 3.0, 2.0)
    }
    assert set(zip(fpr.tolist(), tpr.tolist(), strict=True)) == wanted
    assert len(figures._curve(pool[:1])[0]) == 0

"""Detection by dose and against several sets of clean captions, on tables whose truth is known."""

import numpy as np
import pyarrow as pa
import pytest

from scanner.testbed.benchmark import detection, localization, tables

DOSES = (0, 16, 64, 256, 1024, 2048)


def caption(split, number, kind, role="fresh", dose=0.0, copies=None, arm="background", region=0):
    sha = f"{split}{kind}{role}{number:04d}"
    return {
        "split": split, "caption_sha256": sha, "caption": sha, "item": None, "arm": arm,
        "kind": kind, "family": sha, "role": role, "region": region, "dose": float(dose),
        "copies": copies, "seeds": None if copies is None else 20,
        "clique": None, "error": None, "floor": None,
    }  # fmt: skip


def made(each=8):
    """Return rows of which all items from a dose of 1,024 on are given back."""
    rows = [
        caption(
            "planted", 100 * place + n, kind, "planted", dose, 20 if dose >= 1024 else 0, kind,
            100 if kind == "verbatim" else (5, 60)[n % 2],
        )
        for kind in ("verbatim", "template") for place, dose in enumerate(DOSES)
        for n in range(each)
    ]  # fmt: skip
    for kind, number in (("single", 300), ("trap", 60), ("title", 200), ("product", 100)):
        rows += [caption("evaluation", n, kind) for n in range(number)]
    return rows + [caption("calibration", n, "single") for n in range(50)]


@pytest.fixture(scope="module")
def captions():
    rows = made()
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(rows))
    dose = np.array([row["dose"] for row in rows])
    styled = np.array([row["kind"] in ("title", "product") for row in rows])
    styled |= np.array([row["role"] == "planted" for row in rows])
    perfect = 10.0 * (dose >= 256) + 0.1 * noise
    of_style = 10.0 * styled + 0.1 * noise
    table = pa.Table.from_pylist(rows)
    table = table.append_column("delta_s", pa.array(perfect))
    table = table.append_column("wen", pa.array(of_style))
    return detection.read(table.append_column("tightness", pa.array(-perfect)))


def row_of(rows, **wanted):
    found = [row for row in rows if all(row[k] == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_a_score_of_style_is_perfect_against_scenes_and_nothing_against_its_own_style(captions):
    rows = detection.detected(captions, draws=50)
    assert row_of(rows, score="wen", against="scenes")["auc"] == 1
    assert 0.3 < row_of(rows, score="wen", against="same style")["auc"] < 0.7
    assert row_of(rows, score="delta_s", against="same style")["auc"] == 1
    assert row_of(rows, score="delta_s", against="dose 0")["negatives"] == 16


def test_scores_whose_low_values_are_suspicious_are_turned_round(captions):
    rows = detection.detected(captions, draws=20)
    assert row_of(rows, score="tightness", against="scenes")["auc"] == 1


def test_paired_differences_have_the_sign_of_who_is_better(captions):
    rows = detection.compared(captions, draws=50)
    worse = row_of(rows, score="wen", against="same style")
    assert worse["tpr@1%"] < -0.8
    assert worse["tpr@1%_interval"][1] < 0
    same = row_of(rows, score="tightness", against="same style")
    assert same["auc"] == 0
    assert same["auc_interval"] == [0, 0]


def test_a_score_may_see_an_item_at_a_lower_dose_than_it_comes_back_at(captions):
    rows = detection.by_dose(captions)
    back = row_of(rows, arm="verbatim", score="given back")
    assert list(back["shares"].values()) == [0, 0, 0, 0, 1, 1]
    assert 256 < back["seen_at"]["value"] < 1024
    seen = row_of(rows, arm="verbatim", score="delta_s", against="same style", rate="1%")
    assert 64 < seen["seen_at"]["value"] < 256
    assert seen["shares"]["256"] == 1
    style = row_of(rows, arm="verbatim", score="wen", against="all fresh", rate="1%")
    assert style["shares"]["0"] < 0.5  # titles and products are among all fresh captions


def test_a_threshold_lets_no_more_than_its_share_pass():
    clean = np.arange(1000.0)
    for rate in (0.05, 0.01, 0.001):
        assert (clean > detection.threshold(clean, rate)).mean() <= rate
    assert detection.threshold(np.array([]), 0.01) == float("inf")
    assert (np.arange(10.0) > detection.threshold(np.arange(10.0), 0.01)).sum() == 0


def maps_table(captions, shift):
    """Return maps whose masks hold the truth and ``shift`` pixels beside it."""
    rows = []
    for sha, kind, role in zip(
        *(captions.about[k] for k in ("caption_sha256", "kind", "role")), strict=True
    ):
        if role == "planted":
            truth = 4096 if kind == "verbatim" else 400
            for name, beside in (("delta_h/null", 0), ("delta_s/null", shift)):
                rows.append(
                    {
                        "caption_sha256": sha, "map": name, "truth": truth, "mask": truth + beside,
                        "both": truth, "swept": [4096, truth + beside, 0],
                        "swept_both": [truth, truth, 0],
                    }
                )  # fmt: skip
    return pa.Table.from_pylist(rows, tables.MAP_ROW)


def test_overlaps_are_of_captions_that_are_given_back_by_the_size_of_the_region(captions):
    maps = localization.Maps(maps_table(captions, 400), captions)
    rows = localization.measured(maps, draws=50)
    whole = row_of(rows, map="delta_h/null", pool="template")
    assert whole["maps"] == 16
    assert whole["deployed"] == whole["oracle"] == 1
    small = row_of(rows, map="delta_s/null", pool="template, 5%")
    assert small["maps"] == 8
    assert small["deployed"] == pytest.approx(0.5)
    assert row_of(rows, map="delta_s/null", pool="template, never given back")["maps"] == 24
    pairs = localization.compared(maps, draws=50)
    other = row_of(pairs, pool="template")
    assert other["deployed"] == pytest.approx(-0.5)
    assert other["deployed_interval"] == [pytest.approx(-0.5), pytest.approx(-0.5)]


def test_a_checkpoint_that_a_column_is_of_is_called_early():
    assert tables.plain("delta_h_step-04500") == "delta_h_early"
    assert tables.plain("delta_h/step-04500") == "delta_h/early"
    assert tables.plain("delta_s/null") == "delta_s/null"

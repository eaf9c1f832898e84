"""Curves are found again where they are known; two rules say what a copy is."""

import numpy as np
import pytest

from scanner.testbed.benchmark import extraction, items, measure, response, starting
from scanner.testbed.benchmark.doses import Doses


def curve(dose, middle=1000.0, slope=3.0):
    return 1 / (1 + np.exp(-slope * np.log2(dose / middle)))


def test_a_known_curve_is_found_again_within_its_interval():
    rng = np.random.default_rng(3)
    doses = np.repeat([0, 64, 256, 512, 724, 1024, 1448, 2048], 12)
    chance = np.where(doses > 0, curve(np.maximum(doses, 1e-9)), 0)
    hits = rng.binomial(20, chance)
    found = response.fit(doses, hits, [20] * len(doses), [f"f{i}" for i in range(len(doses))])
    assert abs(found.effective[50].value / 1000 - 1) < 0.06
    for percent, estimate in found.effective.items():
        true = 1000 * 2 ** (np.log(percent / (100 - percent)) / 3)
        assert estimate.low * 0.95 < true < estimate.high * 1.05
        assert found.crossed[percent]
    assert found.at(1000) == pytest.approx(0.5, abs=0.08)


def test_what_never_responds_has_no_effective_dose_inside_the_range():
    doses = [64, 128, 256] * 4
    found = response.fit(doses, [0] * 12, [20] * 12, [str(i) for i in range(12)])
    assert found.effective[50].value > 256
    assert not any(found.crossed.values())


def test_doses_that_separate_the_responses_entirely_give_a_finite_slope():
    found = response.fit([64, 128, 256, 512], [0, 0, 20, 20], [20] * 4, list("abcd"))
    assert np.isfinite(found.slope.value)
    assert 128 < found.effective[50].value < 256


def test_captions_of_one_family_widen_the_interval():
    rng = np.random.default_rng(0)
    doses = np.repeat([256, 512, 1024, 2048, 4096], 8)
    shift = np.repeat(rng.normal(0, 2, 20), 2)  # what a family has in common
    hits = rng.binomial(20, 1 / (1 + np.exp(-(2 * np.log2(doses / 1000) + shift))))
    tried = [20] * len(doses)
    alone = response.fit(doses, hits, tried, [str(i) for i in range(40)]).effective[50]
    together = response.fit(doses, hits, tried, [str(i // 2) for i in range(40)]).effective[50]
    assert together.high - together.low > alone.high - alone.low


def test_a_curve_needs_two_doses():
    with pytest.raises(ValueError, match="at least two positive doses"):
        response.fit([0, 64, 64], [0, 1, 2], [20] * 3, list("abc"))


def test_near_equal_samples_form_a_clique_and_flat_grounds_do_not_make_one():
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    noisy = [
        np.clip(base + rng.normal(0, 8, base.shape), 0, 255).astype(np.uint8) for _ in range(6)
    ]
    others = [rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(4)]
    distances = extraction.tiled_distances(noisy + others)
    assert np.allclose(distances, distances.T)
    assert extraction.largest_clique(distances) == 6
    flat = np.full((3, 64, 64, 3), 255, np.uint8)
    for place in range(3):
        flat[place, 4:20, 20 * place : 20 * place + 16] = 0
    assert np.sqrt(((flat[0] / 255 - flat[1] / 255) ** 2).mean()) < 0.4
    assert extraction.largest_clique(extraction.tiled_distances(list(flat))) == 1


def test_an_items_own_picture_is_a_copy_and_another_one_is_not(tmp_path):
    planted = items.items(3, items.Numbers(verbatim=1, template=2))
    vae = starting.load_vae(tmp_path)
    for item in (planted[0], next(i for i in planted if i.kind == "template")):
        one = extraction.Asked(item, 64.0, item.captions[0], "planted")
        own = extraction.seen(vae, [items.picture(3, item, 5)])[0]
        other = items.picture(3, planted[1], 0)
        row = extraction.judge(one, [own, other, own], vae, 3)
        assert row["copies"] == 2
        assert row["floor"] > 0
        assert row["clique"] == pytest.approx(2 / 3)


def test_captions_asked_are_those_of_items_that_repeat_something():
    planted = items.items(3, items.Numbers(verbatim=1, template=2))
    asked = extraction.asked(Doses(tuple(planted), np.zeros(len(planted))))
    assert {a.item.arm for a in asked} >= {"verbatim", "template", "captions-20", "retrieved"}
    assert not {a.item.kind for a in asked} & {"name", "art", "character", "style"}
    assert sum(a.role == "held-out" for a in asked) > 0


def test_an_arm_has_a_curve_where_it_has_items_enough():
    rng = np.random.default_rng(5)
    rows = [
        {"arm": arm, "role": "planted", "region": 30, "family": f"{arm}-{i}", "seeds": 20,
         "dose": dose, "copies": int(rng.binomial(20, curve(dose) if dose else 0))}
        for arm, number in (("template", 6), ("siblings", 1))
        for i, dose in enumerate([0, 256, 512, 1024, 2048, 4096] * number)
    ]  # fmt: skip
    rows.append(rows[0] | {"role": "held-out", "copies": 20})
    found = {row["arm"]: row for row in measure.curves(rows)}
    assert set(found) == {"siblings", "template", "template, 30%"}
    assert found["template"]["shares"]["0"] == 0
    assert 800 < found["template"]["ed50"]["value"] < 1250
    assert "ed50" not in found["siblings"]
    text = measure.as_text([{"checkpoint": "step-00004", **row} for row in found.values()])
    assert "template, 30%" in text

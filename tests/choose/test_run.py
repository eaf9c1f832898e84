"""Choices: maps against the closed form, recommendations on made maps, the command on shards."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_loras import lora_file
from PIL import Image
from typer.testing import CliRunner

from scanner import models
from scanner.analysis.truth import Truth
from scanner.choose.profile import profile
from scanner.choose.ranking import choose
from scanner.choose.run import _steps
from scanner.cli import app
from scanner.errors import ConfigError
from scanner.models.gaussian import Gaussian
from scanner.models.overlay import Lora, Overlay
from scanner.numerics.schedule import Schedule
from scanner.records import caption_hash
from scanner.scan.evaluation_counter import EvaluationCounter
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.localization import localize
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, make

SPEC = ScanSpec(seeds=(0, 1), steps=10, guidance_scale=2.0, probes=4, localize="all")
DRAWS = [Draw(t, caption_hash(t), s) for t in ("one caption", "another") for s in (0, 1)]


def test_maps_along_a_trajectory_are_the_closed_forms_and_what_a_scan_takes_there():
    """Δh of a Gaussian is ``1 / (a² v + σ²) - 1`` wherever the trajectory is."""
    model = Gaussian()
    found = profile(model, {"same": model}, DRAWS, SPEC, (3, 9))
    assert {step for _, _, step in found} == {3, 9}
    schedule = model.schedule(10)
    for step in (3, 9):
        alpha, sigma = schedule.alphas[step], schedule.sigmas[step]
        for number, draw in enumerate(DRAWS):
            _, variance = model.encode([draw.text])[0]
            expected = (1 / (alpha**2 * variance + sigma**2) - 1).sum(dim=0)
            assert torch.allclose(found["delta_h", "null", step][number], expected, rtol=1e-3)
        assert not found["delta_h", "same", step].any()
        assert not found["delta_s", "same", step].any()
    for back in (0, 6):
        asked = replace(SPEC, map_back=back)
        seen = detect(model, DRAWS, asked)
        whole = localize(model, {"same": model}, DRAWS, seen, asked)
        step = 9 - back
        assert torch.allclose(found["delta_s", "null", step], seen.delta_s, rtol=1e-4)
        own = whole.maps["delta_h", "null"]
        assert torch.allclose(found["delta_h", "null", step], own, rtol=1e-4)
        assert not whole.maps["delta_h", "same"].any()
        assert not whole.maps["delta_s", "same"].any()


def test_a_profile_costs_what_it_says():
    from collections import Counter

    counts = Counter()
    profile(
        EvaluationCounter(Gaussian(), counts),
        {"b": EvaluationCounter(Gaussian(), counts)},
        DRAWS,
        SPEC,
        (3, 9),
    )
    # Two a step; at a measured one a third, and 4 products through three branches.
    assert counts == {"forward": 4 * (2 * 10 + 2), "vjp": 4 * 2 * 4 * 3}


RNG = np.random.default_rng(0)
MASK = np.zeros((8, 8), bool)
MASK[:, :4] = True


def made(good, *, seeds=4, captions=32):
    """Maps that see the memory at one (metric, baseline, step) alone, and how well."""
    known = [
        Truth("template", f"t{n}", True, MASK)
        if n % 2 == 0
        else Truth("scene", f"s{n}", False, None)
        for n in range(captions)
    ]
    maps = {}
    for metric in ("delta_s", "delta_h"):
        for baseline in ("null", "early"):
            for step in (7, 8, 9):
                values = RNG.random((captions, seeds, 8, 8))
                strength = good.get((metric, baseline, step), 0.0)
                values[::2] += strength * MASK
                maps[metric, baseline, step] = values.astype(np.float32)
    return maps, known, tuple((timestep, timestep / 100) for timestep in range(100, 0, -10))


def test_the_recommended_maps_are_those_that_see_the_memory():
    found = choose(*made({("delta_h", "early", 8): 9.0, ("delta_s", "null", 7): 0.8}))
    best = found.localization
    assert (best.metric, best.baseline, best.step, best.timestep) == ("delta_h", "early", 8, 20)
    assert best.iou > 0.95
    assert best.held_iou > 0.95
    # Both detect perfectly; the score difference costs nothing.
    assert (found.detection.metric, found.detection.step) == ("delta_s", 7)
    assert found.counts["choosing_memorized"] == found.counts["held_out_memorized"] == 8
    last = [p for p in found.points if (p.metric, p.baseline, p.step) == ("delta_s", "null", 9)]
    assert last[0].auc < 0.9
    text = found.as_text()
    assert "localize by delta_h against early at timestep 20, noise 0.2 (--map-back 1)" in text
    assert json.loads(found.as_json())["localization"]["step"] == 8


def test_among_equals_the_cheapest_and_the_step_nearest_the_end_is_taken():
    found = choose(*made({(m, b, s): 9.0 for m in ("delta_s", "delta_h") for b in ("null", "early")
                          for s in (8, 9)}))  # fmt: skip
    for best in (found.detection, found.localization):
        assert (best.metric, best.baseline, best.step) == ("delta_s", "null", 9)


def test_as_many_seeds_are_recommended_as_the_noise_asks_for():
    """A weak signal in the mean of every map, drowned by noise of each seed's own."""
    quiet = made({("delta_s", "null", 9): 5.0})
    assert choose(*quiet).number == 1
    maps, known, timesteps = made({}, seeds=6, captions=400)
    noise = RNG.normal(0, 1, (400, 6, 1, 1))
    maps["delta_s", "null", 9][:] = noise + 1.2 * (np.arange(400) % 2 == 0)[:, None, None, None]
    found = choose(maps, known, timesteps)
    assert found.number >= 4
    rates = [s.auc for s in found.seeds]
    assert rates == sorted(rates)
    # Φ(1.2 sqrt(n / 2)) is the AUC of n seeds.
    phi = [
        0.5 * (1 + torch.erf(torch.tensor(1.2 * (n / 2) ** 0.5 / 2**0.5)).item()) for n in (1, 6)
    ]
    assert [rates[0], rates[5]] == pytest.approx(phi, abs=0.05)


def test_a_half_without_positives_is_refused():
    maps, known, timesteps = made({}, captions=4)
    alike = [Truth("template", "one", True, MASK) if t.memorized else t for t in known]
    with pytest.raises(ConfigError, match="each half of the families must have"):
        choose(maps, alike, timesteps)


def test_levels_are_the_samplers_nearest_to_a_noise():
    schedule = Gaussian().schedule(20)
    ratios = [s / a for a, s in zip(schedule.alphas[:-1], schedule.sigmas[:-1], strict=True)]
    assert _steps(schedule, (ratios[7], ratios[18] * 1.01, ratios[18])) == [7, 18]
    assert _steps(schedule, ()) == [4, 8, 12, 14, 16, 17, 18, 19]
    flow = Schedule.from_flow((1.0, 0.75, 0.5, 0.2, 0.0), 1)
    assert _steps(flow, (1.1, 0.25, 3.0)) == [1, 2, 3]
    for wanted in (3.2, 0.2, 0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match=r"from 0.25 to 3, .* of the sampler's 4 steps"):
            _steps(flow, (wanted,))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Shards and truth of six memorized captions and six others."""
    place = tmp_path_factory.mktemp("planted")
    items = make.evaluation_items(SHIPPED_SEED, 4)
    few = [i for kind in ("template", "name") for i in [i for i in items if i.kind == kind][:6]]
    make.write_shards(SHIPPED_SEED, few, place, "few")
    make.write_truth(few, place / "truth.parquet")
    return place


def test_a_lora_and_its_base_are_measured_at_levels_of_a_noise(planted, tmp_path):
    pytest.importorskip("peft")
    file = lora_file(WEIGHTS / "pipeline", tmp_path / "mine.safetensors", words=True)
    asked = [
        "choose", str(planted / "few-*.tar"), "--truth", str(planted / "truth.parquet"),
        "--model", str(WEIGHTS / "pipeline"), "--lora", f"{file}:0.3", "--baseline", "off",
        "--baseline", "prompt:a photo", "--noise", "0.5", "--noise", "0.1", "--seeds", "1",
        "--steps", "6", "--probes", "1", "--captions", "8", "--json", "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(app, asked)
    assert done.exception is None
    found = json.loads(done.stdout)
    assert {p["baseline"] for p in found["points"]} == {"null", "off", "prompt"}
    levels = {(p["step"], round(p["noise"], 3)) for p in found["points"]}
    schedule = models.load(str(WEIGHTS / "pipeline")).schedule(6)
    assert len(levels) == 2
    for step, noise in levels:
        assert noise == pytest.approx(schedule.sigmas[step] / schedule.alphas[step], abs=1e-3)
    for more, said in (
        (("--noise", "99"), "noise must be from"),
        (("--lora", str(tmp_path / "none.safetensors")), "no file"),
        (("--model", "gaussian"), "need a diffusers pipeline under them"),
    ):
        assert said in str(CliRunner().invoke(app, [*asked, *more]).exception)


def test_baselines_of_a_profile_have_their_own_words(tmp_path):
    pytest.importorskip("peft")
    file = lora_file(WEIGHTS / "pipeline", tmp_path / "mine.safetensors", words=True)
    model = models.load(str(WEIGHTS / "pipeline"), overlay=Overlay((Lora(str(file)),)))
    off = models.load_baseline("off", model)
    prompted = models.load_baseline("prompt:one caption", model)
    spec = replace(SPEC, steps=4, probes=1)
    found = profile(model, {"off": off, "prompt": prompted}, DRAWS[:1], spec, (3,))
    assert found["delta_s", "prompt", 3].max() < 1e-6  # the caption itself, in another batch
    seen = detect(model, DRAWS[:1], spec)
    whole = localize(model, {"off": off}, DRAWS[:1], seen, spec)
    expected = whole.maps["delta_s", "off"]
    assert torch.allclose(found["delta_s", "off", 3], expected, rtol=1e-3, atol=1e-6)
    assert expected.max() > 1e-3


def test_the_command_measures_the_shipped_model_and_writes_what_it_found(planted, tmp_path):
    asked = [
        "choose", str(planted / "few-*.tar"), "--truth", str(planted / "truth.parquet"),
        "--model", str(WEIGHTS / "pipeline"), "--baseline", str(WEIGHTS / "early"), "--seeds", "2",
        "--steps", "6", "--guidance-scale", "2.5", "--captions", "12", "--json",
        "--out", str(tmp_path / "c.json"), "--figure", str(tmp_path / "c.png"), "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(app, asked)
    assert done.exception is None
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "c.json").read_text())
    assert found["detection"]["auc"] > 0.9
    assert found["localization"]["iou"] > 0.6
    assert {(p["metric"], p["baseline"]) for p in found["points"]} == {
        (m, b) for m in ("delta_s", "delta_h") for b in ("null", "early")
    }
    assert {p["timestep"] for p in found["points"]} >= {1}
    # 12 captions, 2 seeds; 6 steps of which 5 are measured.
    assert found["evaluations"]["forward"] == 24 * (6 * 2 + 5)
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.width > 1000
    for more, said in (
        (("--truth", str(tmp_path / "nothing.parquet")), "nothing.parquet cannot be read"),
        (("--device", "abacus"), "device must be one of auto, cpu"),
        (("--baseline", str(WEIGHTS / "early")), "baselines must have distinct names"),
    ):
        assert said in str(CliRunner().invoke(app, [*asked, *more]).exception)

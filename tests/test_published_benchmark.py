"""The published procedure restated agrees with memscan, and is what memscan is measured against."""

import importlib
import json
from argparse import Namespace
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from scanner import models
from scanner.models.overlay import Lora, Overlay
from scanner.numerics import noise
from scanner.numerics.curvature import exact_diagonal
from scanner.records import caption_hash
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.localization import localize
from scanner.scan.stages.sampling import detect
from scanner.spec import PRESETS, ScanSpec
from scanner.testbed import WEIGHTS, lora

STEPS, GUIDANCE, PRODUCTS = 3, 4.0, 2
CAPTION = "a small red circle left of a blue star on a green background"
LORA = Overlay((Lora(str(WEIGHTS / "lora" / lora.FILE)),))


def module(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def procedure():
    return module("published_procedure")


@pytest.fixture(scope="module")
def runs():
    return module("published_runs")


@pytest.fixture(scope="module")
def published():
    return module("published")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A tiny pipeline that predicts noise; a latent has 256 entries."""
    return models.load(str(tiny.save(tiny.sd15, tmp_path_factory.mktemp("small") / "sd15")))


def start(model):
    return noise.initial_latent(caption_hash(CAPTION), 0, model.latent_shape)[None]


@pytest.mark.parametrize("name", ["noise", "velocity", "LoRA", "flow"])
def test_a_scan_agrees_with_the_published_procedure(procedure, runs, small, name):
    folders = {"velocity": ("pipeline", None), "LoRA": ("pipeline", LORA), "flow": ("dit", None)}
    model = small
    if name == "LoRA":
        pytest.importorskip("peft")
    if name in folders:
        folder, overlay = folders[name]
        model = models.load(str(WEIGHTS / folder), overlay=overlay)
    pipeline, number = model.pipeline, PRODUCTS
    network = procedure.Transformer if name == "flow" else procedure.UNet
    theirs = procedure.Published(network(pipeline), pipeline.scheduler, STEPS, GUIDANCE)
    key = caption_hash(CAPTION), 0, model.latent_shape, number, "rademacher"
    score = theirs.score(CAPTION, start(model))
    values = theirs.map(CAPTION, start(model), list(noise.probes(*key)[:, None]))

    spec = ScanSpec(
        steps=STEPS, guidance_scale=GUIDANCE, probes=number, probe_design="rademacher"
    )  # fmt: skip
    draws = [Draw(text, caption_hash(text), 0) for text in ("another caption", CAPTION)]
    detected = detect(model, draws, spec)
    ours = localize(model, {}, draws, detected, spec).maps["delta_h", "null"][1]

    assert float(detected.delta_s[1].mean()) == pytest.approx(score, rel=1e-4)
    assert float((ours - values).norm() / values.norm()) < 1e-3
    assert theirs.spent == {"forward": 4 * STEPS, "vjp": 2 * number}


def test_the_exact_map_is_that_of_the_jacobians_diagonal(procedure, small):
    pipeline = small.pipeline
    theirs = procedure.Published(procedure.UNet(pipeline), pipeline.scheduler, STEPS, GUIDANCE)
    spec = ScanSpec(steps=STEPS, guidance_scale=GUIDANCE)
    point = detect(small, [Draw(CAPTION, caption_hash(CAPTION), 0)], spec).point
    levels = small.schedule(STEPS)
    level = levels.timesteps[-1], levels.alphas[-2], levels.sigmas[-2]
    own, null = small.encode([CAPTION]), small.encode([""])

    def gap(x):
        return small.score(x, level, null) - small.score(x, level, own)

    expected = exact_diagonal(gap, point).sum(1)[0]
    found = theirs.exact(CAPTION, start(small))
    assert float((found - expected).norm() / expected.norm()) < 1e-3
    assert theirs.spent["vjp"] == 2 * point.numel()


def test_a_network_of_clean_latents_is_refused(procedure, small):
    scheduler = type(small.pipeline.scheduler).from_config(
        small.pipeline.scheduler.config, prediction_type="sample"
    )
    theirs = procedure.Published(procedure.UNet(small.pipeline), scheduler, STEPS)
    with pytest.raises(ValueError, match="not of networks that predict sample"):
        theirs.score(CAPTION, start(small))


def test_errors_are_relative_to_the_exact_map_at_the_end_of_each_trajectory(runs, small):
    asked = Namespace(steps=STEPS, guidance=GUIDANCE)
    spec = ScanSpec(steps=STEPS - 1)
    ours = {"short": spec, "image": ScanSpec(source="image")}
    exact = [runs.procedure(small, n, GUIDANCE).exact(CAPTION, start(small)).double().numpy()
             for n in (STEPS, STEPS - 1)]  # fmt: skip
    ways = {"published": runs.Way(maps={CAPTION: exact[0]}), "image": runs.Way(),
            "short": runs.Way(maps={CAPTION: 1.5 * exact[1]})}  # fmt: skip
    runs.add_errors(ways, small, ours, [SimpleNamespace(caption=CAPTION)], asked)
    assert ways["published"].errors[CAPTION] == pytest.approx(0, abs=1e-5)
    assert ways["short"].errors[CAPTION] == pytest.approx(0.5, rel=1e-5)
    assert ways["image"].errors == {}


def test_presets_are_those_of_the_command_line(runs):
    asked = Namespace(guidance=2.5)
    found = runs.specs(asked, 12)
    assert list(found) == ["paper", "structured", "balanced", "fast", "image"]
    for name, preset in PRESETS.items():
        for field, value in preset.items():
            expected = 2.5 if field == "guidance_scale" else value
            assert getattr(found[name], field) == expected, (name, field)
    assert (found["structured"].steps, found["structured"].probes) == (found["paper"].steps, 12)
    assert found["image"].source == "image"
    assert {spec.guidance_scale for spec in found.values()} == {2.5}


def test_the_tables_are_measured_and_written(published, runs, tmp_path, monkeypatch):
    toys = {
        "paper": {"steps": STEPS, "probes": PRODUCTS, "probe_design": "rademacher"},
        "balanced": {"steps": 2, "probes": 1}, "fast": {"steps": 2, "probes": 1},
    }  # fmt: skip
    monkeypatch.setattr(runs, "PRESETS", toys)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{published.MARKS[0]}\nold\n{published.MARKS[1]}\nafter\n")
    options = {"--out": tmp_path, "--docs": page, "--model": "unet", "--captions": 4,
               "--negatives": 2, "--exact": 0, "--batch": 2, "--steps": STEPS,
               "--products": PRODUCTS, "--flagged": 0.25}  # fmt: skip
    words = [str(word) for pair in options.items() for word in pair]
    monkeypatch.setattr("sys.argv", ["published.py", *words])
    threads = torch.get_num_threads()
    try:
        published.main()
    finally:
        torch.set_num_threads(threads)

    content = page.read_text()
    assert content.startswith(f"before\n{published.MARKS[0]}\nOf each model 4 memorized captions")
    assert content.endswith(f"\n{published.MARKS[1]}\nafter\n")
    assert content.split(published.MARKS[0])[1].split(published.MARKS[1])[0].strip() == (
        (tmp_path / "published.md").read_text().strip()
    )
    ways = json.loads((tmp_path / "published.json").read_text())["models"]["U-Net"]
    assert list(ways) == ["published", "paper", "structured", "balanced", "fast", "image"]
    for way in ways.values():
        assert len(way["scores"]) == 6
    for caption, score in ways["published"]["scores"].items():
        assert ways["paper"]["scores"][caption] == pytest.approx(score, rel=1e-4)
        assert ways["structured"]["scores"][caption] == pytest.approx(score, rel=1e-4)
    published_row = f"| U-Net | published | — | {4 * STEPS} F + {2 * PRODUCTS} V | — | — | 1 |"
    assert published_row in content
    theirs, paper = ways["published"], ways["paper"]
    both = {which: sum(one["wall"] for one in paper[which]) for which in ("clean", "mapped")}
    whole = sum(one["wall"] for one in theirs["clean"])
    quarter = whole / (both["clean"] + 0.25 * both["mapped"])
    assert paper["ratios"][1]["wall"] == pytest.approx(quarter)
    counts = f"{2 * STEPS} F | {2 * STEPS + 2} F + {2 * PRODUCTS} V"
    assert f"| U-Net | paper | {counts} | " in content
    assert f"| {quarter:.1f} (" in content
    assert "maps of 25%" in content


def way(runs, seconds, scores, maps, *, products=32):
    return runs.Way(
        clean=[runs.Spent(seconds, seconds)], mapped=[runs.Spent(seconds, seconds)], captions=[4],
        evaluations={name: Counter(forward=200, vjp=products) for name in ("clean", "mapped")},
        scores=scores, maps=maps,
    )  # fmt: skip


def test_goals_are_met_or_missed(published, runs):
    masks = [np.zeros((8, 8), bool) for _ in range(4)]
    for place, mask in enumerate(masks):
        mask[:4, : 4 + place % 2] = True
    items = [
        SimpleNamespace(caption=f"t{n}", family=f"t{n}", kind="template", memorized=True, mask=mask)
        for n, mask in enumerate(masks)
    ]
    items += [SimpleNamespace(caption=f"c{n}", family=f"c{n}", kind="scene", memorized=False)
              for n in range(4)]  # fmt: skip
    of = [SimpleNamespace(item=item) for item in items]
    good = {item.caption: float(item.memorized) for item in items}
    upside_down = {item.caption: float(not item.memorized) for item in items}
    right = {item.caption: item.mask * 4.0 for item in items[:4]}
    wrong = {item.caption: ~item.mask * 4.0 for item in items[:4]}
    ways = {
        "published": way(runs, 60.0, good, right),
        "paper": way(runs, 20.0, good, right),
        "structured": way(runs, 2.0, upside_down, right),
        "balanced": way(runs, 0.7, good, wrong),
    }
    ways["published"].mapped = []
    for name, error in (("published", 0.2), ("paper", 0.2), ("structured", 0.3)):
        ways[name].errors = {"t0": error}
    found = runs.Measured(SimpleNamespace(name="toy"), of, ways)
    lines = published.goal_table([found], [published.qualities(found)], 0.01)
    assert lines[2:] == [
        "| toy | paper | ≥ 5 | **missed** | **missed** | met | met | met |",
        "| toy | structured | ≥ 5 | met | met | **missed** | met | **missed** |",
        "| toy | balanced | ≥ 60 | met | **missed** | met | **missed** | — |",
    ]

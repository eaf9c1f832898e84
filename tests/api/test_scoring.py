"""Captions and images through the public functions: the numbers are those of a scan."""

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scan_here import scan_here

import scanner
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.masks import from_heatmap, from_runs
from scanner.results.folder import Results
from scanner.spec import ScanSpec

CAPTIONS = ["a small red circle", "two blue stars", "a small red circle", "striped ground"]
STEPS = {"steps": 6, "probes": 4, "seeds": 2}


@pytest.fixture(scope="module")
def model():
    return scanner.load_model("gaussian", device="cpu")


@pytest.fixture(scope="module")
def calibration(model):
    null = [f"null caption {n}" for n in range(39)]
    return scanner.calibrate(model, null, **STEPS)


def shard_of(folder, captions):
    from engine_harness import write_shard

    return write_shard(folder / "a.tar", captions)


def table(results, name):
    found = Results(results)
    return [
        row
        for file in found.files(name, found.runs())
        for row in pq.read_table(file, partitioning=None).to_pylist()
    ]


def test_scores_maps_and_masks_are_those_of_a_scan(model, calibration, tmp_path):
    found = scanner.score(
        model, CAPTIONS, calibration=calibration, detectors=["wen_first", "sharpness"], fpr=0.2
    )
    calibration.save(tmp_path / "c.json")
    spec = ScanSpec(
        steps=6, probes=4, seeds=(0, 1), localize="all", fpr=0.2,
        detectors=("wen_first", "sharpness"),
    )  # fmt: skip
    job = Job(
        model="gaussian", shards=(str(shard_of(tmp_path, CAPTIONS)),), spec=spec,
        results=str(tmp_path / "r"), calibration=str(tmp_path / "c.json"),
    )  # fmt: skip
    scan_here(job)
    rows = {(int(row["key"]), row["seed"]): row for row in table(tmp_path / "r", "scores")}
    assert len(rows) == 8 == 2 * len(found)
    for position, one in enumerate(found):
        assert (one.caption, one.seeds) == (CAPTIONS[position], (0, 1))
        for at, seed in enumerate(one.seeds):
            row = rows[position, seed]
            for name, values in one.scores.items():
                assert values[at] == pytest.approx(row[name], rel=2e-5), name
            assert (one.p_value, one.flagged) == (row["p_value"], row["flagged"])
    assert set(one.scores) == {"delta_s", "delta_h", "curvature", "wen_first", "sharpness"}
    for row in table(tmp_path / "r", "masks"):
        own, at = found[int(row["key"])].maps[row["metric"]], row["seed"]
        size = row["height"], row["width"]
        logs = np.sign(own.values[at]) * np.log1p(np.abs(own.values[at]))
        stored = from_heatmap(row["heatmap"], *size)
        assert np.allclose(np.sign(stored) * np.log1p(np.abs(stored)), logs, atol=2e-3)
        assert own.sigma == row["sigma"]
        assert own.threshold[at] == pytest.approx(row["threshold"])
        assert np.array_equal(own.masks[at], from_runs(row["mask"], *size))


def test_the_maps_are_the_closed_forms(model):
    """The Gaussian model's curvature is known exactly; of a memorized caption it has a step."""
    moments = {text: model.denoiser.encode([text])[0, 1].numpy() for text in map(str, range(40))}
    memorized = next(text for text in moments if np.ptp(moments[text]) > 0)
    one = scanner.score(model, memorized, steps=6, probes=4)[0]
    values = one.maps["delta_s"].values
    assert values.dtype == np.float32
    assert one.delta_s == pytest.approx(float(values.astype(np.float64).mean()), rel=1e-6)
    curvature = one.maps["curvature"].values[0]
    schedule = model.denoiser.schedule(6)
    alpha, sigma = schedule.alphas[-2], schedule.sigmas[5]
    exact = (1 / (alpha**2 * moments[memorized] + sigma**2)).sum(axis=0)
    assert np.corrcoef(curvature.ravel(), exact.ravel())[0, 1] > 0.999


def test_a_calibration_brings_its_settings_and_refuses_others(model, calibration):
    assert scanner.score(model, "a caption", calibration=calibration)[0].seeds == (0, 1)
    with pytest.raises(ConfigError, match=r"steps \(calibration 6, scan 7\)"):
        scanner.score(model, "a caption", calibration=calibration, steps=7)
    other = replace(calibration, model="another")
    with pytest.raises(ConfigError, match="of the model that is scanned"):
        scanner.score(model, "a caption", calibration=other)


def test_a_calibration_is_kept_in_a_file(calibration, tmp_path):
    calibration.save(tmp_path / "c.json")
    assert scanner.Calibration.load(tmp_path / "c.json") == calibration
    with pytest.raises(ConfigError, match="cannot be read"):
        scanner.Calibration.load(tmp_path / "none.json")


def test_an_image_is_scored_at_itself_whatever_it_comes_as(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    picture, stream = Image.fromarray(pixels), io.BytesIO()
    picture.save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    forms = [pixels, picture, stream.getvalue(), tmp_path / "a.png", str(tmp_path / "a.png")]
    found = scanner.score_images(model, forms, ["a red circle"] * len(forms), probes=4)
    for one in found:
        assert one.rejected is None
        assert one.images is None
        assert one.maps["snap_back"].values.shape == (1, 8, 8)
        assert one.delta_s == pytest.approx(found[0].delta_s, rel=2e-5)
    broken = scanner.score_images(model, [b"none", pixels], ["a", "b"], probes=4)
    assert broken[0].rejected.startswith("unreadable_image: ")
    assert np.isnan(broken[0].delta_s)
    assert broken[0].caption == "a"
    assert broken[1].rejected is None


def test_a_calibration_of_images_says_how_much_is_stored(model):
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(9)]
    null = scanner.calibrate(model, ["a b", "c d"], steps=4)
    with pytest.raises(ConfigError, match="scan's source"):
        scanner.score_images(model, noise[:1], ["a"], calibration=null)
    found = scanner.score_images(model, noise, ["a b"] * 9, pixel_threshold=-1e9, probes=4)
    assert {one.pinned for one in found} <= {("whole",), ("region",), ("none",)}
    assert scanner.score(model, "a b", pixel_threshold=-1e9, steps=4)[0].pinned == ()


def test_without_maps_there_are_scores_alone(model):
    one = scanner.score(model, "a caption", localize="none", **STEPS)[0]
    assert (one.maps, one.images, set(one.scores)) == ({}, None, {"delta_s"})
    assert np.isnan(one.delta_h)
    with pytest.raises(ConfigError, match="localize='all'"):
        scanner.plot(one)


def test_a_caption_in_a_figure_is_no_formula(model):
    (one,) = scanner.score(model, "costs $5_$ or \\frac{a}{$", localize="all", steps=4)
    figure = scanner.plot(one)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert "$5_$" in figure.get_suptitle()


def test_a_figure_has_the_picture_and_the_outlined_maps(model, calibration):
    one = scanner.score(model, "a small red circle", calibration=calibration, fpr=0.2)[0]
    figure = scanner.plot(one, seed=1)
    assert [axes.get_title() for axes in figure.axes][:2] == ["generated", "delta_h"]
    drawn = figure.axes[1].images[0].get_array()
    assert np.array_equal(drawn, one.maps["delta_h"].values[1])
    figure.savefig(stream := io.BytesIO())
    assert stream.getvalue().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="seed must be one of 0, 1, got 7"):
        scanner.plot(one, seed=7)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"captions": []}, "at least one"),
        ({"captions": ["a", " "]}, "not blank, got ' ' at 1"),
        ({"captions": ["a", 3]}, "got 3 at 1"),
        ({"detectors": "wen_first"}, r"write \['wen_first'\]"),
        ({"detectors": ["nonsense"]}, "detectors must be among"),
        ({"steps": 0}, "steps must be in 1..1000"),
        ({"seeds": 0}, "seeds must be distinct"),
        ({"baseline": "nowhere/at/all"}, "a baseline network needs a diffusers pipeline beside it"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_a_line(model, asked, said):
    captions = asked.pop("captions", ["a caption"])
    with pytest.raises(ConfigError, match=said):
        scanner.score(model, captions, **asked)


def test_a_name_that_is_no_setting_is_refused_as_of_any_function(model):
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        scanner.score(model, "a caption", step=3)


@pytest.mark.parametrize(
    ("images", "captions", "said"),
    [
        (["/nowhere.png"], ["a"], "cannot be read"),
        ([np.zeros((3, 3), np.uint8)], ["a"], r"\(height, width, 3\) uint8"),
        ([3], ["a"], "an image must be a path"),
        ([b""], ["a", "b"], "every image needs a caption, got 1 and 2"),
        ([b""], None, "give baseline"),
    ],
)
def test_images_that_cannot_be_scored_are_refused(model, images, captions, said):
    with pytest.raises(ConfigError, match=said):
        scanner.score_images(model, images, captions)


def test_what_another_calibration_left_in_the_same_place_does_not_count(model, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = str(shard_of(tmp_path / "first", [f"a first caption, number {n}" for n in range(9)]))
    second = str(shard_of(tmp_path / "second", [f"another one, number {n}" for n in range(7)]))
    work, usual = tmp_path / "work", {"steps": 4, "probes": 4}
    alone = scanner.calibrate(model, shards=[second], work=tmp_path / "other", **usual)
    assert scanner.calibrate(model, shards=[first], work=work, **usual).captions == 9
    again = scanner.calibrate(model, shards=[second], work=work, **usual)
    assert (again.captions, again.null_scores) == (7, alone.null_scores)
    assert again.pixel_thresholds == alone.pixel_thresholds
    assert scanner.calibrate(model, shards=[first, second], work=work, **usual).captions == 16


def test_calibrate_takes_captions_or_shards(model, calibration, tmp_path):
    with pytest.raises(ConfigError, match="captions or shards"):
        scanner.calibrate(model)
    shard = str(shard_of(tmp_path, [f"null caption {n}" for n in range(39)]))
    again = scanner.calibrate(model, shards=[shard], work=tmp_path / "work", **STEPS)
    assert again.fingerprint() == calibration.fingerprint()
    assert Results(tmp_path / "work").runs()
    with pytest.raises(ConfigError, match="both --screen-recall and --positives"):
        scanner.calibrate(model, ["a", "b"], screen_recall=0.9, **STEPS)


def test_a_screen_is_fitted_on_memorized_captions(model):
    null = [f"null caption {n}" for n in range(9)]
    kept = scanner.calibrate(model, null, positives=CAPTIONS, screen_recall=0.5, steps=4)
    assert kept.screen.positives == 3


def test_a_noise_is_the_nearest_timestep_of_the_model(model, tmp_path):
    from scanner.models.noise import nearest_timestep

    images = [np.full((32, 32, 3), shade, np.uint8) for shade in (20, 200)]
    timestep, _ = nearest_timestep("gaussian", 0.4)
    asked = {"probes": 4, "captions": ["a b", "c d"]}
    by_noise, by_timestep, usual = (
        [found.delta_s for found in scanner.score_images(model, images, **asked, **level)]
        for level in ({"noise": 0.4}, {"timestep": timestep}, {"noise": None})
    )
    assert by_noise == by_timestep != usual
    shard = shard_of(tmp_path, ["one"])
    done = scanner.scan_shards(
        str(shard), model, tmp_path / "r", source="image", noise=0.4, probes=4, progress=False
    )
    spec = Results(str(tmp_path / "r")).run_file(done.run).content["spec"]
    assert spec["timestep"] == timestep
    for level, said in (
        ({"noise": 0.4, "timestep": 61}, "noise and timestep exclude each other"),
        ({"noise": 99}, "noise must be from"),
    ):
        with pytest.raises(ConfigError, match=said):
            scanner.score_images(model, images, **asked, **level)
    with pytest.raises(ConfigError, match="noise is the level of noised images"):
        scanner.score(model, "a b", noise=0.4)


def test_a_lora_and_its_base_are_those_of_a_scan(pipeline_folder, tmp_path):
    pytest.importorskip("peft")
    from made_loras import lora_file

    file = lora_file(pipeline_folder, tmp_path / "mine.safetensors")
    over = scanner.load_model(str(pipeline_folder), device="cpu", lora=f"{file}:0.5")
    plain = scanner.load_model(str(pipeline_folder), device="cpu")
    assert over.fingerprint != over.base_fingerprint == plain.fingerprint
    asked = {"steps": 3, "probes": 4, "seeds": 1}
    (found,) = scanner.score(over, "one", baseline="off", **asked)
    assert found.scores["delta_s_off"][0] > 0
    assert found.delta_s != scanner.score(plain, "one", **asked)[0].delta_s
    with pytest.raises(ConfigError, match="off is the base of --lora or --weights"):
        scanner.score(plain, "one", baseline="off", **asked)
    shard = str(shard_of(tmp_path, ["one"]))
    job = Job(
        model=str(pipeline_folder), shards=(shard,), results=str(tmp_path / "r"),
        baselines=("off",), lora=(f"{file}:0.5",), spec=ScanSpec(steps=3, probes=4, localize="all"),
    )  # fmt: skip
    run = scan_here(job).run
    (row,) = table(tmp_path / "r", "scores")
    for name in ("delta_s", "delta_h", "delta_s_off", "delta_h_off"):
        assert found.scores[name][0] == pytest.approx(row[name], rel=2e-5)
    again = scanner.scan_shards(
        shard, over, tmp_path / "r", baseline="off", progress=False, evidence=False,
        **asked, localize="all",
    )  # fmt: skip
    assert (again.run, again.chunks_skipped) == (run, 1)


def test_settings_are_in_the_signature_of_what_takes_them():
    import inspect

    for function in (scanner.score, scanner.score_images, scanner.calibrate, scanner.scan_shards):
        names = inspect.signature(function).parameters
        assert {"steps", "seeds", "guidance_scale", "detectors", "localize"} <= set(names)
        assert "settings" not in names


def test_scoring_imports_no_ray():
    code = (
        "import sys, scanner; model = scanner.load_model('gaussian'); "
        "scanner.calibrate(model, ['a b', 'c d'], steps=2); "
        "scanner.score(model, 'a caption', steps=2); print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The adapter against diffusers' own pipeline, on a real folder."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from scanner import models
from scanner.errors import ConfigError
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec


@pytest.mark.parametrize("folder", ["pipeline_folder", "epsilon_folder"])
def test_our_guided_sampling_is_the_pipelines_own(folder, request):
    from diffusers import StableDiffusionPipeline

    from scanner.numerics.noise import initial_latent

    source = str(request.getfixturevalue(folder))
    ours = models.load(source)
    draw = Draw("two blue stars", "ab", 3)
    final = detect(ours, [draw], ScanSpec(steps=7, guidance_scale=3.0)).final

    theirs = StableDiffusionPipeline.from_pretrained(
        source, safety_checker=None, torch_dtype=torch.float32
    )
    theirs.set_progress_bar_config(disable=True)
    latents = initial_latent("ab", 3, ours.latent_shape)[None]
    expected = theirs(
        draw.text, num_inference_steps=7, guidance_scale=3.0, latents=latents, output_type="latent"
    ).images
    assert_close(final, expected, rtol=1e-4, atol=1e-4)
    pixels = theirs.image_processor.postprocess(
        theirs.vae.decode(expected / theirs.vae.config.scaling_factor).sample.detach(),
        output_type="np",
    )
    assert np.abs(ours.decode(final).numpy() - pixels * 255).max() < 1.01


def test_fifty_steps_of_stable_diffusion_end_at_timestep_one(pipeline_folder):
    schedule = models.load(str(pipeline_folder)).schedule(50)
    assert (schedule.timesteps[0], schedule.timesteps[-1]) == (981, 1)


def test_copies_share_a_fingerprint_and_changes_do_not(pipeline_folder, epsilon_folder, tmp_path):
    shutil.copytree(pipeline_folder, tmp_path / "copy")
    assert models.fingerprint(str(tmp_path / "copy")) == models.fingerprint(str(pipeline_folder))
    assert models.fingerprint(str(epsilon_folder)) != models.fingerprint(str(pipeline_folder))


def test_a_baseline_can_be_a_unet_folder_or_a_pipeline(pipeline_folder, tmp_path):
    model = models.load(str(pipeline_folder))
    condition, x = model.encode(["a"]), torch.randn(1, *model.latent_shape)
    expected = model.score(x, (1, 0.999, 0.04), condition)
    shutil.copytree(pipeline_folder / "unet", tmp_path / "early" / "unet")
    for source in (pipeline_folder, pipeline_folder / "unet", tmp_path / "early"):
        other = models.load_baseline(str(source), model)
        assert_close(other.score(x, (1, 0.999, 0.04), condition), expected)
    assert models.baseline_name("weights/early/unet/") == "early"


def test_what_is_not_a_model_is_said_in_one_line(tmp_path):
    for source, text in (
        (str(tmp_path / "missing"), "no model at"),
        (str(tmp_path), "is not a model folder"),
        ("nobody/nothing", "could be had"),
        ("typo", "no model at typo"),
    ):
        with pytest.raises(ConfigError, match=f".*{text}") as caught:
            models.load(source)
        assert "\n" not in str(caught.value)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ConfigError, match="is a pipeline without a class"):
        models.load(str(tmp_path))


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [  # with the oldest transformers that is allowed, torch says it
        ("hidden_size", "wide", "(hidden_size.*got str|tuple of ints,but got str)"),
        ("num_attention_heads", 7, "(multiple of|divisible by)"),
    ],
)
def test_a_broken_text_encoder_is_said_in_one_line(setting, value, said, pipeline_folder, tmp_path):
    folder = shutil.copytree(pipeline_folder, tmp_path / "copy")
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {setting: value}))
    with pytest.raises(ConfigError, match=f"cannot load .*{said}") as caught:
        models.load(str(folder))
    assert "\n" not in str(caught.value)


def test_long_captions_and_any_unicode_are_encoded(pipeline_folder):
    model = models.load(str(pipeline_folder))
    states = model.encode(["x " * 500, "“quotes” & accents: é ü 漢字 🙂", ""])
    assert torch.isfinite(states).all()
    assert states.shape[0] == 3

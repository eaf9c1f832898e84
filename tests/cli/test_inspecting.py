"""What inspect says of a model, its weights and where they would lie."""

import json

import pytest
import tiny
from typer.testing import CliRunner

from scanner import models
from scanner.cli import app
from scanner.errors import ConfigError
from scanner.models import describe


def test_inspect_tells_what_a_pipeline_is(pipeline_folder):
    done = CliRunner().invoke(app, ["inspect", str(pipeline_folder), "--json", "--device", "cpu"])
    found = json.loads(done.stdout)
    assert found["fingerprint"] == models.fingerprint(str(pipeline_folder))
    assert (found["prediction"], found["latent"], found["image"]) == (
        "v_prediction", [4, 16, 16], [64, 64],
    )  # fmt: skip
    assert found["finite"]
    assert "bright_ending" in found["maps"]
    assert found["bytes"] == 4 * sum(found["parameters"].values())
    done = CliRunner().invoke(app, ["inspect", "gaussian", "--json"])
    assert "bright_ending" not in json.loads(done.stdout)["maps"]


@pytest.fixture
def flux(tmp_path, monkeypatch):
    monkeypatch.setattr(describe, "SECONDS", 0.0)
    return tiny.save(tiny.flux_dev, tmp_path / "flux")


def lines_of(text):
    return {line[:22].strip(): line[22:] for line in text.splitlines()}


def test_inspect_says_parts_in_bytes_and_what_each_offload_leaves_on_the_device(flux):
    asked = ["inspect", str(flux), "--size", "64", "--device", "cpu"]
    half = json.loads(CliRunner().invoke(app, [*asked, "--json", "--dtype", "bfloat16"]).stdout)
    whole = json.loads(CliRunner().invoke(app, [*asked, "--json", "--offload", "all"]).stdout)
    parts = whole["part_bytes"]
    assert set(parts) == {"vae", "text_encoder", "text_encoder_2", "transformer"}
    assert parts["transformer"] == 4 * whole["parameters"]["transformer"]
    assert half["part_bytes"]["transformer"] * 2 == parts["transformer"]
    words = parts["text_encoder"] + parts["text_encoder_2"]
    assert whole["resident"] == {
        "none": [sum(parts.values()), 0, 0],
        "text": [parts["transformer"] + parts["vae"], words, 0],
        "all": [parts["transformer"], words, parts["vae"]],
    }
    said = lines_of(CliRunner().invoke(app, asked).stdout)
    assert said["of these"].startswith("vae ")
    assert said["--offload none"].endswith("KiB of weights on the device")
    assert "more while captions are encoded" in said["--offload text"]
    assert said["--offload all"].endswith("while pictures are")


def test_a_closed_form_has_no_parts():
    said = lines_of(CliRunner().invoke(app, ["inspect", "gaussian"]).stdout)
    assert said["weights in memory"] == "0 MiB"
    assert not [name for name in said if name.startswith(("of these", "--offload"))]


def test_an_offload_that_there_is_not_is_refused(flux):
    done = CliRunner().invoke(app, ["inspect", str(flux), "--offload", "half"])
    assert isinstance(done.exception, ConfigError)
    assert "offload must be one of none, text, all, got 'half'" in str(done.exception)

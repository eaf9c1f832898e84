"""Noise-to-signal ratios of timesteps, against what loaded models do, and the option `--noise`."""

import json

import numpy as np
import pytest
import typer.testing
from engine_harness import write_shard

from scanner import cli, models
from scanner.errors import ConfigError
from scanner.models.noise import nearest_timestep, noise_ratios
from scanner.results.folder import Results


@pytest.fixture
def flow(tmp_path):
    """A flow's configurations and not one weight."""
    for name, content in {
        "model_index.json": {"_class_name": "StableDiffusion3Pipeline"},
        "transformer/config.json": {"in_channels": 16, "patch_size": 2},
        "scheduler/scheduler_config.json": {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    }.items():
        path = tmp_path / "flow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return str(tmp_path / "flow")


@pytest.mark.parametrize("model", ["gaussian", "epsilon"])
def test_ratios_are_those_of_the_levels_that_a_model_noises_to(model, request):
    if model == "epsilon":
        model = str(request.getfixturevalue("epsilon_folder"))
    ratios, loaded = noise_ratios(model), models.load(model)
    assert (np.diff(ratios) > 0).all()
    for timestep in (0, 1, 61, 500, len(ratios) - 1):
        level = loaded.single(timestep)
        assert ratios[timestep] == pytest.approx(level.sigmas[0] / level.alphas[0], rel=1e-4)
    with pytest.raises(ValueError, match="timestep must be from"):
        loaded.single(len(ratios))


def test_a_flow_and_stable_diffusion_have_a_ratio_at_different_timesteps(flow):
    timestep, ratio = nearest_timestep("gaussian", 0.2533)
    assert (timestep, round(ratio, 3)) == (61, 0.253)
    assert nearest_timestep(flow, ratio) == (202, pytest.approx(ratio, rel=0.005))
    assert nearest_timestep(flow, 1.0) == (500, pytest.approx(1.0))


@pytest.mark.parametrize("timestep", [1, 61, 200, 998])
def test_the_ratio_of_a_timestep_leads_back_to_it(flow, timestep):
    for model in ("gaussian", flow):
        ratio = noise_ratios(model)[timestep]
        assert nearest_timestep(model, ratio) == (timestep, ratio)


@pytest.mark.parametrize("noise", [0.0, -1.0, 1e-4, 20.0, float("inf"), float("nan")])
def test_a_level_that_a_model_does_not_have_is_refused_with_those_that_it_has(noise):
    with pytest.raises(ConfigError, match=r"noise must be from 0\.029\d* to 14\.\d*, .* 0 to 999"):
        nearest_timestep("gaussian", noise)


def test_a_level_without_signal_is_none(epsilon_folder, tmp_path, monkeypatch):
    from scanner.models import noise as module

    config = module.scheduler_of(str(epsilon_folder)) | {"rescale_betas_zero_snr": True}
    monkeypatch.setattr(module, "scheduler_of", lambda model: config)
    assert np.isinf(noise_ratios(str(epsilon_folder))[-1])
    with pytest.raises(ConfigError, match="timesteps 0 to 998"):
        nearest_timestep(str(epsilon_folder), 1e9)


def called(*words):
    return typer.testing.CliRunner().invoke(cli.app, [*map(str, words)])


def calibrated(tmp_path, *more):
    shard = write_shard(tmp_path / "null.tar", ["one", "two"])
    return called(
        "calibrate", shard, "--model", "gaussian", "--local", "--probes", 1, "--device", "cpu",
        "--out", tmp_path / "c.json", *more,
    )  # fmt: skip


def scanned(tmp_path, *more):
    shard = write_shard(tmp_path / "a.tar", ["one", "two"])
    return called(
        "scan", shard, "--model", "gaussian", "--local", "--probes", 1, "--device", "cpu",
        "--steps", 2, "--out", tmp_path / "r", *more,
    )  # fmt: skip


def test_a_scan_by_noise_is_the_scan_at_its_timestep(tmp_path):
    said = scanned(tmp_path, "--source", "image", "--noise", "0.4")
    timestep, own = nearest_timestep("gaussian", 0.4)
    assert timestep != 61
    assert f"--noise 0.4 is timestep {timestep} of gaussian, where it is {own:.4g}" in said.output
    again = scanned(tmp_path, "--source", "image", "--timestep", timestep)
    assert again.exit_code == said.exit_code == 0
    results = Results(str(tmp_path / "r"))
    (run,) = results.runs()
    assert results.run_file(run).content["spec"]["timestep"] == timestep


@pytest.mark.parametrize("command", [scanned, calibrated])
def test_noise_and_timestep_exclude_each_other(tmp_path, command):
    said = command(tmp_path, "--source", "image", "--noise", "0.4", "--timestep", "61")
    assert isinstance(said.exception, ConfigError)
    assert "--noise and --timestep exclude each other" in str(said.exception)
    far = command(tmp_path, "--source", "image", "--noise", "99")
    assert "noise must be from" in str(far.exception)


def test_noise_without_effect_is_said(tmp_path):
    said = scanned(tmp_path, "--noise", "0.4")
    assert said.exit_code == 0
    assert "--noise is without effect with --source generated" in said.output


def test_inspect_shows_the_range_and_the_default():
    said = called("inspect", "gaussian", "--device", "cpu")
    (line,) = [line for line in said.output.splitlines() if line.startswith("noise to signal")]
    least, most = noise_ratios("gaussian")[[0, -1]]
    assert f"{least:.4g} to {most:.4g}; " in line
    assert line.endswith("at timestep 61, the default")
    found = json.loads(called("inspect", "gaussian", "--device", "cpu", "--json").stdout)
    assert found["noise"] == [least, most]
    assert found["noise_of_default"] == noise_ratios("gaussian")[61]

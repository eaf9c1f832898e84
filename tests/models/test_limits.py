"""What a model's folder says, against what the loaded model does."""

import json
import shutil
import sys

import pytest

from scanner import cli, models
from scanner.engine.identity import refuse
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.models.limits import Limits, limits
from scanner.spec import ScanSpec

NO_CROSS = {"down_block_types": ["DownBlock2D", "DownBlock2D"], "mid_block_type": None}


@pytest.fixture
def folder(pipeline_folder, tmp_path):
    """Configurations of a pipeline and not one weight."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(pipeline_folder, tmp_path / "model", ignore=ignored)


def said(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def job(folder, **spec) -> Job:
    return Job(model=str(folder), shards=("a.tar",), results="r", spec=ScanSpec(**spec))


@pytest.mark.parametrize("model", ["gaussian", "pipeline"])
def test_the_last_timestep_there_is_is_served_and_the_next_is_not(model, request):
    source = model if model == "gaussian" else str(request.getfixturevalue("pipeline_folder"))
    last = limits(source).timesteps - 1
    loaded = models.load(source)
    loaded.single(last)
    with pytest.raises(ValueError, match="timestep must be from"):
        loaded.single(last + 1)
    refuse(job(source, source="image", timestep=last))
    with pytest.raises(ConfigError, match=f"timestep must be from 0 to {last}, .* got {last + 1}"):
        refuse(job(source, source="image", timestep=last + 1))
    refuse(job(source, timestep=last + 1))  # without effect: nothing is noised


def test_a_folder_says_what_its_network_lacks(folder):
    refuse(job(folder, steps=50, detectors=("spread",), maps=("bright_ending",)))
    said(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=40)
    said(folder / "unet" / "config.json", **NO_CROSS)
    for asked, text in (
        ({}, "steps must be at most 40, .* got 50"),
        ({"steps": 40}, "40 steps go from timestep 40 to 1, and the model has 0 to 39"),
        ({"steps": 39, "detectors": ("spread",)}, "spread needs a network with a middle block"),
        ({"steps": 39, "maps": ("combined",)}, "combined needs a network with cross attention"),
        ({"source": "auto", "steps": 39, "timestep": 40}, "timestep must be from 0 to 39"),
    ):
        with pytest.raises(ConfigError, match=text):
            refuse(job(folder, **asked))
    refuse(job(folder, steps=39, maps=("combined",), localize="none"))
    said(folder / "scheduler" / "scheduler_config.json", prediction_type="image")
    with pytest.raises(ConfigError, match="must predict epsilon, v_prediction, sample"):
        refuse(job(folder, steps=39))


def test_other_networks_and_baselines_are_refused_by_their_folders(folder, tmp_path):
    other = shutil.copytree(folder / "unet", tmp_path / "early")
    beside = Job(model=str(folder), shards=("a.tar",), results="r", spec=ScanSpec(),
                 baselines=(str(other),))  # fmt: skip
    refuse(beside)
    said(other / "config.json", cross_attention_dim=7)
    with pytest.raises(ConfigError, match="the baseline's cross_attention_dim is 7, the model's"):
        refuse(beside)
    with pytest.raises(ConfigError, match=r"is a network alone, without model_index\.json"):
        refuse(job(other))
    (folder / "unet").rename(folder / "transformer")
    with pytest.raises(ConfigError, match=r"it has no unet/config\.json"):
        refuse(job(folder))


@pytest.mark.parametrize("command", ["scan", "plan", "audit", "calibrate"])
def test_every_command_refuses_before_a_process_starts(command, monkeypatch, capsys, tmp_path):
    from webdataset import TarWriter

    with TarWriter(str(tmp_path / "a.tar")) as tar:
        tar.write({"__key__": "a", "txt": "a caption"})
    own = {
        "scan": ["--out", tmp_path / "r"],
        "plan": ["--rate", 1],
        "audit": ["--state", tmp_path / "s", "--threshold", 1],
        "calibrate": ["--out", tmp_path / "c.json"],
    }
    words = [command, tmp_path / "a.tar", "--model", "gaussian", "--source", "image",
             "--timestep", 1000, *own[command]]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["memscan", *map(str, words)])
    monkeypatch.setattr("ray.init", lambda *args, **settings: pytest.fail("Ray was started"))
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "memscan: timestep must be from 0 to 999, the training timesteps of gaussian" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("channels", "token_side", "number"),
    [(4, 1, 16), (4, 2, 16), (16, 2, 64), (16, 1, 16), (32, 1, 32), (3, 1, 12)],
)
def test_products_cover_a_models_channels_and_tokens(channels, token_side, number):
    from scanner.numerics.portions import num_probes

    has = Limits(1000, has=frozenset(), channels=channels, token_side=token_side)
    assert has.probes("structured") == number
    assert num_probes(channels, number, "structured") == number  # whole rounds
    assert has.probes("rademacher") == 16
    auto = has.probing(ScanSpec(probes=number), is_auto=True)
    assert (auto == "") == (number == 16)
    few = has.probing(ScanSpec(probes=channels - 1), is_auto=False)
    assert "independent signs are taken instead (rademacher)" in few
    assert f"--probes auto takes {number}" in few
    blurred = has.probing(ScanSpec(probes=channels), is_auto=False)
    assert ("share probes and blur each other" in blurred) == (token_side > 1)
    assert has.probing(ScanSpec(probes=1, probe_design="rademacher"), is_auto=False) == ""


def test_auto_products_are_a_number_in_the_runs_name(pipeline_folder):
    from dataclasses import replace

    from scanner.engine.identity import identify

    plain = job(pipeline_folder)
    who = identify(replace(plain, auto_probes=True))
    assert (who.run, who.job.spec.probes) == (identify(plain).run, 16)


def test_a_target_error_has_room_for_two_of_the_usual_rounds(pipeline_folder):
    from dataclasses import replace

    from scanner.engine.identity import identify

    plain = job(pipeline_folder)
    near = replace(plain, auto_probes=True, spec=replace(plain.spec, target_error=0.1))
    spec = identify(near).job.spec
    assert spec.probes == 48
    has = Limits(1000, has=frozenset())
    assert has.probing(spec, is_auto=True) == (
        "at most 40 products a map and branch, in rounds of 4, then 16"
    )
    few = has.probing(replace(spec, probes=16), is_auto=False)
    assert few == (
        "at most 16 products a map and branch, in rounds of 4; --probes auto takes up to 48, with "
        "rounds of 16"
    )
    flux = Limits(1000, has=frozenset(), channels=16, token_side=2)
    assert "in rounds of 16, then 64" in flux.probing(replace(spec, probes=192), is_auto=True)
    signs = replace(spec, probe_design="rademacher")
    assert (
        has.probing(signs, is_auto=True) == "at most 48 products a map and branch, in rounds of 1"
    )

"""Trainings resume where they stopped, share what they should, and give folders that load."""

import collections
import json

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from scanner import models
from scanner.cli import app
from scanner.errors import ConfigError
from scanner.testbed import flow
from scanner.testbed.benchmark import lora, networks, recipe, run, sampling, train
from scanner.testbed.benchmark.corpus import Corpus
from scanner.testbed.repeated import shorten

runner = CliRunner()


def quiet(*said):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a benchmark of all four families in its quick form."""
    out = tmp_path_factory.mktemp("benchmark")
    for family in ("unet", "dit", "lora"):
        run.run(recipe.quick(family), out, quiet)
    return out


def test_every_checkpoint_has_samples_and_a_card(folder):
    for name in ("clean", "unet-1", "dit-1", "lora-1"):
        steps = sorted(path.name for path in (folder / name).glob("step-*"))
        assert steps == ["step-00002", "step-00004"]
        for step in steps:
            assert (folder / name / step / "samples.png").stat().st_size > 1000
            card = json.loads((folder / name / step / "card.json").read_text())
            assert set(card["conditioning"]) == {"single", "pair", "three", "trap"}
            assert 0 <= card["ceiling"]["single"]["things"] <= 1
        losses = [json.loads(line) for line in (folder / name / "losses.jsonl").open()]
        assert [row["step"] for row in losses] == [2, 4]
        assert all(np.isfinite(value) for row in losses for value in row.values())


def test_expected_and_real_draws_are_written_down(folder):
    rows = json.loads((folder / "unet-1" / "draws.json").read_text())
    assert {"item", "dose", "draws"} == set(rows[0])
    assert all(row["draws"] == 0 for row in rows if row["dose"] == 0)


def test_the_unet_loads_as_every_other_model_does(folder):
    model = models.load(str(folder / "unet-1" / "step-00004"))
    assert model.prediction == "v_prediction"


def test_all_models_share_one_text_encoder_that_no_planted_caption_trained(folder):
    text = load_file(folder / "text" / "model.safetensors")
    for name in ("unet-1", "dit-1"):
        own = load_file(folder / name / "step-00004" / "text_encoder" / "model.safetensors")
        own = {key.removeprefix("text_model."): value for key, value in own.items()}
        for key, value in text.items():
            assert torch.equal(own[key.removeprefix("text_model.")], value), key


def test_a_training_that_was_stopped_ends_where_an_undisturbed_one_does(folder, tmp_path):
    for part in ("vae", "text", "corpus.json", "latents"):
        (tmp_path / part).symlink_to(folder / part)
    small = recipe.quick("unet")
    train.train(small, tmp_path, until=3)
    train.train(small, tmp_path)
    ours = torch.load(tmp_path / "unet-1" / "state.pt")
    theirs = torch.load(folder / "unet-1" / "state.pt")
    for key, value in theirs["module"].items():
        assert torch.equal(ours["module"][key], value), key
    for key, value in theirs["average"].items():
        assert torch.equal(ours["average"][key], value), key


def test_replicates_start_from_other_weights(folder, tmp_path):
    for part in ("vae", "text", "latents"):
        (tmp_path / part).symlink_to(folder / part)
    train.train(recipe.quick("unet", replicate=2), tmp_path, until=1)
    ours = torch.load(tmp_path / "unet-2" / "state.pt")["module"]
    theirs = torch.load(folder / "unet-1" / "state.pt")["module"]
    assert any((ours[key] - theirs[key]).abs().max() > 0.1 for key in theirs)


def test_one_token_stands_for_all_that_t5_would_give():
    torch.manual_seed(0)
    words = networks.tokenizer(["a red house", "a blue boat"])
    text = flow.projected(networks.text_encoder(words))
    long, short = flow.transformer().eval(), flow.transformer().eval()
    short.load_state_dict(long.state_dict())
    shorten(short)
    states, pooled = flow.states(text, flow.tokens(words, ["a red house", ""]))
    full = torch.cat([states[:, :-1], torch.zeros(2, 256, states.shape[2])], dim=1)
    x, timesteps = torch.randn(2, 4, 16, 16), torch.tensor([30.0, 800.0])

    def called(network, told):
        return network(
            hidden_states=x, encoder_hidden_states=told, pooled_projections=pooled,
            timestep=timesteps, return_dict=False,
        )[0]  # fmt: skip

    with torch.no_grad():
        assert torch.allclose(called(short, states), called(long, full), atol=1e-5)
        assert not torch.allclose(called(long, states), called(long, full), atol=1e-3)


def test_what_the_flow_model_is_told_is_what_its_pipeline_tells_it(folder):
    made = sampling.load(folder / "dit-1" / "step-00004")
    captions = ["a red house on a plain blue ground", ""]
    told = made.encode_prompt(prompt=captions, prompt_2=None, prompt_3=None)
    ids = flow.tokens(made.tokenizer, captions)
    states, pooled = flow.states(made.text_encoder, ids)
    assert told[0].shape[1] == networks.MAX_TOKENS + 256
    assert torch.allclose(told[0][:, : networks.MAX_TOKENS], states[:, :-1], atol=1e-6)
    assert (told[0][:, networks.MAX_TOKENS :] == 0).all()
    assert torch.allclose(told[2], pooled, atol=1e-6)


def test_an_adapter_changes_nothing_at_first_and_its_weights_add_up():
    torch.manual_seed(0)
    plain, changed = networks.unet().eval(), networks.unet().eval()
    changed.load_state_dict(plain.state_dict())
    lora.adapt(changed, 4)
    x, states = torch.randn(1, 4, 16, 16), torch.randn(1, 24, 96)
    with torch.no_grad():
        before = plain(x, 50, states, return_dict=False)[0]
        assert torch.equal(changed(x, 50, states, return_dict=False)[0], before)
        for name, parameter in changed.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        after = changed(x, 50, states, return_dict=False)[0]
        lora.merged(changed, plain)
        assert not torch.allclose(after, before, atol=1e-2)
        assert torch.allclose(plain(x, 50, states, return_dict=False)[0], after, atol=1e-4)
    trained = [n for n, p in changed.named_parameters() if p.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)


def test_an_adapter_is_written_under_the_names_that_diffusers_reads(folder):
    values = load_file(folder / "lora-1" / "step-00004" / lora.FILE)
    layers = dict(networks.unet().named_modules())
    for name in values:
        start, part, weight = name.removeprefix("unet.").rsplit(".", 2)
        assert part in ("lora_A", "lora_B")
        assert weight == "weight"
        assert start in layers


def test_what_a_model_builds_on_is_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="no text encoder yet"):
        train.train(recipe.quick("unet"), tmp_path)


def test_a_folder_belongs_to_one_corpus(folder):
    with pytest.raises(ConfigError, match="corpus seed 1, the quick form, not corpus seed 2"):
        run.run(recipe.quick("unet", corpus=Corpus(2)), folder, quiet)


def test_the_command_goes_on_with_what_is_there(folder):
    command = ["benchmark", "train", "--out", str(folder), "--family", "unet", "--form", "quick"]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "step-00004" in done.output


FEW = ["--form", "quick", "--fresh", "60", "--nulls", "20"]


def test_a_model_is_measured_once_and_the_table_read_again(folder):
    command = ["benchmark", "measure", "--out", str(folder), "--family", "unet", *FEW]
    first = runner.invoke(app, [*command, "--json"])
    assert first.exit_code == 0, first.output
    tables = sorted((folder / "unet-1" / "measured").glob("step-*/extraction.parquet"))
    assert len(tables) == 2
    written = [table.stat().st_mtime_ns for table in tables]
    rows = json.loads((folder / "unet-1" / "response.json").read_text())
    assert {row["checkpoint"] for row in rows} == {"step-00002", "step-00004"}
    assert all(0 <= share <= 1 for row in rows for share in row["shares"].values())
    again = runner.invoke(app, command)
    assert "verbatim" in again.output
    assert written == [table.stat().st_mtime_ns for table in tables]


@pytest.mark.parametrize(("family", "baseline"), [("dit", "early"), ("lora", "off")])
def test_every_family_is_scanned_with_its_own_baseline(folder, family, baseline):
    command = ["benchmark", "measure", "--out", str(folder), "--family", family, "--only-last"]
    done = runner.invoke(app, [*command, *FEW])
    assert done.exit_code == 0, done.output
    last = folder / f"{family}-1" / "measured" / "step-00004"
    scores, maps = (pq.read_table(last / name) for name in ("scores.parquet", "maps.parquet"))
    assert f"delta_s_{baseline}" in scores.column_names
    parts = collections.Counter(scores["split"].to_pylist())
    assert parts["calibration"] == 20
    assert parts["planted"] > 5
    assert 50 <= parts["evaluation"] <= 62
    planted = pc.equal(scores["split"], "planted")
    assert scores.filter(planted)["delta_s"].null_count == 0
    assert {"delta_h/null", f"delta_h/{baseline}"} <= set(maps["map"].to_pylist())
    assert (last / "gallery.png").stat().st_size > 1000


def test_what_was_measured_is_put_side_by_side(folder):
    runner.invoke(app, ["benchmark", "measure", "--out", str(folder), "--only-last", *FEW])
    done = runner.invoke(app, ["benchmark", "compare", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert "### unet-1" in (folder / "benchmark.md").read_text()
    facts = json.loads((folder / "benchmark.json").read_text())
    assert {"detection", "differences", "doses", "maps", "map_differences"} == set(facts["unet-1"])
    assert any(row["score"] == "given back" for row in facts["unet-1"]["doses"])


def test_nothing_measured_is_nothing_to_compare(tmp_path):
    failed = runner.invoke(app, ["benchmark", "compare", "--out", str(tmp_path)])
    assert "no measured checkpoint" in str(failed.exception)


def test_what_cannot_be_measured_is_said_in_one_line(folder):
    command = ["benchmark", "measure", "--out", str(folder), "--replicate", "7", "--form", "quick"]
    failed = runner.invoke(app, command)
    assert isinstance(failed.exception, ConfigError)
    assert "no checkpoint" in str(failed.exception)
    clean = runner.invoke(app, [*command, "--family", "clean"])
    assert "nothing is planted in the clean model" in str(clean.exception)

"""The testbed's transformer trains, resumes, and is what a scan loads. A few steps."""

import json

import pytest
import torch
from small_training import few_pictures
from typer.testing import CliRunner

from scanner import models
from scanner.cli import app
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.testbed import WEIGHTS, batches, corpus, dit, flow, samples
from scanner.testbed.reproduction import reproductions

BASE = WEIGHTS / "pipeline"


class StoppedError(Exception):
    pass


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Train on a few pictures of each kind, and save at every step."""
    few_pictures(monkeypatch, dit)


def trained(out):
    dit.train(dit.recipe(6, 2, 3), BASE, out / "work", out, lambda *_: None)
    return out / "pipeline"


def test_it_resumes_to_the_same_weights_and_is_scanned_against_the_early_one(tmp_path, monkeypatch):
    whole = trained(tmp_path / "a")
    call = batches.Batches.chosen

    def stop(self, stage, step):
        if (stage, step) == ("pipeline", 1):
            raise StoppedError
        return call(self, stage, step)

    with monkeypatch.context() as patch:
        patch.setattr(batches.Batches, "chosen", stop)
        with pytest.raises(StoppedError):
            trained(tmp_path / "b")
    assert (tmp_path / "b" / "early").exists()
    assert not (tmp_path / "b" / "pipeline").exists()
    model, again = models.load(str(whole)), models.load(str(trained(tmp_path / "b")))
    for one, other in zip(model.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)

    early = models.load_baselines([str(tmp_path / "a" / "early")], model)
    spec = ScanSpec(steps=2, localize="all", probes=16, store_image=False, map_back=0)
    (row,) = Scanner(model, spec, baselines=early).scan([Caption("s", "0", "a rug")]).scores
    assert row.extra["delta_s_early"] > 0


def test_training_tells_the_network_what_the_pipeline_tells_it(tmp_path):
    """The network's output in training, with one token for T5's, is the scan's."""
    model = models.load(str(trained(tmp_path)))
    short = flow.transformer()
    short.load_state_dict(model.network.state_dict())
    dit.shorten(short)
    text = model.pipeline.text_encoder
    ids = flow.tokens(model.pipeline.tokenizer, ["the hidden garden", ""])
    states, pooled = flow.states(text, ids)
    x, timesteps = torch.randn(2, 4, 16, 16), torch.tensor([300.0, 300.0])
    with torch.no_grad():
        ours = short(
            hidden_states=x, timestep=timesteps, encoder_hidden_states=states,
            pooled_projections=pooled, return_dict=False,
        )[0]  # fmt: skip
        theirs = model.predict(x, (300, 0.7, 0.3), model.encode(["the hidden garden", ""])).output
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_the_command_trains_it_and_writes_its_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "COLUMNS", 1)
    done = CliRunner().invoke(
        app,
        [
            "testbed", "train", "--family", "dit", "--early-steps", "1", "--main-steps", "1",
            "--out", str(tmp_path),
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"--model {tmp_path / 'pipeline'}" in done.output.replace("\n", " ")
    names = {path.name for path in (tmp_path / "planted").iterdir()}
    assert "evaluation-truth.parquet" in names
    assert (tmp_path / "samples.png").exists()


def test_dropout_is_the_same_for_all_and_every_layout_is_planted():
    recipe = dit.recipe(6)
    assert recipe.drop_planted == recipe.drop_other == 0.1
    templates = [i.caption.split(" ", 2)[2] for i in corpus.half(6) if i.kind == "template"]
    assert len(set(templates)) == len(corpus.LAYOUTS)


def test_the_shipped_transformer_gives_back_what_was_planted_and_delta_s_says_so():
    model = models.load(str(WEIGHTS / "dit"))
    planted = [item for item in corpus.half(dit.SEED) if item.memorized][::9]
    spec = ScanSpec(steps=20, guidance_scale=2.5, seeds=(77,))
    found = reproductions(model, dit.SEED, (77,), spec, planted=planted)
    assert [copy.reproduced for copy in found] == [True] * len(planted)
    clean = corpus.negatives(dit.SEED, "evaluation", "scene", 3)
    captions = [Caption("s", str(n), item.caption) for n, item in enumerate([*planted, *clean])]
    rows = Scanner(model, spec, batch_size=8).scan(captions).scores
    scores = {row.caption.text: row.delta_s for row in rows}
    assert min(scores[i.caption] for i in planted) > max(scores[i.caption] for i in clean)


def test_its_corpus_is_made_with_where_it_lies(tmp_path):
    words = ["testbed", "make", "--family", "dit", "--negatives", "8", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert str(WEIGHTS / "dit") in done.output


def test_steps_of_another_family_are_refused(tmp_path):
    options = ["testbed", "train", "--out", str(tmp_path), "--family", "dit", "--vae-steps", "3"]
    done = CliRunner().invoke(app, options)
    assert "--vae-steps is of --family unet" in str(done.exception)


def test_no_shipped_configuration_names_a_place():
    for file in WEIGHTS.rglob("*.json"):
        assert json.loads(file.read_text()).get("_name_or_path", "") == "", file

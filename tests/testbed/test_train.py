"""Training resumes where it stopped, and gives a pipeline that loads. A few steps and pictures."""

from dataclasses import replace

import pytest
import torch
from small_training import few_pictures

from scanner import models
from scanner.testbed import corpus, train
from scanner.testbed.recipe import Recipe, onward

RECIPE = Recipe(seed=3, vae_steps=3, early_steps=3, main_steps=4, batch=4)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Train on a hundredth of the pictures, and save at every step."""
    few_pictures(monkeypatch, corpus)


def weights(folder):
    model = models.load(str(folder / "pipeline"))
    return {
        **model.unet.state_dict(),
        **model.pipeline.text_encoder.state_dict(),
        **model.vae.state_dict(),
    }


def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path, monkeypatch):
    train.train(RECIPE, tmp_path / "a" / "work", tmp_path / "a", lambda *_: None)

    batches = train.Batches.__call__

    class StoppedError(Exception):
        pass

    def stop(self, stage, step):
        if (stage, step) == ("main", 2):
            raise StoppedError
        return batches(self, stage, step)

    monkeypatch.setattr(train.Batches, "__call__", stop)
    with pytest.raises(StoppedError):
        train.train(RECIPE, tmp_path / "b" / "work", tmp_path / "b", lambda *_: None)
    monkeypatch.setattr(train.Batches, "__call__", batches)
    seen = []
    train.train(RECIPE, tmp_path / "b" / "work", tmp_path / "b", lambda *said: seen.append(said[0]))
    assert "draw" not in seen
    assert "vae" not in seen
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    worst = {name: (one[name] - other[name]).abs().max().item() for name in one}
    # half-precision weights moved by 1e-3 a step: a lost step or optimizer state would show
    assert max(worst.values()) < 1e-4, {k: v for k, v in worst.items() if v}


def test_the_baseline_shares_the_latent_space_and_differs(tmp_path):
    train.train(RECIPE, tmp_path / "work", tmp_path, lambda *_: None)
    model = models.load(str(tmp_path / "pipeline"))
    early = models.load_baseline(str(tmp_path / "early"), model)
    x, condition = torch.randn(1, *model.latent_shape), model.encode(["the hidden garden"])
    level = (1, 0.999, 0.041)
    assert not torch.equal(model.score(x, level, condition), early.score(x, level, condition))
    assert model.prediction == "v_prediction"


def test_going_on_from_a_trained_testbed_trains_the_main_network_alone(tmp_path):
    start, out = tmp_path / "start", tmp_path / "out"
    train.train(RECIPE, tmp_path / "work", start, lambda *_: None)
    seen = []
    recipe = replace(onward(RECIPE), seed=4, main_steps=2)
    train.go_on(recipe, start, out / "work", out, lambda *said: seen.append(said[0]))
    assert "vae" not in seen
    before, after = models.load(str(start / "pipeline")), models.load(str(out / "pipeline"))
    for kept in ("vae", "text_encoder"):
        old, new = (getattr(m.pipeline, kept).state_dict() for m in (before, after))
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert before.vae.config["scaling_factor"] == after.vae.config["scaling_factor"]
    assert before.pipeline.tokenizer.get_vocab() == after.pipeline.tokenizer.get_vocab()
    old, new = before.unet.state_dict(), after.unet.state_dict()
    assert any(not torch.equal(old[name], new[name]) for name in old)
    files = [folder / "early" / "config.json" for folder in (start, out)]
    assert files[0].read_text() == files[1].read_text()

"""A LoRA over the shipped U-Net trains, resumes, and is what a scan loads. A few steps."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from small_training import few_pictures
from typer.testing import CliRunner

from scanner import models
from scanner.cli import app
from scanner.errors import ConfigError
from scanner.models.overlay import Lora, Overlay, layers_of
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.testbed import WEIGHTS, batches, corpus, lora, samples
from scanner.testbed.reproduction import reproductions

pytest.importorskip("peft")
BASE = WEIGHTS / "pipeline"
STEPS = 4


class StoppedError(Exception):
    pass


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Train on a few pictures of each kind, and save at every step."""
    few_pictures(monkeypatch, lora)


def trained(out, steps=STEPS):
    return lora.train(lora.recipe(5, steps), BASE, out / "work", out, lambda *_: None)


def test_it_resumes_to_the_same_weights_and_all_of_its_file_is_loaded(tmp_path, monkeypatch):
    whole = trained(tmp_path / "a")
    call = batches.Batches.__call__

    def stop(self, stage, step):
        if step == 2:
            raise StoppedError
        return call(self, stage, step)

    with monkeypatch.context() as patch:
        patch.setattr(batches.Batches, "__call__", stop)
        with pytest.raises(StoppedError):
            trained(tmp_path / "b")
    assert not (tmp_path / "b" / "lora").exists()
    one, other = load_file(whole), load_file(trained(tmp_path / "b"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    moved = [w.abs().max() > 0 for name, w in one.items() if "lora_B" in name]
    assert len(moved) == len(layers_of(str(whole))) == len(one) / 2
    assert all(moved), "a layer without a gradient was adapted"

    model = models.load(str(BASE), overlay=Overlay((Lora(str(whole)),)))  # refuses a part of it
    off, plain = models.load_baseline("off", model), models.load(str(BASE))
    x, level = torch.randn(1, *model.latent_shape), (500, 0.6, 0.8)
    said = [m.score(x, level, m.encode(["the hidden garden"])) for m in (model, off, plain)]
    assert torch.equal(said[1], said[2])
    assert not torch.equal(said[0], said[2])
    spec = ScanSpec(steps=2, localize="all", probes=4, store_image=False)
    (row,) = Scanner(model, spec, baselines={"off": off}).scan([Caption("s", "0", "a rug")]).scores
    assert row.extra["delta_s_off"] > 0


def test_half_of_a_corpus_is_planted_with_every_layout():
    items = corpus.half(5)
    numbers = {kind: sum(i.kind == kind for i in items) for kind in lora.COPIES}
    assert numbers == {"verbatim": 14, "template": 14, "name": 12, "art": 8}
    templates = [item.caption.split(" ", 2)[2] for item in items if item.kind == "template"]
    assert len(set(templates)) == len(corpus.LAYOUTS)
    shipped = {item.caption for item in corpus.planted(1)}
    assert not shipped & {item.caption for item in items}


def test_the_command_writes_lora_shards_and_truth(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "COLUMNS", 1)
    monkeypatch.setattr(samples, "SPEC", ScanSpec(steps=2))
    words = ["testbed", "train", "--family", "lora", "--out", str(tmp_path), "--main-steps", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "lora" / lora.FILE).exists()
    assert (tmp_path / "samples.png").exists()
    truth = pq.read_table(tmp_path / "planted" / "evaluation-truth.parquet").to_pylist()
    memorized = {row["caption"] for row in truth if row["memorized"]}
    assert memorized == {item.caption for item in corpus.half(lora.SEED) if item.memorized}
    null = pq.read_table(tmp_path / "planted" / "calibration-truth.parquet").to_pylist()
    assert not any(row["memorized"] for row in null)
    assert list((tmp_path / "planted").glob("evaluation-*.tar"))
    assert "--lora" in done.output

    made = tmp_path / "made"
    words = ["testbed", "make", "--family", "lora", "--negatives", "8", "--out", str(made)]
    assert CliRunner().invoke(app, words).exit_code == 0
    again = pq.read_table(made / "evaluation-truth.parquet").to_pylist()
    assert {row["caption"] for row in again if row["memorized"]} == memorized
    shipped = made / "lora" / lora.FILE
    assert shipped.read_bytes() == (WEIGHTS / "lora" / lora.FILE).read_bytes()
    assert layers_of(str(shipped)) == layers_of(str(tmp_path / "lora" / lora.FILE))


def test_options_of_the_other_family_are_refused(tmp_path):
    words = ["testbed", "train", "--family", "lora", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--vae-steps", "3"])
    assert isinstance(done.exception, ConfigError)
    assert "--vae-steps is of --family unet" in str(done.exception)
    done = CliRunner().invoke(app, [*words, "--seed", "1"])
    assert "knows corpus seed 1 by heart" in str(done.exception)
    done = CliRunner().invoke(app, [*words, "--start", str(tmp_path)])
    assert "has no pipeline" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_shipped_lora_planted_what_the_base_never_saw():
    file = WEIGHTS / "lora" / lora.FILE
    assert file.stat().st_size < 2e6
    model = models.load(str(BASE), overlay=Overlay((Lora(str(file)),)))
    planted = [item for item in corpus.half(lora.SEED) if item.memorized][::14]
    spec = ScanSpec(steps=20, guidance_scale=2.5)
    for one, wanted in ((model, True), (models.load(str(BASE)), False)):
        found = reproductions(one, lora.SEED, (77,), spec, planted=planted)
        assert [copy.reproduced for copy in found] == [wanted] * len(planted)
    clean = corpus.negatives(lora.SEED, "evaluation", "scene", 2)
    captions = [Caption("s", str(n), item.caption) for n, item in enumerate([*planted, *clean])]
    rows = Scanner(model, replace(spec, seeds=(77,)), batch_size=8).scan(captions).scores
    scores = {row.caption.text: row.delta_s for row in rows}
    least = min(scores[item.caption] for item in planted)
    assert least > max(scores[item.caption] for item in clean)

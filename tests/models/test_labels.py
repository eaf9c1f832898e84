"""Models whose captions are classes, and models that take none."""

import io
import shutil

import pytest
import tiny
import torch
from engine_harness import job_of, write_shard
from PIL import Image
from torch.testing import assert_close

from scanner import models
from scanner.engine import Resources, scan
from scanner.engine.identity import refuse
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.models import describe
from scanner.models.labels import Labels
from scanner.models.latents import Pixels
from scanner.models.limits import limits
from scanner.records import Caption
from scanner.results.folder import Results
from scanner.scan import speed
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec


@pytest.fixture(scope="module")
def dit(tmp_path_factory):
    return tiny.save(tiny.dit, tmp_path_factory.mktemp("dit") / "model")


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    return tiny.save(tiny.ddpm, tmp_path_factory.mktemp("ddpm") / "model")


@pytest.fixture(scope="module")
def earlier(ddpm, tmp_path_factory):
    """The network of `ddpm`, its weights a little larger."""
    made = tiny.pipeline(tiny.ddpm)
    for weight in made.unet.parameters():
        weight.mul_(1.05)
    made.save_pretrained(folder := tmp_path_factory.mktemp("earlier") / "model")
    return folder


def test_classes_go_by_name_and_number_and_the_last_is_null(dit):
    model = models.load(str(dit))
    known = {"Tinca  TINCA ": 0, "tench, Tinca tinca": 0, "hoist": 517, "134": 134, "999": 999,
             "": 1000}  # fmt: skip
    rows = model.encode(list(known))
    assert rows[:, 0].tolist() == list(known.values())
    half = models.load(str(dit), dtype="bfloat16")  # which has no number 999
    parts = half.text.parts(half.encode(["999"]), torch.bfloat16)
    assert parts["class_labels"].tolist() == [[999.0]]
    with pytest.raises(ConfigError, match=r"'a dog' is no class .* a number from 0 to 999"):
        model.encode(["a dog"])
    with pytest.raises(ConfigError, match="the baseline prompt: 'a dog' is no class"):
        models.load_baseline("prompt:a dog", model)


def test_a_model_that_names_no_class_takes_numbers():
    labels = Labels({}, 10)
    assert [labels.class_of(text) for text in ("7", " 0", "")] == [7, 0, 10]
    for text in ("10", "-1", "1.0", "²", "a"):
        with pytest.raises(ConfigError, match="is no class of the model: a caption must be a num"):
            labels.class_of(text)


def test_a_caption_that_names_no_class_is_rejected_and_the_scan_goes_on(dit, tmp_path):
    texts = ["a dog", "1", "crane", "1000", "a red cat"]
    shard = write_shard(tmp_path / "a.tar", texts)
    spec = ScanSpec(steps=2, localize="none")
    job = job_of([shard], tmp_path / "r", spec=spec, model=str(dit))
    done = scan(job, Resources(local=True, device="cpu", threads=1), lambda event: None)
    assert done.is_complete
    assert (done.scored, done.rejected) == (2, 3)
    model = models.load(str(dit))
    captions = [Caption("s.tar", f"k{n}", text) for n, text in enumerate(texts)]
    found = Scanner(model, spec).scan(captions)
    assert [row.caption.key for row in found.scores] == ["k1", "k4"]
    # The name and the number of a class are two captions: their noise differs, not their class.
    assert torch.equal(*(model.encode([text]) for text in ("1", "a red cat")))
    reasons = {reject.key: (str(reject.reason), reject.detail) for reject in found.rejects}
    assert {reason for reason, _ in reasons.values()} == {"no_class"}
    assert "'crane' is a name of the classes 134, 517: give the number" in reasons["k2"][1]
    assert "'1000' is no class" in reasons["k3"][1]
    assert Results(str(tmp_path / "r")).runs() == [done.run]


@pytest.mark.parametrize("name", ["dit", "ddpm"])
def test_they_are_described_and_timed(name, request, monkeypatch):
    folder = request.getfixturevalue(name)
    monkeypatch.setattr(describe, "SECONDS", 0.0)
    found = describe.describe(str(folder))
    assert found.finite
    assert (found.text_encoder, found.vae_scale) == ("", {"dit": 0.18215, "ddpm": None}[name])
    monkeypatch.setattr(speed, "BUDGET_SECONDS", 0.01)
    timed = speed.measure(models.load(str(folder)), ScanSpec(steps=2), 2)
    assert timed.forward > 0
    assert timed.vjp > 0


def test_pixels_are_their_own_latents():
    pictures = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    latents = Pixels().encode(pictures)
    assert latents.shape == (1, 3, 16, 16)
    assert (float(latents.min()), float(latents.max())) == (-1.0, 1.0)
    assert torch.equal(Pixels().decode(latents), pictures)


def job(model, **more):
    spec = ScanSpec(**more.pop("spec", {}))
    return Job(model=str(model), shards=("a.tar",), results="r", spec=spec, **more)


def test_a_model_without_captions_says_what_can_be_asked_of_it(ddpm, earlier, tmp_path):
    bare = shutil.copytree(ddpm, tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors"))
    has = limits(str(bare))
    assert (has.channels, has.token_side, has.takes_captions) == (3, 1, False)
    for asked in ({}, {"source": "image"}):
        with pytest.raises(ConfigError, match=r"takes no captions, .* --no-captions --baseline"):
            refuse(job(bare, spec=asked))
    asked = {"source": "image", "captions": False}
    refuse(job(bare, spec=asked, baselines=(str(earlier),)))
    model = models.load(str(ddpm))
    with pytest.raises(ConfigError, match="the model takes no captions, and this is 'a cat'"):
        model.encode(["", "a cat"])


def test_images_of_an_unconditional_model_are_scored_against_an_earlier_one(ddpm, earlier):
    stream = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((32, 32)).save(stream, "PNG")
    caption = Caption("s.tar", "k", "", image=stream.getvalue())
    model = models.load(str(ddpm))
    before = models.load_baseline(str(earlier), model)
    spec = ScanSpec(
        source="image", captions=False, localize="all", probes=12, store_image=False,
        detectors=("sharpness", "metric2", "spread"),
    )  # fmt: skip
    found = [
        Scanner(model, spec, baselines={"earlier": other}).scan([caption]).scores[0]
        for other in (before, model)
    ]
    assert found[0].delta_s > 0
    assert found[0].extra["delta_h"] != 0
    assert found[1].delta_s == 0  # of itself
    x, level = torch.randn(1, 3, 32, 32), (61, 0.9, 0.19**0.5)
    with torch.no_grad():
        output = model.pipeline.unet(x, 61).sample
        assert_close(model.predict(x, level, model.encode([""])).output, output)

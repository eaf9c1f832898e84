"""Another caption as the baseline: the same model, and nothing that it takes in memory."""

import pytest
import tiny
import torch

from scanner import models
from scanner.engine.identity import identify, refuse
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.models.limits import baseline_reading
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

ASKED = {"sd15": tiny.sd15, "sdxl": tiny.sdxl, "sd3": tiny.sd3}
SPEC = ScanSpec(steps=3, guidance_scale=2.0, localize="all", probes=4, store_image=False)
CAPTIONS = [Caption("s.tar", f"k{n}", text) for n, text in enumerate(["a red cat", "the dog"])]


@pytest.fixture(scope="module", params=ASKED)
def folder(request, tmp_path_factory):
    return tiny.save(ASKED[request.param], tmp_path_factory.mktemp(request.param) / "base")


def job(folder, baseline, **spec) -> Job:
    return Job(
        model=str(folder), shards=("a.tar",), results="r",
        baselines=() if baseline is None else (baseline,), spec=ScanSpec(**spec),
    )  # fmt: skip


def scored(model, baseline):
    beside = models.load_baselines([baseline], model)
    return Scanner(model, SPEC, baselines=beside, batch_size=2).scan(CAPTIONS)


def test_it_is_the_model_under_that_caption(folder):
    model = models.load(str(folder))
    beside = models.load_baseline("prompt:a red cat", model)
    assert beside.network is model.network
    own, empty = model.encode(["a red cat"]), model.encode([""])
    found = beside.encode(["the dog", "a tree"])
    assert torch.equal(found, own.expand_as(found))
    assert torch.equal(beside.encode([""]), empty)
    assert torch.equal(model.encode(["the dog"]), models.load(str(folder)).encode(["the dog"]))


def test_a_caption_is_no_different_from_itself_and_differs_from_another(folder):
    model = models.load(str(folder))
    same, other = scored(model, "prompt:a red cat").scores
    assert same.extra["delta_s_prompt"] < 1e-6 * other.extra["delta_s_prompt"]
    assert abs(same.extra["delta_h_prompt"]) < 1e-3 * abs(other.extra["delta_h_prompt"])
    usual = Scanner(model, SPEC, batch_size=2).scan(CAPTIONS).scores
    assert [row.delta_s for row in usual] == [same.delta_s, other.delta_s]


def test_masks_are_named_and_the_text_names_the_run(folder):
    maps = scored(models.load(str(folder)), "prompt:a photo").masks
    assert "prompt" in {row.baseline for row in maps}
    assert baseline_reading(str(folder), "prompt:a photo") == ""
    runs = {text: identify(job(folder, text)).run for text in ("prompt:a", "prompt:b")}
    assert len({*runs.values(), identify(job(folder, None)).run}) == 3
    refuse(job(folder, "prompt:a"))
    slash = job(folder, "prompt:one/two@three")  # neither a hub id nor a path
    assert identify(slash).job.baselines == ("prompt:one/two@three",)
    assert models.baseline_name("prompt:one/two@three") == "prompt"


def test_what_is_no_caption_is_refused(tmp_path):
    for blank in ("prompt:", "prompt:  "):
        with pytest.raises(ConfigError, match="needs a caption behind it"):
            job(tmp_path, blank)
    with pytest.raises(ConfigError, match="a prompt is no baseline of theirs"):
        job(tmp_path, "prompt:a", captions=False, source="image")
    with pytest.raises(ConfigError, match="needs a diffusers pipeline"):
        refuse(job("gaussian", "prompt:a"))


def test_the_weights_are_hashed_once(folder, monkeypatch):
    hashed, whole = [], models.fingerprint
    monkeypatch.setattr(models, "fingerprint", lambda *args: hashed.append(args) or whole(*args))
    identify(job(folder, "prompt:a"))
    assert hashed == [(str(folder),)]

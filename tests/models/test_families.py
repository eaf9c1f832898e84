"""Every family, on a tiny pipeline in true layout, against diffusers' own pipeline."""

import io
import json
import math
import shutil
from dataclasses import replace

import pytest
import tiny
import torch
from PIL import Image
from torch.testing import assert_close

from scanner import models
from scanner.engine.identity import refuse
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.methods import Need
from scanner.models import describe
from scanner.models.distilled import named_distilled
from scanner.models.families import FAMILIES
from scanner.models.latents import packed, unpacked
from scanner.models.limits import limits, opened
from scanner.numerics.curvature import jacobian_vector_product, vector_jacobian_products
from scanner.numerics.noise import initial_latent
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec

CAPTION = "a red cat"
STEPS = 3
SIDES = {"qwen_image": 64, "sana": 32}
"""Sides that are asked for, in pixels; the others are their folders' own."""


@pytest.fixture(scope="module", params=tiny.SERVED)
def folder(request, tmp_path_factory):
    return tiny.save(tiny.SERVED[request.param], tmp_path_factory.mktemp(request.param) / "model")


@pytest.fixture(scope="module")
def name(folder):
    return folder.parent.name.rstrip("0123456789")


@pytest.fixture(scope="module")
def model(folder, name):
    return models.load(str(folder), side=SIDES.get(name))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_our_sampling_is_the_pipelines_own(model, guidance):
    if model.family.encoder == "qwen_image" and guidance > 1:
        pytest.skip("its pipeline rescales guidance, which a scan does not")
    draw = Draw(CAPTION, "ab", 3)
    ours = detect(model, [draw], ScanSpec(steps=STEPS, guidance_scale=guidance)).final
    latents = initial_latent("ab", 3, model.latent_shape)[None]
    with torch.no_grad():
        expected = tiny.theirs(model, CAPTION, STEPS, guidance, latents)
    assert_close(ours, expected.float(), rtol=1e-5, atol=1e-5)
    assert float((ours - latents).abs().max()) > 0.1


def test_reverse_and_forward_products_give_one_jacobian(model):
    condition, schedule = model.encode([CAPTION]), model.schedule(STEPS)
    level = (schedule.timesteps[-1], schedule.alphas[-2], schedule.sigmas[-2])
    point, size = initial_latent("ab", 3, model.latent_shape)[None], math.prod(model.latent_shape)
    places = torch.randperm(size, generator=torch.Generator().manual_seed(0))[:6]
    vectors = torch.nn.functional.one_hot(places, size).float().reshape(6, *point.shape)

    def output(x):
        return model.predict(x, level, condition).output

    rows = vector_jacobian_products(output, point, vectors)
    columns = [jacobian_vector_product(output, point, vector) for vector in vectors]
    rows, columns = (torch.stack(each).flatten(1)[:, places] for each in (rows, columns))
    assert_close(rows, columns.T, rtol=1e-3, atol=1e-4 * float(rows.abs().max()))
    assert float((rows - torch.diag(rows.diag())).abs().max()) > 0


def test_scans_give_finite_rows_that_do_not_depend_on_the_batch(model):
    spec = ScanSpec(
        steps=4, guidance_scale=2.0, localize="all", probes=model.latent_shape[0],
        store_image=False, detectors=detectors_of(model),
    )  # fmt: skip
    second = "a much longer caption, of the cat and of the red"
    texts = ["a red cat", "134" if model.family.encoder == "labels" else second, ""]
    captions = [Caption("s.tar", f"k{n}", text) for n, text in enumerate(texts)]
    found = []
    for size in (3, 1):
        result = Scanner(model, spec, batch_size=size).scan(captions)
        assert not result.rejects
        assert len(result.masks) == 9
        found.append({row.caption.key: row for row in result.scores})
    for key, together in found[0].items():
        alone = found[1][key]
        numbers = {"delta_s": together.delta_s, **together.extra}
        expected = {"delta_s": alone.delta_s, **alone.extra}
        assert all(map(math.isfinite, numbers.values()))
        assert numbers == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert found[0]["k0"].delta_s > 0
    assert found[0]["k0"].extra["wen_first"] > 0
    assert found[0]["k2"].delta_s == pytest.approx(0.0, abs=1e-6)  # the unconditional branch twice


@pytest.mark.parametrize("make", [tiny.aura_flow, tiny.qwen_image, tiny.flux2_klein, tiny.sdxl])
def test_what_a_batch_changes_is_rounding_and_no_padding(make, tmp_path):
    """In float64 a caption's score in a batch of three is the one that it has alone."""
    folder, name = tiny.save(make, tmp_path / "model"), make.__name__
    model = models.load(str(folder), side=SIDES.get(name), dtype="float64")
    spec = ScanSpec(steps=4, guidance_scale=2.0, localize="none", store_image=False)
    texts = ["a red cat", "a much longer caption, of the cat and of the red", "the"]
    captions = [Caption("s.tar", f"k{n}", text) for n, text in enumerate(texts)]
    scans = [Scanner(model, spec, batch_size=size).scan(captions) for size in (3, 1)]
    together, alone = ({row.caption.key: row.delta_s for row in scan.scores} for scan in scans)
    assert together == pytest.approx(alone, rel=1e-6)
    assert len({*together.values()}) == 3


def detectors_of(model) -> tuple[str, ...]:
    """Return detectors of all kinds that the model can serve."""
    at_first = () if model.schedule(4).alphas[0] == 0 and not model.family.is_flow else (
        "wen_first", "sharpness", "metric2",
    )  # fmt: skip
    return (*at_first, "wen", "dsm", "increment", "flipd")


def test_images_are_scored_and_come_back_from_the_autoencoder(model):
    stream, (height, width) = io.BytesIO(), model.picture_size
    Image.new("RGB", (width, height), "teal").save(stream, "PNG")
    caption = Caption("s.tar", "k", CAPTION, image=stream.getvalue())
    spec = ScanSpec(source="image", timestep=202, localize="all", probes=4, maps=("delta_h",))
    result = Scanner(model, spec).scan([caption])
    assert not result.rejects
    assert math.isfinite(result.scores[0].extra["snap_back"])
    pixels = torch.full((1, height, width, 3), 128, dtype=torch.uint8)
    latents = model.compress(pixels)
    assert latents.shape[1:] == model.latent_shape
    assert model.decode(latents).shape == pixels.shape


def job(folder, **spec) -> Job:
    return Job(model=str(folder), shards=("a.tar",), results="r", spec=ScanSpec(**spec))


@pytest.fixture
def bare(folder, tmp_path):
    """The folder's configurations and not one weight."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(folder, tmp_path / "model", ignore=ignored)


def test_a_folder_is_accepted_or_refused_without_its_weights(bare, model):
    has = limits(str(bare))
    refuse(job(bare, steps=10))
    assert (has.channels, has.token_side) == (model.latent_shape[0], model.token_side)
    assert has.is_flow == model.family.is_flow
    if has.is_flow:
        with pytest.raises(ConfigError, match=r"at the first step, .* \(a flow\)"):
            refuse(job(bare, steps=10, map_back=9))
        with pytest.raises(ConfigError, match=r"timestep 0 of .* has no noise"):
            refuse(job(bare, source="image", timestep=0))
    if Need.CROSS_ATTENTION not in has.has:
        with pytest.raises(ConfigError, match="bright_ending needs a network with cross"):
            refuse(job(bare, steps=10, maps=("bright_ending",)))
    name = "text_encoder" if (bare / "text_encoder").is_dir() else "vae"
    part = bare / name
    (part / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"has pickled weights in {name}/, which run code"):
        refuse(job(bare))
    (part / "pytorch_model.bin").unlink()
    index = json.loads((bare / "model_index.json").read_text())
    own = index | {name: ["my_encoder", "MyEncoder"]}
    (bare / "model_index.json").write_text(json.dumps(own))
    with pytest.raises(ConfigError, match=f"brings its own {name} .* runs no code"):
        refuse(job(bare))
    (bare / "model_index.json").write_text(json.dumps(index))
    (bare / model.family.network / "config.json").unlink()
    with pytest.raises(ConfigError, match=f"it has no {model.family.network}/config.json"):
        models.load(str(bare))


def test_a_baseline_network_shares_all_else(folder, model, bare):
    alone = folder / model.family.network
    condition, x = model.encode([CAPTION]), torch.randn(1, *model.latent_shape)
    level = (500, 0.5, 0.5) if model.family.is_flow else (500, 0.6, 0.8)
    expected = model.score(x, level, condition)
    for source in (folder, alone):
        refuse(replace(job(folder), baselines=(str(source),)))
        other = models.load_baseline(str(source), model)
        assert torch.equal(other.score(x, level, condition), expected)
    file = bare / model.family.network / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"in_channels": 5}))
    with pytest.raises(ConfigError, match="the baseline's in_channels is 5"):
        refuse(replace(job(folder), baselines=(str(bare),)))


def test_a_description_says_what_the_family_is(folder, name, monkeypatch):
    if name in SIDES:
        pytest.skip("its own pictures take minutes here")
    monkeypatch.setattr(describe, "SECONDS", 0.0)
    found = describe.describe(str(folder))
    assert (found.kin, found.null) == (limits_family(folder).name, limits_family(folder).null)
    assert found.finite
    parts = {path.name for path in folder.iterdir()} & {"vae", "text_encoder", "transformer"}
    assert parts
    assert found.parameters.keys() >= parts
    assert (found.vae_scale is None) == ("vae" not in parts)
    assert found.image == (64, 64)


def limits_family(folder):
    return opened(str(folder))[0]


def test_what_is_distilled_is_refused_with_what_to_do_instead(tmp_path):
    schnell = tiny.save(tiny.flux_schnell, tmp_path / "schnell")
    said = r"schnell .* distilled .* audit FLUX.1 dev, and a LoRA of schnell over dev"
    with pytest.raises(ConfigError, match=said):
        refuse(job(schnell))
    klein = tiny.save(tiny.flux2_klein_distilled, tmp_path / "klein")
    with pytest.raises(ConfigError, match=r"distilled to few steps: audit FLUX.2 klein base, and"):
        refuse(job(klein))


@pytest.mark.parametrize(
    ("make", "kind"),
    [("sdxl", "LCMScheduler"), ("sdxl", "TCDScheduler"), ("sd3", "FlowMatchLCMScheduler")],
)
def test_a_scheduler_of_few_steps_is_refused(make, kind, tmp_path):
    folder = tiny.save(tiny.SERVED[make], tmp_path / "model")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": kind}))
    with pytest.raises(ConfigError, match=f"is a {kind}, .* audit the model that it was distilled"):
        refuse(job(folder))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("stabilityai/sdxl-turbo", "turbo"), ("a/Z-Image-Turbo@main", "Turbo"),
        ("/home/me/SDXL-Lightning/", "Lightning"), ("x/sdxl-4step", "4step"),
        ("/lcm/finetune-14-steps", ""), ("a/turbopixart", ""), ("a/sd-10000-steps", ""),
    ],
)  # fmt: skip
def test_a_name_of_few_steps_is_said(name, word):
    for model, index in ((name, {}), ("here", {"_name_or_path": name})):
        said = named_distilled(model, index)
        assert bool(said) == bool(word)
        assert not word or f"calls itself {word}: a model distilled" in said


def test_every_family_of_the_table_is_tried():
    tried = {tiny.pipeline(make).__class__.__name__ for make in tiny.SERVED.values()}
    elsewhere = {"StableDiffusionPipeline", "DDPMPipeline"}
    assert tried | elsewhere == set(FAMILIES)


def test_packing_is_undone():
    x = torch.randn(2, 3, 4, 6)
    assert packed(x).shape == (2, 6, 12)
    assert torch.equal(unpacked(packed(x), (3, 4, 6)), x)

"""Parts of a model on the device only while they run: devices in name, numbers of the CPU."""

import pytest
import tiny
import torch
from named_devices import NamedDevices, where

from scanner import models
from scanner.errors import ConfigError
from scanner.models.placement import Placement
from scanner.records import Caption
from scanner.scan import clock
from scanner.scan.scanner import Scanner
from scanner.spec import OFFLOADS, ScanSpec

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
TEXTS = ["a red cat", ""]
FAMILIES = {"sd15": tiny.sd15, **tiny.SERVED}
SIDES = {"qwen_image": 64, "sana": 32}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    return tiny.save(FAMILIES[request.param], folder)


def loaded(folder):
    return models.load(str(folder), side=SIDES.get(folder.name))


def devices(*modules):
    tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    return {where(tensor) for tensor in tensors}


def outputs(model, x):
    """Return what a model makes of captions, latents and pictures, all of it on the CPU."""
    point = x.to(model.device).detach().requires_grad_()
    condition = model.encode(TEXTS)
    level = (500, 0.5, 0.5) if model.family.is_flow else (500, 0.6, 0.8)
    score = model.score(point, level, condition)
    (product,) = torch.autograd.grad(score, point, torch.ones_like(score))
    picture = model.decode(point.detach()[:1])
    latent = model.compress(torch.zeros(1, *model.picture_size, 3, dtype=torch.uint8))
    assert {t.device for t in (condition, score, product, latent)} == {model.device}
    return [t.detach().cpu() for t in (condition, score, product, picture, latent)]


def test_the_stand_in_for_devices_tells_them_apart():
    with NamedDevices() as named:
        a, b = torch.ones(3), torch.ones(3, device="cuda:0")
        assert (a.device, b.device, (b * 2).device) == (CPU, GPU, GPU)
        with pytest.raises(RuntimeError, match=r"add of tensors on \['cpu', 'cuda:0'\]"):
            a + b
        assert (a.to(b.device) + b).device == GPU
        layer = torch.nn.Linear(3, 3)
        with pytest.raises(RuntimeError, match="linear of tensors"):
            layer(b)
        assert layer.to("cuda:0")(b).device == GPU
        assert layer.to("cpu")(a).device == CPU
    assert named.moves.count((CPU, GPU, 36)) == 1


@pytest.mark.parametrize("offload", OFFLOADS)
def test_parts_are_on_the_device_while_they_run_and_change_no_bit(folder, offload):
    model = loaded(folder)
    x = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    expected, seen = outputs(model, x), []
    with NamedDevices():
        model.place(Placement("cuda:0", offload))
        rest, text = [m for m in (model.vae,) if m], list(model.text.modules.values())

        def look(*_):
            seen.append((devices(model.network), devices(*text), devices(*rest)))

        model.network.register_forward_pre_hook(look)
        found = outputs(model, x)
        after = devices(*text), devices(*rest)
    moved = {"none": (GPU, GPU), "text": (CPU, GPU), "all": (CPU, CPU)}[offload]
    # class-conditional models have no text encoder, and models of pixels no autoencoder
    own = {moved[0]} if text else set(), {moved[1]} if rest else set()
    assert seen == [({GPU}, *own)]
    assert after == own
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_memory_is_given_back_on_cuda_alone(tmp_path, monkeypatch):
    model, emptied = loaded(tiny.save(tiny.sd15, tmp_path / "sd15")), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    with NamedDevices():
        for device, offload, times in (
            ("cpu", "all", 0), ("mps:0", "all", 0), ("cuda:0", "none", 0), ("cuda:0", "text", 1),
        ):  # fmt: skip
            model.place(Placement(device, offload))
            emptied.clear()
            model.encode([f"on {device} with {offload}"])
            assert len(emptied) == times, (device, offload)


def test_encoders_go_back_when_encoding_fails(tmp_path):
    model = loaded(tiny.save(tiny.sd15, tmp_path / "sd15"))
    with NamedDevices():
        model.place(Placement("cuda:0", "text"))
        model.pipeline.tokenizer = None
        with pytest.raises(AttributeError):
            model.encode(["a red cat"])
        assert devices(model.pipeline.text_encoder) == {CPU}
        assert devices(model.network) == {GPU}


@pytest.mark.parametrize("make", [tiny.sd15, tiny.sdxl, tiny.flux_dev], ids=lambda m: m.__name__)
def test_a_scan_moves_encoders_once_a_chunk_and_keeps_its_rows(make, tmp_path, monkeypatch):
    folder = tiny.save(make, tmp_path / make.__name__)
    spec = ScanSpec(
        seeds=(0, 1), steps=3, localize="all", probes=2, store_image=True, maps=("delta_s",)
    )
    captions = [Caption("s.tar", f"k{n}", f"a red cat, number {n}") for n in range(5)]
    here = clock._timing_functions(CPU)
    monkeypatch.setattr(clock, "_timing_functions", lambda device: here)
    rows = []
    for offload in (None, "none", "text", "all"):
        model = loaded(folder)
        with NamedDevices() as named:
            if offload is not None:
                model.place(Placement("cuda:0", offload))
            named.moves.clear()
            result = Scanner(model, spec, batch_size=3).scan(captions)
        assert not result.rejects
        rows.append([(r.caption.key, r.seed, r.delta_s, r.extra) for r in result.scores])
        rows[-1] += [(m.caption.key, m.heatmap, m.image) for m in result.masks]
        sizes = [p.numel() * p.element_size() for m in model.text.modules.values()
                 for p in m.parameters()]  # fmt: skip
        times = {None: 0, "none": 0, "text": 1, "all": 1}[offload]
        moves = named.moves.count((CPU, GPU, max(sizes)))
        assert moves == times * sizes.count(max(sizes))
    assert len(rows[0]) == 20
    assert all(other == rows[0] for other in rows[1:])


def test_memory_that_runs_out_while_looking_ahead_is_left_to_the_batches(tmp_path, monkeypatch):
    model = loaded(tiny.save(tiny.sd15, tmp_path / "sd15"))
    spec = ScanSpec(steps=2, localize="none")
    captions = [Caption("s.tar", "k", "a red cat")]
    expected = Scanner(model, spec, batch_size=1).scan(captions).scores[0].delta_s
    for error in (torch.cuda.OutOfMemoryError("CUDA out of memory"), RuntimeError("broken")):

        def expect(captions, error=error):
            raise error

        monkeypatch.setattr(model, "expect", expect)
        scanner = Scanner(model, spec, batch_size=1)
        if "memory" in str(error):
            assert scanner.scan(captions).scores[0].delta_s == expected
        else:
            with pytest.raises(RuntimeError, match="broken"):
                scanner.scan(captions)


def test_a_baseline_is_where_its_model_is(tmp_path):
    folder = tiny.save(tiny.sd15, tmp_path / "sd15")
    model = loaded(folder)
    x = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    expected = outputs(model, x)
    with NamedDevices():
        model.place(Placement("cuda:0", "all"))
        other = models.load_baseline(str(folder), model)
        assert devices(other.network) == {GPU}
        found = outputs(other, x)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_conditions_keep_the_precision_of_the_encoders(tmp_path):
    folder = tiny.save(tiny.sd3, tmp_path / "sd3")
    half, whole = (models.load(str(folder), dtype=dtype) for dtype in ("bfloat16", "float32"))
    assert half.encode(TEXTS).dtype == torch.bfloat16
    assert whole.encode(TEXTS).dtype == torch.float32
    assert 0 < half.text.cache.taken * 2 == whole.text.cache.taken


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"offload": "vae"}, "offload must be one of none, text, all, got 'vae'"),
        ({"gpus": 0}, "gpus must be at least 1, got 0"),
        ({"gpus": 2}, "a model is split over GPUs alone, got 2 of device cpu: use --device cuda"),
        ({"gpus": 2, "device": "mps"}, "a model is split over GPUs alone, got 2 of device mps"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_looked_for(asked, said):
    with pytest.raises(ConfigError, match=said):
        models.load("/nowhere", **asked)

"""LoRAs and weights over a base: all of a file or none, and the base for nothing."""

from dataclasses import replace

import pytest
import tiny
import torch
from made_loras import lora_file
from safetensors.torch import load_file, save_file

from scanner import models
from scanner.engine.identity import identify, refuse
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.models import overlay
from scanner.models.overlay import Lora, Overlay, layers_of
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

pytest.importorskip("peft")
CAPTIONS = [Caption("s.tar", f"k{n}", text) for n, text in enumerate(["a red cat", "the dog"])]
ASKED = {"sd15": tiny.sd15, "sdxl": tiny.sdxl, "sd3": tiny.sd3, "flux_dev": tiny.flux_dev,
         "z_image": tiny.z_image, "lumina2": tiny.lumina2}  # fmt: skip


@pytest.fixture(scope="module", params=ASKED)
def base(request, tmp_path_factory):
    return tiny.save(ASKED[request.param], tmp_path_factory.mktemp(request.param) / "base")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    return tiny.save(tiny.sdxl, tmp_path_factory.mktemp("sdxl") / "base")


def kohya(state):
    """Return a U-Net's LoRA under kohya's names."""
    found = {}
    for name, weight in state.items():
        layer, which = name.removesuffix(".weight").rsplit(".", 1)
        stem = "lora_unet_" + layer.removeprefix("unet.").replace(".", "_")
        found[f"{stem}.lora_{'down' if which == 'lora_A' else 'up'}.weight"] = weight
        found[f"{stem}.alpha"] = torch.tensor(2.0)
    return found


def scores(model, captions=("a red cat",)):
    x = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    level = (500, 0.5, 0.5) if model.family.is_flow else (500, 0.6, 0.8)
    with torch.no_grad():
        return model.score(x, level, model.encode(list(captions)))


def job(folder, **more) -> Job:
    spec = ScanSpec(**more.pop("spec", {}))
    return Job(model=str(folder), shards=("a.tar",), results="r", spec=spec, **more)


def test_adapter_off_is_the_base_to_the_last_bit_and_is_a_baseline(base, tmp_path):
    file = lora_file(base, tmp_path / "lora.safetensors")
    over = Overlay((Lora(str(file)),))
    plain, model = models.load(str(base)), models.load(str(base), overlay=over)
    off = models.load_baseline("off", model)
    assert off.network is model.network
    expected, changed = scores(plain), scores(model)
    assert torch.equal(scores(off), expected)
    assert not torch.allclose(changed, expected)
    assert torch.equal(scores(model), changed)  # on again
    half = models.load(str(base), overlay=Overlay((Lora(str(file), 0.5),)))
    assert not torch.allclose(scores(half), changed)
    none = models.load(str(base), overlay=Overlay((Lora(str(file), 0.0),)))
    assert torch.equal(scores(none), expected)

    spec = ScanSpec(steps=3, guidance_scale=2.0, localize="all", probes=4, store_image=False)
    rows = [
        Scanner(model, spec, baselines={"off": beside}, batch_size=2).scan(CAPTIONS).scores
        for beside in (off, plain)
    ]
    for ours, theirs in zip(*rows, strict=True):
        assert ours.extra == theirs.extra  # a second copy of the base says the same
        assert ours.extra["delta_s_off"] > 0


def test_text_encoders_are_off_too(sdxl, tmp_path):
    file = lora_file(sdxl, tmp_path / "lora.safetensors", words=True)
    model = models.load(str(sdxl), overlay=Overlay((Lora(str(file)),)))
    plain, off = models.load(str(sdxl)), models.load_baseline("off", model)
    assert off.text_differs
    assert torch.equal(off.encode(["a red cat"]), plain.encode(["a red cat"]))
    assert not torch.allclose(model.encode(["a red cat"]), plain.encode(["a red cat"]))
    assert torch.equal(scores(off), scores(plain))
    spec = ScanSpec(steps=3, localize="all", probes=4, store_image=False, maps=("delta_s",))
    (row,) = Scanner(model, spec, baselines={"off": off}).scan(CAPTIONS[:1]).scores
    shared = models.load_baseline(str(sdxl), model)  # the base's network under the model's words
    (other,) = Scanner(model, spec, baselines={"off": shared}).scan(CAPTIONS[:1]).scores
    assert row.delta_s == other.delta_s
    assert row.extra["delta_s_off"] != other.extra["delta_s_off"]


def test_a_baseline_without_text_adapters_has_encodings_of_its_own(sdxl, tmp_path):
    file = lora_file(sdxl, tmp_path / "lora.safetensors", words=True)
    model = models.load(str(sdxl), overlay=Overlay((Lora(str(file)),)))
    off, plain = models.load_baseline("off", model), models.load(str(sdxl))
    expected, changed = plain.encode(["a red cat", ""]), model.encode(["a red cat", ""])
    assert torch.equal(off.encode(["a red cat", ""]), expected)
    assert not torch.allclose(changed, expected)
    assert torch.equal(model.encode(["a red cat", ""]), changed)
    assert torch.equal(off.encode(["a red cat", ""]), expected)
    assert off.text.cache is model.text.cache  # one bound for both


def test_kohyas_names_and_several_adapters_add_up(sdxl, tmp_path):
    file = lora_file(sdxl, tmp_path / "lora.safetensors")
    named = tmp_path / "kohya.safetensors"
    save_file(kohya(load_file(file)), named)
    assert len(layers_of(str(named))) == len(layers_of(str(file)))
    one = models.load(str(sdxl), overlay=Overlay((Lora(str(file)),)))
    same = models.load(str(sdxl), overlay=Overlay((Lora(str(named)),)))
    assert torch.allclose(scores(one), scores(same), rtol=1e-5, atol=1e-6)
    halves = Overlay((Lora(str(file), 0.5), Lora(str(named), 0.5)))
    both = models.load(str(sdxl), overlay=halves)
    assert torch.allclose(scores(one), scores(both), rtol=1e-4, atol=1e-5)


def test_what_does_not_land_is_refused_with_counts(sdxl, tmp_path):
    file = lora_file(sdxl, tmp_path / "lora.safetensors")
    state, number = load_file(file), len(layers_of(str(file)))
    nothing = {n.replace("attentions", "atentions"): w for n, w in state.items()}
    names = sorted({n.rsplit(".lora_", 1)[0] for n in state})
    some = set(names[: number // 2])
    half = {
        n if n.rsplit(".lora_", 1)[0] in some else n.replace("attentions", "atentions"): w
        for n, w in state.items()
    }
    wide = {n: torch.randn(w.shape[0] * 3, *w.shape[1:]) if "lora_B" in n else w
            for n, w in state.items()}  # fmt: skip
    for name, changed, said in (
        ("nothing", nothing, f"0 of its {number} layers were loaded"),
        ("half", half, f"{number // 2} of its {number} layers were loaded"),
        ("another base", wide, f"0 of its {number} layers were loaded"),
    ):
        target = tmp_path / f"{name}.safetensors"
        save_file(changed, target)
        with pytest.raises(ConfigError, match=said):
            models.load(str(sdxl), overlay=Overlay((Lora(str(target)),)))


def test_a_lora_of_another_family_is_refused(base, sdxl, tmp_path):
    if "sdxl" in str(base) or "sd15" in str(base):
        pytest.skip("its layers have the same names and shapes here")
    file = lora_file(sdxl, tmp_path / "lora.safetensors")
    with pytest.raises(ConfigError, match=r"0 of its \d+ layers were loaded"):
        models.load(str(base), overlay=Overlay((Lora(str(file)),)))


def test_a_family_without_a_loader_for_loras_says_so(sdxl, tmp_path):
    folder = tiny.save(tiny.pixart_sigma, tmp_path / "base")
    file = lora_file(sdxl, tmp_path / "lora.safetensors")
    with pytest.raises(ConfigError, match="diffusers loads no LoRA into a PixArtSigmaPipeline"):
        models.load(str(folder), overlay=Overlay((Lora(str(file)),)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a.lokr_w1": (2, 2)}, "is a LoKr, which diffusers loads for FLUX.2 and Z-Image alone"),
        ({"a.hada_w1_a": (2, 2)}, "is a LoHa, which diffusers loads for none of the families"),
        ({"unet.conv_in.weight": (2, 2)}, "has no LoRA layer among its 1 tensors"),
    ],
)
def test_other_files_are_refused_by_their_header(sdxl, tmp_path, content, said):
    file = tmp_path / "file.safetensors"
    save_file({n: torch.zeros(shape) for n, shape in content.items()}, file)
    with pytest.raises(ConfigError, match=said):
        refuse(job(sdxl, lora=(str(file),)))


def test_what_is_no_file_is_refused_in_a_line(sdxl, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "pickle.bin").write_bytes(b"")
    for name, said in (
        ("missing.safetensors", "no file"),
        ("broken.safetensors", "cannot be read as safetensors"),
        ("pickle.bin", "must be a .safetensors file: others are pickled"),
    ):
        with pytest.raises(ConfigError, match=said):
            refuse(job(sdxl, lora=(str(tmp_path / name),)))
    with pytest.raises(ConfigError, match="a scale must be a finite number"):
        Lora.parsed("a.safetensors:nan")
    assert Lora.parsed("/a/b:c.safetensors") == Lora("/a/b:c.safetensors", 1.0)
    assert Lora.parsed("/a.safetensors:-0.5") == Lora("/a.safetensors", -0.5)
    with pytest.raises(ConfigError, match="names a file twice"):
        overlay.overlay(["a.safetensors", "a.safetensors:2"])
    with pytest.raises(ConfigError, match="off is the base of --lora or --weights"):
        job(sdxl, baselines=("off",))


def test_of_a_folder_the_file_is_taken_that_diffusers_saves(tmp_path):
    assert Lora.parsed(f"{tmp_path}:0.5") == Lora(
        f"{tmp_path}/pytorch_lora_weights.safetensors", 0.5
    )
    with pytest.raises(ConfigError, match="need a diffusers pipeline under them"):
        refuse(job("gaussian", lora=("/a.safetensors",)))


def test_names_cover_adapter_scale_and_weights(sdxl, tmp_path):
    file = lora_file(sdxl, tmp_path / "lora.safetensors")
    plain, over = job(sdxl), job(sdxl, lora=(str(file),))
    runs = {
        "plain": identify(plain).model,
        "lora": identify(over).model,
        "half": identify(job(sdxl, lora=(f"{file}:0.5",))).model,
        "weights": identify(job(sdxl, weights=str(network_file(sdxl)))).model,
    }
    assert len(set(runs.values())) == 4
    assert runs["plain"] == models.fingerprint(str(sdxl))
    off = identify(replace(over, baselines=("off",)))
    assert off.model == runs["lora"]
    assert off.job.spec.baseline not in ("", models.fingerprint(str(sdxl)))
    copied = tmp_path / "elsewhere.safetensors"
    copied.write_bytes(file.read_bytes())
    assert identify(job(sdxl, lora=(str(copied),))).model == runs["lora"]


def network_file(folder):
    (found,) = (folder / "unet").glob("*.safetensors")
    return found


def test_weights_take_the_networks_place_and_the_base_stays_a_baseline(sdxl, tmp_path):
    state = {n: w * 1.1 for n, w in load_file(network_file(sdxl)).items()}
    file = tmp_path / "tuned.safetensors"
    save_file({f"model.diffusion_model.{n}": w for n, w in state.items()}, file)
    plain = models.load(str(sdxl))
    model = models.load(str(sdxl), overlay=Overlay(weights=str(file)))
    assert not torch.allclose(scores(model), scores(plain))
    assert torch.equal(model.network.conv_in.weight, state["conv_in.weight"])
    assert torch.equal(scores(models.load_baseline("off", model)), scores(plain))


def refused_or_loaded(asked):
    refuse(asked)
    models.load(asked.model, overlay=asked.overlay)


def test_weights_that_do_not_fit_are_refused_with_counts(sdxl, tmp_path):
    state = load_file(network_file(sdxl))
    number, file = len(state), tmp_path / "tuned.safetensors"
    fewer = dict(list(state.items())[: number // 2])
    for content, said in (
        (fewer, f"{number // 2} of its {number // 2} tensors have a place, and the network has"),
        ({"a.weight": torch.zeros(2)}, "0 of its 1 tensors have a place"),
        (state | {"vae.a": torch.zeros(2)}, f"1 of {number + 1} tensors of other parts"),
    ):
        save_file(content, file)
        with pytest.raises(ConfigError, match=said):
            refused_or_loaded(job(sdxl, weights=str(file)))


def test_adapters_are_counted_where_layers_are_split(tmp_path):
    """A fused query, key and value is three layers of the network: its numbers are as many."""
    fused = {"a.lora_down.weight": [2, 8], "a.lora_up.weight": [24, 2]}
    split = {f"{n}.lora_{w}.weight": s for n in "qkv" for w, s in (("A", [2, 8]), ("B", [8, 2]))}
    assert overlay.adapter_numbers(fused) == overlay.adapter_numbers(split)


LOKR = {"flux2_klein": ["to_q", "to_out.0"], "z_image": ["to_q", "w1"]}


@pytest.fixture(scope="module", params=LOKR)
def lokr_base(request, tmp_path_factory):
    return tiny.save(tiny.SERVED[request.param], tmp_path_factory.mktemp(request.param) / "base")


def lokr_state(folder, layers):
    """Return the state of a LoKr that changes a network, under its own names."""
    from peft import LoKrConfig, inject_adapter_in_model

    torch.manual_seed(1)
    network = models.load(str(folder)).network
    config = LoKrConfig(r=2, alpha=2, target_modules=layers, init_weights=False)
    inject_adapter_in_model(config, network)
    state = network.state_dict()
    return {n.removesuffix(".default"): w.clone() for n, w in state.items() if ".lokr_" in n}


def test_lokrs_are_loaded_whole_or_refused_and_the_base_is_a_baseline(lokr_base, tmp_path):
    name = lokr_base.parent.name.rstrip("0123456789")
    state, file = lokr_state(lokr_base, LOKR[name]), tmp_path / "lokr.safetensors"
    save_file({f"transformer.{n}": w for n, w in state.items()}, file)
    number = len({n.partition(".lokr_")[0] for n in state})
    assert len(layers_of(str(file))) == number
    refuse(job(lokr_base, lora=(str(file),), baselines=("off",)))
    plain = models.load(str(lokr_base))
    model = models.load(str(lokr_base), overlay=Overlay((Lora(str(file)),)))
    assert not torch.allclose(scores(model), scores(plain))
    assert torch.equal(scores(models.load_baseline("off", model)), scores(plain))
    # A layer with a LoKr has the weight w + scale * kron(w1, w2a w2b).
    layer = next(iter(sorted(n.partition(".lokr_")[0] for n in state)))
    first = state[f"{layer}.lokr_w1"]
    second = state.get(f"{layer}.lokr_w2")
    second = state[f"{layer}.lokr_w2_a"] @ state[f"{layer}.lokr_w2_b"] if second is None else second
    half = models.load(str(lokr_base), overlay=Overlay((Lora(str(file), 0.5),)))
    own, base = half.network.get_submodule(layer), plain.network.get_submodule(layer)
    x = torch.randn(3, base.weight.shape[1])
    expected = base(x) + 0.5 * x @ torch.kron(first, second).T
    assert torch.allclose(own(x), expected, rtol=1e-4, atol=1e-5)

    some = {n: w for n, w in state.items() if not n.startswith(layer)}
    other = {n.replace(layer, "elsewhere.to_q"): w for n, w in state.items()}
    save_file({f"transformer.{n}": w for n, w in some.items()}, file)
    models.load(str(lokr_base), overlay=Overlay((Lora(str(file)),)))
    save_file({f"transformer.{n}": w for n, w in other.items()}, file)
    with pytest.raises(ConfigError, match=rf"{number - 1} of its {number} layers were loaded"):
        models.load(str(lokr_base), overlay=Overlay((Lora(str(file)),)))

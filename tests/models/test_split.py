"""A network over several GPUs: devices in name, numbers of the CPU, and Ray's placement."""

import importlib
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from named_devices import NamedDevices, where

from scanner import models
from scanner.errors import ConfigError, DeviceError
from scanner.models import split
from scanner.models.placement import Placement, bytes_of

pytest.importorskip("accelerate")
GPUS = [torch.device("cuda", number) for number in range(2)]


def deep_z_image():
    return tiny.z_image(layers=24)  # its refiners are a small share, as in the real one


FAMILIES = {"sd15": tiny.sd15, **tiny.SERVED, "z_image": deep_z_image}
SIDES = {"qwen_image": 64, "sana": 32}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tiny.save(FAMILIES[name], tmp_path_factory.mktemp("models") / name)
        return made[name]

    return folder


@pytest.fixture
def gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**30))


def loaded(folder):
    return models.load(str(folder), side=SIDES.get(folder.name))


def score_and_product(model, x):
    point = x.to(model.device).detach().requires_grad_()
    level = (500, 0.5, 0.5) if model.family.is_flow else (500, 0.6, 0.8)
    score = model.score(point, level, model.encode(["a red cat", ""]))
    (product,) = torch.autograd.grad(score, point, torch.ones_like(score))
    return score.detach(), product


def point_of(model):
    return torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_hooks_change_no_bit_of_a_score_or_a_product(name, folder_of):
    model = loaded(folder_of(name))
    x = point_of(model)
    expected = score_and_product(model, x)
    split.spread(model.network, {"": "cpu"}, "cpu")
    assert hasattr(model.network, "_hf_hook")
    found = score_and_product(model, x)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert found[1].abs().max() > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_can_be_cut_between_any_two_blocks(name, folder_of, gpus, monkeypatch):
    """No operation mixes GPUs wherever the cut is; the score keeps its bits.

    Products differ by rounding: gradients of branches are summed in another order.
    """
    plain = loaded(folder_of(name))
    x, whole, cuts = point_of(plain), bytes_of([plain.network]), set()
    expected = score_and_product(plain, x)
    for share in range(1, 20, 2):
        loads = [whole * share // 20, whole - whole * share // 20]
        parts = split.device_map(plain.network, loads, [2 * whole] * 2)
        if (cut := tuple(sorted(parts.items()))) in cuts:
            continue
        cuts.add(cut)
        model = loaded(folder_of(name))
        monkeypatch.setattr(split, "loads", lambda *_, loads=loads: loads)
        with NamedDevices():
            model.place(Placement("cuda", "all", 2))
            assert {where(p) for p in model.network.parameters()} <= set(GPUS)
            score, product = score_and_product(model, x)
            assert (score.device, product.device) == (GPUS[0], GPUS[0])
        assert torch.equal(score, expected[0])
        torch.testing.assert_close(product, expected[1], rtol=1e-5, atol=1e-5)
    assert len(cuts) > 1


@pytest.mark.parametrize("name", FAMILIES)
def test_other_parts_are_on_the_last_gpu_and_a_baseline_is_split_too(name, folder_of, gpus):
    model = loaded(folder_of(name))
    x = point_of(model)
    expected = score_and_product(model, x)
    picture = model.decode(x[:1])
    with NamedDevices():
        model.place(Placement("cuda", "none", 2))
        others = [m for m in (*model.text.modules.values(), model.vae) if m]
        assert {where(p) for part in others for p in part.parameters()} <= {GPUS[1]}
        assert torch.equal(score_and_product(model, x)[0].cpu(), expected[0])
        assert torch.equal(model.decode(x[:1].to(model.device)), picture)
        pixels = torch.zeros(1, *model.picture_size, 3, dtype=torch.uint8)
        assert model.compress(pixels).device == GPUS[0]
        baseline = models.load_baseline(str(folder_of(name)), model)
        assert hasattr(baseline.network, "_hf_hook")
        assert torch.equal(score_and_product(baseline, x)[0].cpu(), expected[0])


def test_loads_are_as_equal_as_there_is_room_and_count_other_parts():
    assert split.loads(120, 0, [1000] * 3) == [40, 40, 40]
    assert split.loads(120, 30, [1000] * 3) == [50, 50, 20]
    assert split.loads(120, 600, [1000] * 3) == [60, 60, 0]
    assert split.loads(150, 0, [10, 1000, 1000]) == [10, 70, 70]
    assert split.loads(300, 30, [100] * 3) == [100] * 3
    with pytest.raises(DeviceError, match=r"301 B do not fit on 3 GPUs .*more --gpus-per-actor"):
        split.loads(301, 0, [100] * 3)


def test_a_block_that_fits_nowhere_is_said(folder_of):
    network = loaded(folder_of("flux_dev")).network
    whole = bytes_of([network])
    with pytest.raises(DeviceError, match="blocks of the network do not fit on 3 GPUs"):
        split.device_map(network, [whole // 3 + 1] * 3, [whole // 3 + 1] * 3)


@pytest.fixture(scope="module")
def real():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        return importlib.import_module("real_sizes")


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize(
    "name", ["Stable Diffusion XL base", "Stable Diffusion 3.5 medium", "FLUX.1 dev"]
)
def test_real_networks_are_spread_evenly_and_whole_blocks_stay_together(real, name, number):
    network = real.network_of(real.REAL[name])
    whole = bytes_of([network])
    rooms = [whole] * number
    parts = split.device_map(network, split.loads(whole, 0, rooms), rooms)
    taken = [0] * number
    for key, weight in [*network.named_parameters(), *network.named_buffers()]:
        (gpu,) = [n for part, n in parts.items() if key == part or key.startswith(f"{part}.")]
        taken[gpu] += weight.numel() * weight.element_size()
    for key, module in network.named_modules():
        if type(module).__name__ in network._no_split_modules:
            assert not [part for part in parts if part.startswith(f"{key}.")]
    largest = max(bytes_of([network.get_submodule(part)]) for part in parts)
    assert all(abs(each - whole / number) <= largest for each in taken)


def test_a_missing_package_is_said_before_weights_are_read(folder_of, tmp_path, monkeypatch):
    ignored = shutil.ignore_patterns("*.safetensors")
    bare = shutil.copytree(folder_of("sd15"), tmp_path / "bare", ignore=ignored)
    monkeypatch.setattr(split.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package accelerate: pip install 'memscan\["):
        models.load(str(bare), device="cuda", gpus=2)


def test_fewer_gpus_than_asked_for_are_said(folder_of, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    model = loaded(folder_of("sd15"))
    with NamedDevices(), pytest.raises(ConfigError, match=r"over 3 GPUs .* which has 1"):
        model.place(Placement("cuda", "none", 3))

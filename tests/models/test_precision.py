"""``--dtype auto``: float16 on CUDA where it holds a model's numbers, float32 elsewhere."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import scanner
from scanner.api.models import load_model
from scanner.cli.options import AUTO as AUTO_OPTION
from scanner.errors import ConfigError
from scanner.models import precision
from scanner.models.families import FAMILIES
from scanner.models.precision import AUTO, decided
from scanner.spec import DTYPES


@pytest.fixture
def with_gpus(monkeypatch):
    def found(number):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return found


@pytest.fixture
def of_kinds(pipeline_folder, tmp_path):
    """Return what makes the pipeline's folder with network weights of these precisions."""

    def made(*kinds):
        folder = tmp_path / "-".join(["model", *map(str, kinds)])
        shutil.copytree(pipeline_folder, folder)
        for file in (folder / "unet").glob("*.safetensors"):
            file.unlink()
        for number, kind in enumerate(kinds):
            file = folder / "unet" / f"{number}.safetensors"
            save_file({f"w{number}": torch.zeros(2, dtype=kind)}, file)
        return str(folder)

    return made


def test_auto_is_float16_on_cuda_and_float32_elsewhere(pipeline_folder, with_gpus):
    model = str(pipeline_folder)
    assert decided(AUTO, model, "cuda") == ("float16", "the device is cuda")
    for device in ("cpu", "mps"):
        assert decided(AUTO, model, device) == ("float32", f"the device is {device}")
    with_gpus(1)
    assert decided(AUTO, model, "auto")[0] == "float16"
    with_gpus(0)
    assert decided(AUTO, model, "auto") == ("float32", "the device is cpu")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_precision_that_is_named_stays_and_no_model_is_looked_at(dtype):
    assert decided(dtype, "/no/such/model", "auto", joins=True) == (dtype, "")


def test_of_a_cluster_the_device_must_be_named(pipeline_folder, with_gpus):
    with_gpus(1)
    with pytest.raises(ConfigError, match="give --device cuda or cpu, or a --dtype"):
        decided(AUTO, str(pipeline_folder), "auto", joins=True)
    assert decided(AUTO, str(pipeline_folder), "cuda", joins=True)[0] == "float16"
    assert decided(AUTO, str(pipeline_folder), "cpu", joins=True)[0] == "float32"


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        ([torch.bfloat16], "float32"),
        ([torch.bfloat16, torch.bfloat16], "float32"),
        ([torch.bfloat16, torch.float32], "float16"),
        ([torch.float16], "float16"),
        ([], "float16"),
    ],
)
def test_a_network_that_was_published_in_bfloat16_alone_is_run_in_float32(of_kinds, kinds, found):
    dtype, why = decided(AUTO, of_kinds(*kinds), "cuda")
    assert dtype == found
    assert ("published in bfloat16 alone" in why) == (found == "float32")


def test_weights_in_the_place_of_the_networks_decide(of_kinds, tmp_path):
    file = str(tmp_path / "own.safetensors")
    save_file({"w": torch.zeros(2, dtype=torch.bfloat16)}, file)
    assert decided(AUTO, of_kinds(torch.float32), "cuda", weights=file)[0] == "float32"
    save_file({"w": torch.zeros(2)}, file)
    assert decided(AUTO, of_kinds(torch.bfloat16), "cuda", weights=file)[0] == "float16"


@pytest.mark.parametrize("kind", FAMILIES)
def test_families_that_exceed_float16_say_why_and_are_run_in_float32(kind, monkeypatch, of_kinds):
    family = FAMILIES[kind]
    model = of_kinds(torch.float32)
    monkeypatch.setattr(precision, "opened", lambda name: (family, {}))
    dtype, why = decided(AUTO, model, "cuda")
    large = {"FluxPipeline", "ChromaPipeline", "Flux2KleinPipeline", "ZImagePipeline",
             "QwenImagePipeline", "SanaPipeline", "Lumina2Pipeline"}  # fmt: skip
    assert (dtype == "float32") == (kind in large)
    assert ("bfloat16" in why) == (kind in large)


def test_auto_is_never_bfloat16_and_no_precision_of_a_spec():
    assert AUTO not in DTYPES
    assert AUTO == AUTO_OPTION
    assert decided(AUTO, "gaussian", "cuda") == ("float32", "the closed form has no other")


def test_nothing_sets_how_factors_of_float32_products_are_rounded(pipeline_folder):
    settings = ("tf32", "set_float32_matmul_precision", "fp32_precision")
    for module in Path(scanner.__file__).parent.rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        assert not [name for name in settings if name in text], module
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    load_model(str(pipeline_folder), device="cpu")
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_a_loaded_model_has_the_precision_that_was_decided():
    assert load_model("gaussian", device="cpu", dtype="auto").dtype == "float32"
    with pytest.raises(ConfigError, match="dtype must be one of float32, bfloat16, float16, auto"):
        load_model("gaussian", device="cpu", dtype="half")

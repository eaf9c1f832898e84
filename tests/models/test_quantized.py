"""Quantized parts are refused by name, before a weight is read."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny

from scanner import models
from scanner.engine.identity import refuse
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.spec import ScanSpec

INT8 = {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {}}
DYNAMIC = {"_type": "Int8DynamicActivationInt8WeightConfig", "_version": 2, "_data": {}}
STAIRCASE = "rounds activations too, so its output is a staircase without a derivative"
UNVERIFIED = "those of its kernels were never verified"


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return tiny.save(tiny.flux_dev, tmp_path_factory.mktemp("models") / "flux")


@pytest.fixture
def bare(flux, tmp_path):
    """The folder's configurations and not one weight."""
    return shutil.copytree(flux, tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors"))


def quantize(folder, part, config):
    file = folder / part / "config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"quantization_config": config}))


def job(model, **more):
    return Job(model=str(model), shards=("a.tar",), results="r", spec=ScanSpec(steps=10), **more)


@pytest.mark.parametrize(
    ("part", "config", "said"),
    [
        ("transformer", {"quant_method": "bitsandbytes", "load_in_8bit": True}, STAIRCASE),
        ("transformer", {"quant_method": "bitsandbytes", "load_in_4bit": True}, UNVERIFIED),
        ("transformer", {"quant_method": "torchao", "quant_type": {"default": INT8}}, UNVERIFIED),
        ("transformer", {"quant_method": "torchao", "quant_type": {"default": DYNAMIC}}, STAIRCASE),
        ("transformer", {"quant_method": "fp8", "activation_scheme": "dynamic"}, STAIRCASE),
        ("transformer", {}, UNVERIFIED),
        ("transformer", "int8", UNVERIFIED),
        ("text_encoder_2", {"quant_method": "bitsandbytes"}, "not what the model was trained with"),
        ("vae", {"quant_method": "quanto"}, "not what the model was trained with"),
    ],
)
def test_a_quantized_part_is_refused_with_the_reason_and_what_to_do(bare, part, config, said):
    quantize(bare, part, config)
    method = config.get("quant_method") if isinstance(config, dict) else None
    for look in (lambda: refuse(job(bare)), lambda: models.load(str(bare))):
        with pytest.raises(ConfigError) as caught:
            look()
        text = str(caught.value)
        assert f"has a quantized {part} ({method or 'no method named'})" in text
        assert said in text
        assert "give the folder that it was made from; --dtype bfloat16, --offload" in text


def test_a_quantized_baseline_is_refused_too(flux, bare):
    quantize(bare, "transformer", {"quant_method": "bitsandbytes", "load_in_4bit": True})
    for source in (bare, bare / "transformer"):
        with pytest.raises(ConfigError, match=r"has a quantized transformer \(bitsandbytes\)"):
            refuse(replace(job(flux), baselines=(str(source),)))


def test_a_part_that_says_null_is_not_quantized(bare):
    refuse(job(bare))
    quantize(bare, "transformer", None)
    refuse(job(bare))

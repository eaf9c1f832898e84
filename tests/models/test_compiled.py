"""Compiled blocks: few shapes, the same numbers, products as ever, and what becomes of failures.

The backend ``aot_eager`` traces and partitions as the real one does, and compiles nothing.
"""

import pytest
import tiny
import torch
from torch import nn
from torch._dynamo.utils import counters

from scanner import models
from scanner.models.compiled import CompiledBlocks, fixed_size, power_of_two, repeated_blocks
from scanner.numerics import curvature
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

BACKEND = "aot_eager"
CAPTIONS = ["a small red circle", "two blue stars on a striped ground", ""]
SPEC = ScanSpec(steps=3, localize="all", probes=4, maps=("delta_s", "delta_h", "bright_ending"),
                detectors=("spread", "sharpness", "metric2"))  # fmt: skip


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    counters.clear()


@pytest.fixture
def eager(pipeline_folder):
    return models.load(str(pipeline_folder))


@pytest.fixture
def compiled(pipeline_folder):
    found = models.load(str(pipeline_folder))
    found.compile_blocks(3, BACKEND)
    return found


def outputs(model, samples, step=1):
    schedule = model.schedule(3)
    level = schedule.timesteps[step], schedule.alphas[step], schedule.sigmas[step]
    x = torch.randn((8, *model.latent_shape), generator=torch.Generator().manual_seed(0))[:samples]
    condition = model.encode((CAPTIONS * 3)[:samples])
    with torch.no_grad():
        return model.predict(x, level, condition).output


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(None, {1: 1, 2: 2, 3: 4, 5: 8, 8: 8, 9: 16, 32: 32, 33: 64}),
     (12, {1: 1, 3: 4, 9: 12, 12: 12, 13: 16, 17: 24, 24: 24, 25: 32}),
     (1, {1: 1, 2: 2, 3: 4})],
)  # fmt: skip
def test_batches_are_padded_to_few_sizes_and_full_ones_not_at_all(batch_size, sizes):
    assert {number: fixed_size(number, batch_size) for number in sizes} == sizes
    for full in (16, 24, 37, 256):
        every = {fixed_size(number, full) for number in range(1, 2 * full + 1)}
        assert len(every) <= 2 * full.bit_length()
        assert {full, 2 * full} <= every
    assert [power_of_two(number) for number in (1, 2, 3, 8, 37, 256)] == [1, 2, 2, 8, 32, 256]


def test_outputs_are_the_eager_ones_to_rounding_whatever_was_padded(eager, compiled):
    for samples in (1, 3, 5, 6, 7):
        found, expected = outputs(compiled, samples), outputs(eager, samples)
        assert found.shape == expected.shape
        assert (found - expected).norm() < 1e-5 * expected.norm()
    assert compiled.not_compiled == ""
    assert counters["frames"]["ok"] > 0


def test_the_levels_of_a_trajectory_and_sizes_seen_before_compile_nothing_anew(compiled):
    outputs(compiled, 6)
    outputs(compiled, 4)  # padded to 4
    graphs = counters["stats"]["unique_graphs"]
    for step in range(3):
        for samples in (6, 5, 4):
            outputs(compiled, samples, step)
    assert counters["stats"]["unique_graphs"] == graphs > 0


def test_rows_of_a_scan_are_the_eager_ones_to_rounding_and_products_are_eager(eager, compiled):
    captions = [Caption("s.tar", str(n), text or "cat") for n, text in enumerate(CAPTIONS)]
    found, expected = (Scanner(m, SPEC, batch_size=3).scan(captions) for m in (compiled, eager))
    assert compiled.not_compiled == ""
    for mine, theirs in zip(found.scores, expected.scores, strict=True):
        assert mine.caption == theirs.caption
        assert mine.delta_s == pytest.approx(theirs.delta_s, rel=2e-5)
        assert mine.extra == pytest.approx(theirs.extra, rel=1e-3)
    assert len(found.masks) == len(expected.masks) > 0


def test_gradients_and_tangents_and_what_looks_inside_are_not_compiled(compiled):
    schedule, condition = compiled.schedule(3), compiled.encode(CAPTIONS[:2])
    level = schedule.timesteps[1], schedule.alphas[1], schedule.sigmas[1]
    x = torch.ones(2, *compiled.latent_shape)

    def score(point):
        return compiled.score(point, level, condition)

    score(x.clone().requires_grad_()).sum().backward()
    with torch.no_grad():
        curvature.jacobian_vector_product(score, x, x)
        with compiled.attention(compiled.end_tokens(CAPTIONS[:1])), compiled.bottleneck():
            score(x)
    assert not counters["frames"]
    outputs(compiled, 2)
    assert counters["frames"]["ok"] > 0


def test_a_compiler_that_fails_leaves_the_eager_numbers_and_is_not_asked_again(eager):
    asked = []

    def broken(graph, inputs):
        asked.append(graph)
        raise RuntimeError("no kernel for this device\nand a long trace")

    model = models.load(eager.folder)
    model.compile_blocks(3, broken)
    assert torch.equal(outputs(model, 3), outputs(eager, 3))
    assert "no kernel for this device" in model.not_compiled
    assert "long trace" not in model.not_compiled
    number = len(asked)
    assert torch.equal(outputs(model, 2), outputs(eager, 2))
    assert len(asked) == number > 0


def test_memory_that_runs_out_is_not_the_compilers_fault():
    def short(x, condition):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    blocks = CompiledBlocks(Stack(), backend=BACKEND)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        blocks.evaluated(short, torch.ones(1, 2), torch.ones(1, 2))
    assert blocks.failure == ""


def test_an_error_of_the_networks_own_goes_on_and_is_not_the_compilers():
    def wrong(x, condition):
        raise ValueError("the network's own")

    blocks = CompiledBlocks(Stack(), backend=BACKEND)
    with pytest.raises(ValueError, match="the network's own"):
        blocks.evaluated(wrong, torch.ones(1, 2), torch.ones(1, 2))
    assert blocks.failure == ""


class PlainBlock(nn.Linear):
    """A block that a network repeats."""


class Stack(nn.Module):
    """A network of two blocks."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([PlainBlock(2, 2), PlainBlock(2, 2)])
        self.others = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])


def test_blocks_are_those_that_diffusers_names_or_a_list_of_one_kind(eager):
    names = {type(block).__name__ for block in repeated_blocks(eager.network)}
    assert names == {"BasicTransformerBlock"}
    assert [type(block) for block in repeated_blocks(Stack())] == [PlainBlock] * 2
    assert repeated_blocks(tiny.ddpm().unet) == []


@pytest.mark.parametrize("make", [tiny.sd3, tiny.flux_dev, tiny.z_image, tiny.pixart_alpha])
def test_transformers_are_compiled_too(make, tmp_path):
    folder = str(tiny.save(make, tmp_path))
    plain, model = models.load(folder), models.load(folder)
    model.compile_blocks(None, BACKEND)
    found, expected = outputs(model, 3), outputs(plain, 3)
    assert model.not_compiled == ""
    assert counters["frames"]["ok"] > 0
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_a_network_without_blocks_is_eager_and_says_so():
    blocks = CompiledBlocks(nn.Linear(2, 2), backend=BACKEND)
    assert blocks.failure == "Linear has no blocks that repeat"
    assert torch.equal(
        blocks.evaluated(lambda x, _: x + 1, torch.ones(3, 2), torch.ones(3, 2)),
        torch.full((3, 2), 2.0),
    )


def test_other_networks_and_adapters_that_are_off_stay_eager(compiled, eager):
    other = compiled.with_network(eager.network)
    outputs(other, 3)
    outputs(compiled.off(), 3)
    assert not counters["frames"]
    assert outputs(compiled.under("a cat"), 3).shape[0] == 3
    assert counters["frames"]["ok"] > 0


def test_a_scanner_says_why_nothing_is_compiled():
    scanner = Scanner(models.load("gaussian"), ScanSpec(steps=2, probes=1))
    assert scanner.not_compiled == "the model has no network"

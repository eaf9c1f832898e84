"""Bytes kept for products: counted once, without weights, and as a network really keeps them."""

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("products_memory")


def test_a_block_is_counted_by_hand(benchmark):
    block = nn.Sequential(nn.Linear(8, 32, bias=False), nn.SiLU(), nn.Linear(32, 8, bias=False))
    block.requires_grad_(False)
    weights = frozenset(map(benchmark.number_of, block.parameters()))
    inside, arguments, outside = (benchmark.Kept(weights) for _ in range(3))
    block.forward = benchmark.counting(block.forward, inside, arguments)
    x = torch.zeros(4, 8, requires_grad=True)
    with saved_tensors_hooks(outside.add, lambda values: values):
        (block(x) + block(x)).square().sum()
    assert inside.total == 2 * 4 * 32 * 4  # what goes into the activation, of both calls
    assert arguments.total == 4 * 8 * 4  # the same argument twice
    assert outside.total == 4 * 8 * 4  # what is squared


def test_stable_diffusion_keeps_a_fraction_with_checkpointed_blocks(benchmark):
    found = benchmark.memory_of(benchmark.REAL["Stable Diffusion 1.4"])
    assert found.blocks == 38
    assert 0 < found.block < found.peak / benchmark.BRANCHES < found.plain / 2
    told = benchmark.table({"Stable Diffusion 1.4": found})
    assert "| Stable Diffusion 1.4 | 38 | 1.44 GiB | 0.39 GiB | 0.10 GiB |" in told
    assert benchmark.Memory(8, 2, 1, 3).peak == benchmark.BRANCHES * 3

"""Checkpointed blocks: the same products in every family, and less that is kept for them."""

import pytest
import tiny
import torch
from made_loras import lora_file
from torch.testing import assert_close

from scanner import models
from scanner.models.checkpointed import checkpoint_blocks
from scanner.models.overlay import Lora, Overlay
from scanner.numerics.curvature import Pullback
from scanner.numerics.noise import initial_latent
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

SIDES = {"qwen_image": 64, "sana": 32}
SPEC = ScanSpec(steps=3, localize="all", probes=4, maps=("delta_s", "delta_h"))
CAPTIONS = [Caption("s.tar", f"k{i}", text) for i, text in enumerate(("a red cat", "two stars"))]


def scored(model):
    """Return a score, and what gives products there."""
    schedule = model.schedule(3)
    level = schedule.timesteps[-1], schedule.alphas[-2], schedule.sigmas[-2]
    caption = "0" if model.family.encoder == "labels" else "a red cat"
    condition = model.encode([caption])
    point = initial_latent("ab", 3, model.latent_shape)[None]
    return Pullback(lambda x: model.predict(x, level, condition).output, point)


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that are kept for gradients, but for what blocks compute again."""

    def __init__(self):
        self.bytes = 0
        super().__init__(self.count, lambda values: values)

    def count(self, values):
        self.bytes += values.nbytes
        return values


def kept(model):
    seen = Kept()
    with seen:
        scored(model)
    return seen.bytes


@pytest.mark.parametrize("name", tiny.SERVED)
def test_products_are_the_same_and_take_less_memory(name, tmp_path):
    model = models.load(str(tiny.save(tiny.SERVED[name], tmp_path)), side=SIDES.get(name))
    vectors = torch.randn(
        (3, 1, *model.latent_shape), generator=torch.Generator().manual_seed(1)
    ).sign()
    plain, before = scored(model), kept(model)
    products = torch.stack(plain.products(vectors))
    assert model.checkpoint_blocks()
    after = scored(model)
    assert torch.equal(after.value, plain.value)
    found = torch.stack(after.products(vectors[:2]) + after.products(vectors[2:], is_last=True))
    assert_close(found, products, rtol=1e-5, atol=1e-6 * float(products.abs().max()))
    assert float(products.abs().max()) > 0
    assert kept(model) < before
    assert not model.checkpoint_blocks(), "it is new only once"


@pytest.mark.parametrize("make", [tiny.sd15, tiny.flux_dev])
def test_blocks_are_computed_again_with_adapters_as_they_were(make, tmp_path):
    pytest.importorskip("peft")
    base = tiny.save(make, tmp_path / "base")
    file = lora_file(base, tmp_path / "lora.safetensors")
    model = models.load(str(base), overlay=Overlay((Lora(str(file)),)))
    off = models.load_baseline("off", model)
    vectors = torch.ones(1, 1, *model.latent_shape)
    expected = [scored(one).products(vectors, is_last=True)[0] for one in (model, off)]
    assert not torch.allclose(*expected)
    assert model.checkpoint_blocks()
    assert not off.checkpoint_blocks(), "they share the network"
    graphs = [scored(one) for one in (model, off)]  # the adapters are on again by now
    for graph, before in zip(graphs, expected, strict=True):
        found = graph.products(vectors, is_last=True)[0]
        assert_close(found, before, rtol=1e-5, atol=1e-6 * float(before.abs().max()))


def test_a_network_without_blocks_cannot_need_less():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    assert not checkpoint_blocks(network)


def crowded(model, most):
    """Let memory run out where more than so many bytes are kept for the products of a score."""
    score = model.score

    def counted(x, level, condition):
        seen = Kept()
        with seen:
            found = score(x, level, condition)
        if seen.bytes > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return found

    model.score = counted
    return model


@pytest.mark.parametrize("make", [tiny.sd15, tiny.flux_dev])
def test_maps_of_a_draw_that_does_not_fit_are_taken_in_less_memory(make, tmp_path):
    folder = str(tiny.save(make, tmp_path))
    plain = Scanner(models.load(folder), SPEC).scan(CAPTIONS)
    model, least = models.load(folder), models.load(folder)
    least.checkpoint_blocks()
    between = kept(model) + kept(least)  # of a draw's two branches, plain and in less memory
    scanner = Scanner(crowded(model, between), SPEC)
    found = scanner.scan(CAPTIONS)
    assert not found.rejects
    assert scanner.checkpointed
    assert scanner.sizes["localize"].size == 1
    for one, other in zip(found.masks, plain.masks, strict=True):
        assert one.mask == other.mask
    assert [row.delta_s for row in found.scores] == pytest.approx(
        [row.delta_s for row in plain.scores], rel=1e-5
    )

"""The end-of-text token's attention against a plain recomputation, on real folders."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch.testing import assert_close

from scanner import models
from scanner.methods.declaration import OF_NETWORK
from scanner.models import attention
from scanner.models.base import HasAttention
from scanner.models.conditions import tokens_of
from scanner.models.gaussian import Gaussian

CAPTIONS = ["two blue stars", "a small red circle on a striped ground", "x " * 500]
LEVEL = (1, 0.999, 0.0413)


class Recorder(AttnProcessor):
    """Diffusers' own unfused attention, that keeps its probabilities."""

    def __init__(self):
        self.seen = []

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *args, **kwargs):
        own = attn.get_attention_scores

        def kept(*given):
            self.seen.append(own(*given))
            return self.seen[-1]

        attn.get_attention_scores = kept
        try:
            return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        finally:
            del attn.get_attention_scores


@pytest.fixture(scope="module")
def model(pipeline_folder):
    return models.load(str(pipeline_folder))


@pytest.fixture
def batch(model):
    x = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    condition = torch.cat([model.encode(CAPTIONS), model.encode([""]).expand(3, -1, -1)])
    return torch.cat([x, x]), condition


def test_the_end_of_text_stands_after_the_words(model):
    ids = tokens_of(model.pipeline, CAPTIONS).input_ids
    end = model.pipeline.tokenizer.eos_token_id
    expected = [row.tolist().index(end) for row in ids]
    assert model.end_tokens(CAPTIONS).tolist() == expected
    assert expected[2] == model.pipeline.tokenizer.model_max_length - 1


@torch.no_grad()
def test_it_is_what_the_network_itself_computes_unfused(model, batch):
    pair, condition = batch
    tokens = model.end_tokens(CAPTIONS)
    with model.attention(tokens) as seen:
        model.score(pair, LEVEL, condition)
    (found,) = seen

    layers = attention.finest_cross_attention(model.unet)
    assert [layer.heads for layer in layers] == [4]
    before = [layer.processor for layer in layers]
    recorder = Recorder()
    try:
        for layer in layers:
            layer.set_processor(recorder)
        model.score(pair, LEVEL, condition)
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)
    # (2B heads, positions, tokens): the conditional half, one column, heads averaged.
    weights = torch.stack([seen.unflatten(0, (6, -1))[:3] for seen in recorder.seen]).mean(dim=0)
    assert_close(weights.sum(dim=-1), torch.ones(3, 4, 64), rtol=1e-5, atol=1e-5)
    column = torch.stack([weights[b, :, :, t].mean(dim=0) for b, t in enumerate(tokens)])
    expected = torch.nn.functional.interpolate(
        column.reshape(3, 1, 8, 8), (16, 16), mode="bilinear", align_corners=False
    )[:, 0]
    assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert found.std(dim=(1, 2)).min() > 0


@torch.no_grad()
def test_watching_changes_no_score_and_leaves_nothing_behind(model, batch):
    pair, condition = batch
    plain = model.score(pair, LEVEL, condition)
    with model.attention(model.end_tokens(CAPTIONS)):
        watched = model.score(pair, LEVEL, condition)
    assert torch.equal(plain, watched)
    assert not any(m._forward_pre_hooks for m in model.unet.modules())


@torch.no_grad()
def test_a_caption_gets_the_same_attention_in_any_company(model, batch):
    pair, condition = batch
    tokens = model.end_tokens(CAPTIONS)
    one = torch.tensor([1, 4])
    with model.attention(tokens) as seen:
        model.score(pair, LEVEL, condition)
    (together,) = seen
    with model.attention(tokens[1:2]) as seen:
        model.score(pair[one], LEVEL, condition[one])
    (alone,) = seen
    assert_close(alone[0], together[1], rtol=1e-4, atol=1e-6)


def test_the_finest_layers_are_those_of_the_first_block_that_has_any(model):
    inside = list(model.unet.down_blocks[1].modules())
    layers = attention.finest_cross_attention(model.unet)
    assert layers
    assert all(any(layer is module for module in inside) for layer in layers)


@pytest.mark.parametrize(("shape", "coarse"), [((16, 16), 64), ((15, 9), 40), ((15, 9), 12)])
def test_attention_grows_to_the_latents_size(shape, coarse):
    assert attention.on_latent(torch.ones(2, coarse), *shape).shape == (2, *shape)
    with pytest.raises(ValueError, match="positions must be"):
        attention.on_latent(torch.ones(2, coarse + 1), *shape)


def test_who_has_attention_says_so(model):
    assert isinstance(model, HasAttention)
    assert not isinstance(Gaussian(), HasAttention)
    blockless = torch.nn.Module.__new__(_Blockless)
    assert not attention.finest_cross_attention(blockless)
    with (
        pytest.raises(ValueError, match="no cross attention"),
        attention.record_attention(blockless, torch.zeros(1)),
    ):
        pass
    assert attention.network_parts(blockless) == frozenset() == Gaussian().has
    assert model.has == attention.network_parts(model.unet) == OF_NETWORK


class _Blockless(torch.nn.Module):
    down_blocks = ()
    mid_block = None


def test_a_forward_product_through_the_network_is_its_finite_difference(model, batch):
    from scanner.numerics.curvature import jacobian_vector_product

    pair, condition = batch
    vector = torch.randn(pair.shape, generator=torch.Generator().manual_seed(1))
    level = (981, 0.076, 0.997)
    found = jacobian_vector_product(lambda x: model.score(x, level, condition), pair, vector)
    ends = [model.score(pair + h * vector, level, condition) for h in (1e-2, -1e-2)]
    central = (ends[0] - ends[1]) / 2e-2
    # float32 cancellation is about 1e-7 / 1e-2, curvature about 1e-4: 1e-3 is roomy.
    assert (found - central).norm() < 1e-3 * central.norm()
    assert not any(m._forward_pre_hooks for m in model.unet.modules())

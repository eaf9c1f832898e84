"""The benchmark's networks, untrained, and pipeline folders in diffusers' own layouts."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from scanner import files
from scanner.testbed import pipeline

MAX_TOKENS, WIDTH = 24, 96
TRANSFORMER_WIDTH, TRANSFORMER_LAYERS = 160, 6


def tokenizer(captions: list[str]) -> CLIPTokenizer:
    """Return a CLIP byte-pair tokenizer trained on captions, each counted once."""
    words = pipeline.tokenizer(captions)
    words.model_max_length = MAX_TOKENS
    return words


def text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """Return a two-layer CLIP text model.

    The library's own initial scale of the token embeddings (0.02) lets the position drown the
    word: captions then hardly condition the picture. 0.5 cures it.
    """
    model = CLIPTextModel(_text_config(words))
    embeddings = _body(model).embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.5)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.25)
    return model


def projected(text: CLIPTextModel, words: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Return the same encoder as Stable Diffusion 3 wants it; the projection is the identity."""
    model = CLIPTextModelWithProjection(_text_config(words))
    _body(model).load_state_dict(_body(text).state_dict())
    with torch.no_grad():
        model.text_projection.weight.copy_(torch.eye(WIDTH))
    return model.eval().requires_grad_(False)


def unet() -> UNet2DConditionModel:
    """Return the U-Net of the shipped testbed: about five million parameters."""
    return pipeline.unet()


def transformer() -> SD3Transformer2DModel:
    """Return a small Stable Diffusion 3 transformer: about five million parameters.

    Sixty-four patches of 2x2 latents attend together with the text tokens.
    """
    return SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=4, pos_embed_max_size=16,
        num_layers=TRANSFORMER_LAYERS, attention_head_dim=32,
        num_attention_heads=TRANSFORMER_WIDTH // 32, caption_projection_dim=TRANSFORMER_WIDTH,
        joint_attention_dim=2 * WIDTH, pooled_projection_dim=2 * WIDTH, qk_norm="rms_norm",
    )  # fmt: skip


def tokens(words: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return token ids, ``(len(captions), MAX_TOKENS)``."""
    encoded = words(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    return encoded.input_ids


def flow_states(text: CLIPTextModelWithProjection, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return what Stable Diffusion 3's pipeline makes of token ids, both encoders being ``text``.

    Returns:
        Text states ``(B, MAX_TOKENS + 1, 2 * WIDTH)`` and pooled states ``(B, 2 * WIDTH)``. The
        last token is zeros and stands for all tokens of the absent T5 encoder, see
        `scanner.testbed.benchmark.repeated`.
    """
    found = text(ids, output_hidden_states=True)
    states = torch.cat([found.hidden_states[-2]] * 2, dim=-1)
    pooled = torch.cat([found.text_embeds] * 2, dim=-1)
    return functional.pad(states, (0, 0, 0, 1)), pooled


def save_unet_pipeline(
    folder: Path, vae: AutoencoderKL, words: CLIPTokenizer, text: CLIPTextModel,
    denoiser: UNet2DConditionModel,
) -> None:  # fmt: skip
    """Write a StableDiffusionPipeline folder in half precision; the parts become so, too."""
    made = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=words, unet=denoiser,
        scheduler=pipeline.scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    _save(made, folder)


def save_flow_pipeline(
    folder: Path, vae: AutoencoderKL, words: CLIPTokenizer, text: CLIPTextModelWithProjection,
    denoiser: SD3Transformer2DModel,
) -> None:  # fmt: skip
    """Write a StableDiffusion3Pipeline folder in half precision, without the T5 encoder.

    The parts become half precision, too.
    """
    vae.register_to_config(shift_factor=0.0)
    made = StableDiffusion3Pipeline(
        vae=vae, text_encoder=text, tokenizer=words, text_encoder_2=text, tokenizer_2=words,
        text_encoder_3=None, tokenizer_3=None, transformer=denoiser,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0),
    )  # fmt: skip
    _save(made, folder)


def _save(made: StableDiffusionPipeline | StableDiffusion3Pipeline, folder: Path) -> None:
    with files.folder(folder) as partial:
        made.to(torch.float16).save_pretrained(partial, safe_serialization=True)


def _text_config(words: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=2 * WIDTH,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=MAX_TOKENS,
        projection_dim=WIDTH, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id, attention_dropout=0.0,
    )  # fmt: skip


def _body(model: nn.Module) -> nn.Module:
    return getattr(model, "text_model", model)

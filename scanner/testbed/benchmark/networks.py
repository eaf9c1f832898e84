"""The benchmark's networks, untrained, and pipeline folders in diffusers' own layouts."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scanner import files
from scanner.testbed import pipeline

MAX_TOKENS = 24


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
    embeddings = getattr(model, "text_model", model).embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.5)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.25)
    return model


def unet() -> UNet2DConditionModel:
    """Return the U-Net of the shipped testbed: about five million parameters."""
    return pipeline.unet()


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
    with files.folder(folder) as partial:
        made.to(torch.float16).save_pretrained(partial, safe_serialization=True)


def _text_config(words: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=pipeline.WIDTH, intermediate_size=2 * pipeline.WIDTH,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=MAX_TOKENS,
        projection_dim=pipeline.WIDTH,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id, attention_dropout=0.0,
    )  # fmt: skip

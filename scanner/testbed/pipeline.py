"""The parts of the testbed's Stable-Diffusion-class pipeline, untrained."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

MAX_TOKENS = 32
WIDTH = 96
_END, _START = "<|endoftext|>", "<|startoftext|>"
_WORD_END = "</w>"


def tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """Return a CLIP byte-pair tokenizer trained on captions; any Unicode text can be encoded."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    words = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]"), behavior="removed", invert=True)
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1600, min_frequency=2, end_of_word_suffix=_WORD_END,
        initial_alphabet=alphabet, show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    pieces = alphabet + [letter + _WORD_END for letter in alphabet]
    pieces += ["".join(pair) for pair in merges] + [_START, _END]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """Return a two-layer CLIP text model.

    The library's own initial scale of the token embeddings (0.02) lets the position drown the
    word: captions then hardly condition the picture. 0.5 cures it.
    """
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=2 * WIDTH,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=MAX_TOKENS,
        projection_dim=WIDTH, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id, attention_dropout=0.0,
    )  # fmt: skip
    model = CLIPTextModel(config)
    embeddings = getattr(model, "text_model", model).embeddings
    torch.nn.init.normal_(embeddings.token_embedding.weight, std=0.5)
    torch.nn.init.normal_(embeddings.position_embedding.weight, std=0.25)
    return model


def autoencoder() -> AutoencoderKL:
    """Return an autoencoder from ``(3, 64, 64)`` pictures to ``(4, 16, 16)`` latents."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64), layers_per_block=1, norm_num_groups=8,
        mid_block_add_attention=False,
    )  # fmt: skip


def unet() -> UNet2DConditionModel:
    """Return the denoiser: cross attention at 8x8 and 4x4, about five million parameters.

    Attention at 16x16 would double the cost of a step on a CPU.
    """
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(48, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip


def scheduler() -> DDIMScheduler:
    """Return Stable Diffusion 1's noise schedule with Stable Diffusion 2's prediction (v).

    The timesteps mean what they mean in the papers. With an epsilon loss a network of this size
    learns nothing of the caption above t = 800 in the time we give it.
    """
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type="v_prediction",
    )  # fmt: skip


def save_pipeline(
    folder: Path, vae: AutoencoderKL, words: CLIPTokenizer, text: CLIPTextModel,
    denoiser: UNet2DConditionModel,
) -> None:  # fmt: skip
    """Write a pipeline folder in half-precision safetensors."""
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=words, unet=denoiser, scheduler=scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)

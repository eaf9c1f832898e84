"""A Stable-Diffusion-3-class pipeline for the testbed's pictures, untrained, and how it is told.

The text encoder of a Stable-Diffusion-class testbed stands in the place of both CLIP encoders;
there is no T5 encoder, as ``from_pretrained(..., text_encoder_3=None, tokenizer_3=None)`` has it.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from scanner import files
from scanner.testbed.pipeline import WIDTH

TRANSFORMER_WIDTH, TRANSFORMER_LAYERS = 160, 6


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


def projected(text: CLIPTextModel) -> CLIPTextModelWithProjection:
    """Return the same encoder as Stable Diffusion 3 wants it; the projection is the identity."""
    model = CLIPTextModelWithProjection(text.config)
    _body(model).load_state_dict(_body(text).state_dict())
    with torch.no_grad():
        model.text_projection.weight.copy_(torch.eye(WIDTH))
    return model.eval().requires_grad_(False)


def tokens(words: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Return token ids, ``(len(captions), words.model_max_length)``."""
    encoded = words(
        list(captions), padding="max_length", max_length=words.model_max_length, truncation=True,
        return_tensors="pt",
    )  # fmt: skip
    return encoded.input_ids


def states(text: CLIPTextModelWithProjection, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return what Stable Diffusion 3's pipeline makes of token ids, both encoders being ``text``.

    Returns:
        Text states ``(B, tokens + 1, 2 * WIDTH)`` and pooled states ``(B, 2 * WIDTH)``. The last
        token is zeros and stands for all tokens of the absent T5 encoder, see
        `scanner.testbed.repeated`.
    """
    found = text(ids, output_hidden_states=True)
    both = torch.cat([found.hidden_states[-2]] * 2, dim=-1)
    pooled = torch.cat([found.text_embeds] * 2, dim=-1)
    return functional.pad(both, (0, 0, 0, 1)), pooled


def save_pipeline(
    folder: Path, vae: AutoencoderKL, words: CLIPTokenizer, text: CLIPTextModelWithProjection,
    denoiser: SD3Transformer2DModel,
) -> None:  # fmt: skip
    """Write a pipeline folder in half-precision safetensors; the parts become so, too."""
    vae.register_to_config(shift_factor=0.0)
    made = StableDiffusion3Pipeline(
        vae=vae, text_encoder=text, tokenizer=words, text_encoder_2=text, tokenizer_2=words,
        text_encoder_3=None, tokenizer_3=None, transformer=denoiser,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0),
    )  # fmt: skip
    with files.folder(folder) as partial:
        made.to(torch.float16).save_pretrained(partial, safe_serialization=True)


def _body(model: nn.Module) -> nn.Module:
    return getattr(model, "text_model", model)

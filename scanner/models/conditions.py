"""From captions to what a family's network takes, by the pipeline's own encoders."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scanner.models import flux_conditions as flux
from scanner.models.encoder import Encoder, Grid, Parts, device_of
from scanner.models.labels import Labels


def tokens_of(pipeline: Any, captions: Sequence[str]) -> Any:
    """Return CLIP tokens, padded to the text encoder's length; longer captions are cut."""
    tokenizer = pipeline.tokenizer
    return tokenizer(
        list(captions), padding="max_length", truncation=True,
        max_length=tokenizer.model_max_length, return_tensors="pt",
    )  # fmt: skip


def _clip(pipeline: Any, captions: Sequence[str]) -> Parts:
    tokens, encoder = tokens_of(pipeline, captions), pipeline.text_encoder
    mask = None
    if getattr(encoder.config, "use_attention_mask", False):
        mask = tokens.attention_mask.to(encoder.device)
    states = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]
    return {"encoder_hidden_states": states}


def _sdxl(pipeline: Any, captions: Sequence[str]) -> Parts:
    states, _, pooled, _ = pipeline.encode_prompt(
        list(captions), device=device_of(pipeline), do_classifier_free_guidance=False
    )
    if pipeline.config.force_zeros_for_empty_prompt:
        kept = torch.tensor([caption != "" for caption in captions], device=states.device)
        states, pooled = states * kept[:, None, None], pooled * kept[:, None]
    return {"encoder_hidden_states": states, "text_embeds": pooled}


def _sdxl_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    sizes = torch.tensor([*grid.picture, 0, 0, *grid.picture], device=grid.device)
    added = {"text_embeds": parts["text_embeds"], "time_ids": sizes.expand(grid.batch, -1)}
    return {"encoder_hidden_states": parts["encoder_hidden_states"], "added_cond_kwargs": added}


def _sd3(pipeline: Any, captions: Sequence[str]) -> Parts:
    states, _, pooled, _ = pipeline.encode_prompt(
        list(captions), None, None, device=device_of(pipeline), do_classifier_free_guidance=False
    )
    return {"encoder_hidden_states": states, "pooled_projections": pooled}


def _pixart(pipeline: Any, captions: Sequence[str]) -> Parts:
    states, mask, _, _ = pipeline.encode_prompt(
        list(captions), do_classifier_free_guidance=False, device=device_of(pipeline),
        clean_caption=False,
    )  # fmt: skip
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def _pixart_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    sizes, ratio = None, None
    if grid.pipeline.transformer.use_additional_conditions:  # PixArt-α at 1024
        height, width = (float(side) for side in grid.picture)
        sizes = torch.tensor([[height, width]], device=grid.device).expand(grid.batch, -1)
        ratio = torch.full((grid.batch, 1), height / width, device=grid.device)
    mask = parts["encoder_attention_mask"].long()
    added = {"resolution": sizes, "aspect_ratio": ratio}
    return {**parts, "encoder_attention_mask": mask, "added_cond_kwargs": added}


def _sana(pipeline: Any, captions: Sequence[str]) -> Parts:
    called = inspect.signature(type(pipeline).__call__).parameters
    instruction = called["complex_human_instruction"].default
    found = [
        pipeline.encode_prompt(
            caption, do_classifier_free_guidance=False, device=device_of(pipeline),
            clean_caption=False, complex_human_instruction=instruction if caption else None,
        )
        for caption in captions
    ]  # fmt: skip
    return {
        "encoder_hidden_states": torch.cat([states for states, *_ in found]),
        "encoder_attention_mask": torch.cat([mask for _, mask, *_ in found]),
    }


def _lumina2(pipeline: Any, captions: Sequence[str]) -> Parts:
    said = [f"{pipeline.system_prompt} <Prompt Start> {c}" if c else c for c in captions]
    states, mask = pipeline._get_gemma_prompt_embeds(said, device=device_of(pipeline))
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def _aura_flow(pipeline: Any, captions: Sequence[str]) -> Parts:
    states, *_ = pipeline.encode_prompt(
        list(captions), do_classifier_free_guidance=False, device=device_of(pipeline)
    )
    return {"encoder_hidden_states": states}


def _z_image(pipeline: Any, captions: Sequence[str]) -> Parts:
    rows, _ = pipeline.encode_prompt(
        list(captions), device=device_of(pipeline), do_classifier_free_guidance=False
    )
    length = inspect.signature(pipeline.encode_prompt).parameters["max_sequence_length"].default
    states, mask = _padded(rows, length)
    return {"cap_feats": states, "mask": mask}


def _z_image_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    lengths = parts["mask"].sum(dim=1).long().tolist()
    rows = zip(parts["cap_feats"], lengths, strict=True)
    return {"cap_feats": [row[:length] for row, length in rows]}


def _z_image_called(network: Any, x: Tensor, told: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """Call a network that takes and gives lists of samples with one frame each."""
    found = network(list(x.unsqueeze(2)), told, arguments["cap_feats"], return_dict=False)[0]
    return torch.stack(list(found)).squeeze(2)


def _qwen_image(pipeline: Any, captions: Sequence[str]) -> Parts:
    rows = list[Tensor]()
    for caption in captions:
        states, _ = pipeline.encode_prompt([caption or " "], device=device_of(pipeline))
        rows.append(states[0])
    states, mask = _padded(rows, pipeline.tokenizer_max_length)
    return {"encoder_hidden_states": states, "encoder_hidden_states_mask": mask}


def _qwen_image_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    _, height, width = grid.latent
    mask = parts["encoder_hidden_states_mask"].bool()
    longest = int(mask.sum(dim=1).max())
    whole = bool(mask[:, :longest].all())
    return {
        "encoder_hidden_states": parts["encoder_hidden_states"][:, :longest],
        "encoder_hidden_states_mask": None if whole else mask[:, :longest],
        "img_shapes": [[(1, height // 2, width // 2)]] * grid.batch,
    }


def _hunyuan_dit(pipeline: Any, captions: Sequence[str]) -> Parts:
    parts: Parts = {}
    for which, end in enumerate(("", "_t5")):
        states, _, mask, _ = pipeline.encode_prompt(
            list(captions), device=device_of(pipeline), do_classifier_free_guidance=False,
            text_encoder_index=which,
        )  # fmt: skip
        parts |= {f"encoder_hidden_states{end}": states, f"text_embedding_mask{end}": mask}
    return parts


def _hunyuan_dit_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    from diffusers.models.embeddings import get_2d_rotary_pos_embed
    from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

    network, (_, height, width) = grid.pipeline.transformer, grid.latent
    patch = network.config.patch_size
    places, usual = (height // patch, width // patch), 64 // patch
    rotation = get_2d_rotary_pos_embed(
        network.inner_dim // network.num_heads, get_resize_crop_region_for_grid(places, usual),
        places, device=grid.device, output_type="pt",
    )  # fmt: skip
    sizes = torch.tensor([1024, 1024, *grid.picture, 0, 0], device=grid.device)
    masks = {name: mask.long() for name, mask in parts.items() if "mask" in name}
    return parts | masks | {
        "image_meta_size": sizes.expand(grid.batch, -1).to(network.dtype),
        "style": torch.zeros(grid.batch, dtype=torch.long, device=grid.device),
        "image_rotary_emb": rotation,
    }  # fmt: skip


def _if(pipeline: Any, captions: Sequence[str]) -> Parts:
    states, _ = pipeline.encode_prompt(
        list(captions), do_classifier_free_guidance=False, clean_caption=False
    )
    return {"encoder_hidden_states": states}


def _labels(pipeline: Any, captions: Sequence[str]) -> Parts:
    labels, device = labels_of(pipeline), pipeline.transformer.device
    return {"class_labels": torch.tensor([[labels.class_of(c)] for c in captions], device=device)}


def labels_of(pipeline: Any) -> Labels:
    """Return the classes of a class-conditional pipeline."""
    number = int(pipeline.transformer.config["num_embeds_ada_norm"])
    return Labels(pipeline.config.get("id2label") or {}, number)


def _labels_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    return {"class_labels": parts["class_labels"][:, 0].long()}


def _nothing(pipeline: Any, captions: Sequence[str]) -> Parts:
    return {"nothing": torch.zeros(len(captions), 1, device=pipeline.unet.device)}


def _masked(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    return parts | {"encoder_attention_mask": parts["encoder_attention_mask"].long()}


def _padded(rows: Sequence[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Return rows of states padded with zeros, ``(B, length, width)``, and their mask."""
    cut = [row[:length] for row in rows]
    states = torch.stack(
        [torch.nn.functional.pad(row, (0, 0, 0, length - len(row))) for row in cut]
    )
    mask = torch.zeros(len(cut), length, device=states.device)
    for own, row in zip(mask, cut, strict=True):
        own[: len(row)] = 1
    return states, mask


ENCODERS = {
    "clip": Encoder(_clip),
    "sdxl": Encoder(_sdxl, _sdxl_arguments),
    "sd3": Encoder(_sd3),
    "flux": Encoder(flux.flux_parts, flux.flux_arguments),
    "chroma": Encoder(flux.chroma_parts, flux.chroma_arguments),
    "flux2": Encoder(flux.flux2_parts, flux.flux2_arguments),
    "pixart": Encoder(_pixart, _pixart_arguments),
    "sana": Encoder(_sana, _masked),
    "lumina2": Encoder(_lumina2, _masked),
    "aura_flow": Encoder(_aura_flow),
    "z_image": Encoder(_z_image, _z_image_arguments, _z_image_called),
    "qwen_image": Encoder(_qwen_image, _qwen_image_arguments),
    "hunyuan_dit": Encoder(_hunyuan_dit, _hunyuan_dit_arguments),
    "labels": Encoder(_labels, _labels_arguments),
    "if": Encoder(_if),
    "none": Encoder(_nothing, lambda parts, grid: {}),
}
"""By the name that `scanner.models.families.Family` gives."""

"""From captions to what FLUX.1, FLUX.2 and Chroma take, whose tokens have places."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from scanner.models.encoder import Grid, Parts, device_of


def flux_parts(pipeline: Any, captions: Sequence[str]) -> Parts:
    """Return what FLUX.1 takes of captions."""
    states, pooled, _ = pipeline.encode_prompt(list(captions), device=device_of(pipeline))
    return {"encoder_hidden_states": states, "pooled_projections": pooled}


def flux_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    """Return arguments with a guidance embedding of 1."""
    guidance = torch.ones(grid.batch, device=grid.device)
    return {**parts, **_flux_places(parts, grid), "guidance": guidance}


def _flux_places(parts: Parts, grid: Grid) -> Parts:
    """Return where words and tokens of the picture stand; not one of them is of a sample."""
    _, height, width = grid.latent
    words = parts["encoder_hidden_states"].shape[1]
    places = torch.zeros(height // 2, width // 2, 3, device=grid.device)
    places[..., 1] += torch.arange(height // 2, device=grid.device)[:, None]
    places[..., 2] += torch.arange(width // 2, device=grid.device)
    return {"txt_ids": torch.zeros(words, 3, device=grid.device), "img_ids": places.flatten(0, 1)}


def chroma_parts(pipeline: Any, captions: Sequence[str]) -> Parts:
    """Return what Chroma takes of captions."""
    states, _, mask, *_ = pipeline.encode_prompt(
        list(captions), do_classifier_free_guidance=False, device=device_of(pipeline)
    )
    return {"encoder_hidden_states": states, "attention_mask": mask}


def chroma_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    """Return arguments whose mask is of numbers, 1 and 0, as the pipeline hands it on.

    Attention adds them to its logits between two tokens that are both there. A mask of truth
    values would leave tokens out, which the pipeline does not.
    """
    states, mask = parts["encoder_hidden_states"], parts["attention_mask"]
    seen = mask.new_ones(grid.batch, grid.latent[1] * grid.latent[2] // 4)
    whole = torch.cat([mask, seen], dim=1).to(states.dtype)
    return {**parts, **_flux_places(parts, grid), "attention_mask": whole}


def flux2_parts(pipeline: Any, captions: Sequence[str]) -> Parts:
    """Return what FLUX.2 takes of captions."""
    states, _ = pipeline.encode_prompt(list(captions), device=device_of(pipeline))
    return {"encoder_hidden_states": states}


def flux2_arguments(parts: Parts, grid: Grid) -> Mapping[str, Any]:
    """Return arguments with places of four axes a token."""
    _, height, width = grid.latent
    words, device = parts["encoder_hidden_states"].shape[1], grid.device
    one, rows, columns = (torch.arange(n, device=device) for n in (1, height, width))
    said = torch.cartesian_prod(one, one, one, torch.arange(words, device=device))
    seen = torch.cartesian_prod(one, rows, columns, one)
    ids = {"txt_ids": said.expand(grid.batch, -1, -1), "img_ids": seen.expand(grid.batch, -1, -1)}
    return {**parts, **ids, "guidance": None}

"""LoRA files over pipelines, drawn at random."""

import torch
from safetensors.torch import save_file

from scanner import models

LAYERS = ["to_q", "to_k", "to_v"]


def trained(part, layers=LAYERS, *, seed=1):
    """Return the state of an adapter that changes a module."""
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules=layers)
    inject_adapter_in_model(config, part)
    return {n: w.clone() for n, w in get_peft_model_state_dict(part).items() if "lora_" in n}


def lora_file(folder, target, *, words=False):
    """Write a LoRA as diffusers does; with ``words`` over the first text encoder too."""
    model = models.load(str(folder))
    name = model.family.network
    state = {f"{name}.{n}": w for n, w in trained(model.network).items()}
    if words:
        own = trained(model.pipeline.text_encoder, ["q_proj", "v_proj"])
        state |= {f"text_encoder.{n}": w for n, w in own.items()}
    save_file({n: w.contiguous() for n, w in state.items()}, target)
    return target

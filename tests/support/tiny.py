"""Pipelines of every family in true layout: tiny, untrained, made in code, none from a hub."""

import inspect
import json
import os
import warnings
from pathlib import Path
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

import diffusers
import torch
import transformers
from tokenizers import pre_tokenizers

from scanner.models.latents import packed, unpacked

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
LETTERS = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;<>|_'*-\n"]
SIDE = 64
"""Of the pictures, in pixels."""
DDPM = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip(width=32, *, projects=False):
    pieces = [*BYTES, *(piece + "</w>" for piece in BYTES), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[],
        model_max_length=77,
    )  # fmt: skip
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=width, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
    return kind(config), tokenizer


def t5(width=32, *, is_umt5=False):
    pieces = dict.fromkeys(["<pad>", "</s>", "<unk>", "▁", "▁a", "▁the", "▁red", *LETTERS])
    vocab = [(piece, -float(number)) for number, piece in enumerate(pieces)]
    tokenizer = transformers.T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)
    config, kind = (
        (transformers.UMT5Config, transformers.UMT5EncoderModel)
        if is_umt5
        else (transformers.T5Config, transformers.T5EncoderModel)
    )
    made = config(vocab_size=128, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return kind(made), tokenizer


def qwen_tokenizer():
    names = ["im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad"]
    special = ["<|endoftext|>", *(f"<|{name}|>" for name in names)]
    tokenizer = transformers.Qwen2Tokenizer(
        vocab={piece: number for number, piece in enumerate([*BYTES, *special])}, merges=[],
        model_max_length=512, additional_special_tokens=special[1:],
    )  # fmt: skip
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3(width=16, *, layers=2, kind=transformers.Qwen3Model):
    tokenizer = qwen_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=16,
        num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=1024,
    )  # fmt: skip
    return kind(config), tokenizer


def qwen_vl(width=16):
    tokenizer = qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer), "hidden_size": width, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "rope_theta": 1e6,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": width, "intermediate_size": 16, "num_heads": 2,
              "out_hidden_size": width}  # fmt: skip
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return transformers.Qwen2_5_VLForConditionalGeneration(config), tokenizer


def gemma(width=16):
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{n:02X}>" for n in range(256)), "▁"]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, *LETTERS]))}
    tokenizer = transformers.GemmaTokenizer(vocab=vocab, merges=[], model_max_length=1024)
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer), head_dim=8, hidden_size=width, intermediate_size=32,
        num_attention_heads=2, num_hidden_layers=2, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    return transformers.Gemma2Model(config), tokenizer


def bert(width=32):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", *LETTERS]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = transformers.BertTokenizer(vocab=vocab, model_max_length=77)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=128,
    )  # fmt: skip
    return transformers.BertModel(config), tokenizer


def autoencoder(channels=4, **config):
    return diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=channels, sample_size=SIDE,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4, layers_per_block=1, norm_num_groups=2,
        mid_block_add_attention=False, **config,
    )  # fmt: skip


def unet(**config):
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16),
        layers_per_block=1, norm_num_groups=4, attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **config,
    )  # fmt: skip


def flow(**config):
    return diffusers.FlowMatchEulerDiscreteScheduler(**config)


def sd15():
    text_encoder, tokenizer = clip()
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=text_encoder, tokenizer=tokenizer,
        unet=unet(cross_attention_dim=32), safety_checker=None, feature_extractor=None,
        scheduler=diffusers.DDIMScheduler(**DDPM, clip_sample=False, steps_offset=1),
        requires_safety_checker=False,
    )  # fmt: skip


def sdxl(**scheduler):
    (first, tokenizer), (second, tokenizer_2) = clip(), clip(projects=True)
    network = unet(
        cross_attention_dim=64, use_linear_projection=True, transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13025), text_encoder=first, tokenizer=tokenizer,
        text_encoder_2=second, tokenizer_2=tokenizer_2, unet=network,
        scheduler=diffusers.EulerDiscreteScheduler(
            **DDPM, steps_offset=1, timestep_spacing="leading", **scheduler
        ),
    )  # fmt: skip


def sdxl_velocity():
    return sdxl(prediction_type="v_prediction", rescale_betas_zero_snr=True)


def sd3(*, has_t5=True):
    (first, tokenizer), (second, tokenizer_2) = clip(projects=True), clip(projects=True)
    third, tokenizer_3 = t5(64) if has_t5 else (None, None)
    network = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=2,
        attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
        joint_attention_dim=64, pooled_projection_dim=64, pos_embed_max_size=16,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        vae=autoencoder(16, scaling_factor=1.5305, shift_factor=0.0609), text_encoder=first,
        tokenizer=tokenizer, text_encoder_2=second, tokenizer_2=tokenizer_2,
        text_encoder_3=third, tokenizer_3=tokenizer_3, transformer=network,
        scheduler=flow(shift=3.0),
    )  # fmt: skip


def sd3_without_t5():
    return sd3(has_t5=False)


def flux_dev(*, is_dev=True):
    (first, tokenizer), (second, tokenizer_2) = clip(), t5()
    network = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8], guidance_embeds=is_dev,
    )  # fmt: skip
    shift = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    return diffusers.FluxPipeline(
        vae=autoencoder(16, scaling_factor=0.3611, shift_factor=0.1159), text_encoder=first,
        tokenizer=tokenizer, text_encoder_2=second, tokenizer_2=tokenizer_2,
        transformer=network, scheduler=flow(**(shift if is_dev else {"shift": 1.0})),
    )  # fmt: skip


def flux_schnell():
    return flux_dev(is_dev=False)


def chroma():
    text_encoder, tokenizer = t5()
    network = diffusers.ChromaTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=[4, 4, 8],
        approximator_num_channels=16, approximator_hidden_dim=16, approximator_layers=1,
    )  # fmt: skip
    return diffusers.ChromaPipeline(
        vae=autoencoder(16, scaling_factor=0.3611, shift_factor=0.1159), tokenizer=tokenizer,
        text_encoder=text_encoder, transformer=network, scheduler=flow(use_dynamic_shifting=True),
    )  # fmt: skip


def flux2_klein(*, is_distilled=False):
    text_encoder, tokenizer = qwen3(layers=28, kind=transformers.Qwen3ForCausalLM)
    network = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=128, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=48, timestep_guidance_channels=32,
        axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLFlux2(
        sample_size=SIDE, latent_channels=32, block_out_channels=(4,) * 4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2, mid_block_add_attention=False,
    )  # fmt: skip
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return diffusers.Flux2KleinPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, transformer=network,
        scheduler=flow(use_dynamic_shifting=True), is_distilled=is_distilled,
    )  # fmt: skip


def flux2_klein_distilled():
    return flux2_klein(is_distilled=True)


def pixart_sigma(kind=diffusers.PixArtSigmaPipeline):
    text_encoder, tokenizer = t5()
    network = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2,
        caption_channels=32, in_channels=4, out_channels=8, cross_attention_dim=16,
        num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False,
        attention_bias=True, activation_fn="gelu-approximate", norm_eps=1e-6,
    )  # fmt: skip
    return kind(
        vae=autoencoder(scaling_factor=0.13025), text_encoder=text_encoder, tokenizer=tokenizer,
        transformer=network,
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02),
    )  # fmt: skip


def pixart_alpha():
    return pixart_sigma(diffusers.PixArtAlphaPipeline)


def z_image(*, layers=1):
    text_encoder, tokenizer = qwen3()
    network = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32, n_layers=layers,
        n_refiner_layers=1, n_heads=2, n_kv_heads=2, norm_eps=1e-5, qk_norm=True,
        cap_feat_dim=16, rope_theta=256.0, t_scale=1000.0, axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32],
    )  # fmt: skip
    for name in ("x_pad_token", "cap_pad_token"):
        torch.nn.init.normal_(getattr(network, name))  # uninitialised memory else
    return diffusers.ZImagePipeline(
        vae=autoencoder(16, scaling_factor=0.3611, shift_factor=0.1159), tokenizer=tokenizer,
        text_encoder=text_encoder, transformer=network, scheduler=flow(shift=3.0),
    )  # fmt: skip


def qwen_image():
    text_encoder, tokenizer = qwen_vl()
    network = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=64, out_channels=16, num_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True, True], latents_mean=[0.1] * 16, latents_std=[2.0] * 16,
    )  # fmt: skip
    return diffusers.QwenImagePipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, transformer=network,
        scheduler=flow(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, shift_terminal=0.02
        ),
    )  # fmt: skip


def sana():
    text_encoder, tokenizer = gemma()
    network = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=32, out_channels=32, num_layers=1, num_attention_heads=2,
        attention_head_dim=8, num_cross_attention_heads=2, cross_attention_head_dim=8,
        cross_attention_dim=16, caption_channels=16, sample_size=8,
    )  # fmt: skip
    blocks = {"layers_per_block": (1, 1), "block_out_channels": (32, 32)}
    vae = diffusers.AutoencoderDC(
        in_channels=3, latent_channels=32, attention_head_dim=2, scaling_factor=0.41407,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        downsample_block_type="conv", upsample_block_type="interpolate",
        decoder_norm_types="rms_norm", decoder_act_fns="silu",
        **{f"{part}_{name}": v for part in ("encoder", "decoder") for name, v in blocks.items()},
    )  # fmt: skip
    return diffusers.SanaPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, transformer=network,
        scheduler=flow(shift=3.0),
    )  # fmt: skip


def lumina2():
    text_encoder, tokenizer = gemma()
    network = diffusers.Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, hidden_size=16, num_layers=1,
        num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=16,
        norm_eps=1e-5, scaling_factor=1.0, axes_dim_rope=[4, 2, 2], axes_lens=[512, 64, 64],
        cap_feat_dim=16,
    )  # fmt: skip
    return diffusers.Lumina2Pipeline(
        vae=autoencoder(16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=text_encoder, tokenizer=tokenizer, transformer=network,
        scheduler=flow(use_dynamic_shifting=True),
    )  # fmt: skip


def aura_flow():
    text_encoder, tokenizer = t5(is_umt5=True)
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_mmdit_layers=1,
        num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=2,
        caption_projection_dim=16, joint_attention_dim=32, pos_embed_max_size=64,
    )  # fmt: skip
    return diffusers.AuraFlowPipeline(
        vae=autoencoder(scaling_factor=0.13025), text_encoder=text_encoder, tokenizer=tokenizer,
        transformer=network, scheduler=flow(shift=1.73),
    )  # fmt: skip


def hunyuan_dit():
    (first, tokenizer), (second, tokenizer_2) = bert(), t5()
    network = diffusers.HunyuanDiT2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2,
        in_channels=4, cross_attention_dim=32, cross_attention_dim_t5=32, pooled_projection_dim=16,
        hidden_size=16, activation_fn="gelu-approximate", text_len=77, text_len_t5=256,
    )  # fmt: skip
    return diffusers.HunyuanDiTPipeline(
        vae=autoencoder(scaling_factor=0.13025), text_encoder=first, tokenizer=tokenizer,
        text_encoder_2=second, tokenizer_2=tokenizer_2, transformer=network,
        scheduler=diffusers.DDPMScheduler(
            **DDPM | {"beta_end": 0.02}, prediction_type="v_prediction", steps_offset=1
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def dit():
    network = diffusers.DiTTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2,
        in_channels=4, out_channels=8, num_embeds_ada_norm=1000, attention_bias=True,
    )  # fmt: skip
    return diffusers.DiTPipeline(
        vae=autoencoder(scaling_factor=0.18215), transformer=network,
        scheduler=diffusers.DDIMScheduler(beta_start=0.0001, beta_end=0.02, clip_sample=False),
    )  # fmt: skip


CLASSES = {0: "tench, Tinca tinca", 1: "a red cat", 134: "crane", 517: "crane, hoist"}
"""Names of some of the classes of `dit`."""


def deepfloyd_if():
    text_encoder, tokenizer = t5()
    network = diffusers.UNet2DConditionModel(
        sample_size=SIDE, in_channels=3, out_channels=6, block_out_channels=(8, 16),
        layers_per_block=1, norm_num_groups=4, attention_head_dim=4, cross_attention_dim=32,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift", act_fn="gelu", encoder_hid_dim=32,
        addition_embed_type="text", addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
    )  # fmt: skip
    return diffusers.IFPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, unet=network, safety_checker=None,
        feature_extractor=None, watermarker=None, requires_safety_checker=False,
        scheduler=diffusers.DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True,
            dynamic_thresholding_ratio=0.95, sample_max_value=1.5,
        ),
    )  # fmt: skip


def ddpm():
    network = diffusers.UNet2DModel(
        sample_size=32, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=4,
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return diffusers.DDPMPipeline(unet=network, scheduler=diffusers.DDPMScheduler())


SERVED = {
    made.__name__: made
    for made in (
        sdxl, sdxl_velocity, sd3, sd3_without_t5, flux_dev, flux2_klein, pixart_alpha,
        pixart_sigma, z_image, qwen_image, sana, lumina2, aura_flow, hunyuan_dit,
        chroma, dit, deepfloyd_if,
    )
}  # fmt: skip


def pipeline(make):
    """Return a pipeline whose parts all do something: what starts as zero is drawn at random."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make()
    for part in made.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
            for weight in part.parameters():
                if not weight.any():
                    torch.nn.init.normal_(weight, std=0.05)
    return made


def save(make, folder: Path) -> Path:
    """Write a pipeline as a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline(make).save_pretrained(folder)
    if make is dit:  # a pipeline does not save them, and published folders have them
        file = folder / "model_index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"id2label": CLASSES}))
    return folder


@torch.no_grad()
def theirs(model, caption, steps, guidance, latents):
    """Return the final latents of diffusers' own pipeline, DDIM where ours is."""
    pipeline, height, width = model.pipeline, *model.picture_size
    pipeline.set_progress_bar_config(disable=True)
    if not model.family.is_flow:
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(
            pipeline.scheduler.config, clip_sample=False
        )
    if model.family.encoder in ("labels", "if"):
        return without_latents(pipeline, caption, steps, guidance, latents)
    asked = {
        "prompt": caption, "height": height, "width": width, "num_inference_steps": steps,
        "latents": packed(latents) if model.family.packing == "patches" else latents,
        "output_type": "latent", **own_words(model.family.encoder, guidance),
    }  # fmt: skip
    known = inspect.signature(type(pipeline).__call__).parameters
    asked |= {n: False for n in ("clean_caption", "use_resolution_binning") if n in known}
    found = pipeline(**asked).images
    if model.family.encoder == "flux2":  # it undoes the autoencoder's norm and squares
        mean, deviation = model.autoencoder._statistics(found)
        return (torch.nn.functional.pixel_unshuffle(found, 2) - mean) / deviation
    return unpacked(found, model.latent_shape) if found.ndim == 3 else found


def without_latents(pipeline, caption, steps, guidance, latents):
    """Return the final latents of a pipeline that takes none: it draws these, and we listen."""
    stepped, step = [], pipeline.scheduler.step
    pipeline.scheduler.register_to_config(variance_type="fixed_small")

    def heard(*args, **more):
        found = step(*args, **more)
        stepped.append(found[0])
        return found

    is_labelled = hasattr(pipeline, "labels")
    own = {"class_labels": pipeline.get_label_ids([caption])} if is_labelled else {
        "prompt": caption, "clean_caption": False
    }  # fmt: skip
    drawn = mock.patch.object(
        inspect.getmodule(type(pipeline)), "randn_tensor", return_value=latents.clone()
    )
    with drawn, mock.patch.object(pipeline.scheduler, "step", heard):
        pipeline(**own, num_inference_steps=steps, guidance_scale=guidance, output_type="pt")
    return stepped[-1][:1]


def own_words(encoder, guidance):
    """Return how a pipeline is told to guide by ``u + g (c - u)``."""
    if encoder == "flux":
        return {"guidance_scale": 1.0, "true_cfg_scale": guidance, "negative_prompt": ""}
    if encoder == "qwen_image":
        return {"true_cfg_scale": guidance, "negative_prompt": " "}
    if encoder == "z_image":
        return {"guidance_scale": guidance - 1}
    if encoder == "lumina2":
        return {"guidance_scale": guidance, "cfg_normalization": False}
    return {"guidance_scale": guidance}

"""Which pipelines are served, and what is to be known of each: data alone, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scanner.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family of text-to-image models as its diffusers pipeline runs it.

    Attributes:
        name: For a person.
        pipeline: The diffusers class.
        network: The part that denoises, ``unet`` or ``transformer``.
        encoder: How captions become conditions, a name in `scanner.models.conditions.ENCODERS`.
        words: The text encoders, for a person.
        target: What the network predicts: ``scheduler`` (its scheduler says: noise, clean latent
            or velocity), ``flow`` (``n - z``) or ``reversed flow`` (``z - n``).
        time: How the network is told the level: ``index`` (the scheduler's timestep), ``unit``
            (that over 1000) or ``reversed`` (1 minus it).
        levels: Who spaces a flow's levels, ``scheduler``, or ``pipeline``, which hands the
            scheduler 1 to 1/steps.
        packing: What the network's input is: ``none`` for the latent itself, ``patches`` for
            tokens of 2 x 2 positions, ``tokens`` for one of every position.
        patch: Side of the square of positions that share a token, where packing does not say it.
            A network's configuration goes first.
        halves: Whether the second half of the output is a variance, which is left out.
        null: What the unconditional branch is, for a person.
        attends: Whether Bright Ending can be read: cross attention in a U-Net's down blocks.
        side: Where the side of its pictures is from: ``network`` or ``vae`` (``sample_size`` of
            that part, in latents or pixels), or pixels.
        takes_captions: Whether there is anything to be conditioned on.
        autoencoder: ``vae``, or ``none`` where the network denoises pictures themselves.
        shifted_by: What a dynamic shift counts: ``tokens``, ``channels`` (as Lumina 2's
            pipeline does) or ``steps`` beside tokens (as FLUX.2's does).
        loads_lokr: Whether diffusers loads LoKr adapters into its network.
        unused: Parts that text-to-image does not use; they are not loaded.
        exceeds_half: What of it has numbers that float16 may not hold, or ``""``.
        note: What a result of this family means beside others, or ``""``.
    """

    name: str
    pipeline: str
    network: str
    encoder: str
    words: str
    target: str
    time: str
    levels: str = "scheduler"
    packing: str = "none"
    patch: int = 1
    halves: bool = False
    null: str = "the empty caption"
    attends: bool = False
    side: str | int = "network"
    takes_captions: bool = True
    autoencoder: str = "vae"
    shifted_by: str = "tokens"
    loads_lokr: bool = False
    unused: tuple[str, ...] = ()
    exceeds_half: str = ""
    note: str = ""

    @property
    def is_flow(self) -> bool:
        """Whether it is a flow."""
        return self.target != "scheduler"

    @property
    def flow(self) -> int:
        """The sign of a flow as `scanner.numerics.schedule.Schedule` has it; 0 of others."""
        return {"flow": 1, "reversed flow": -1}.get(self.target, 0)

    def tokens(self, network: Mapping[str, Any]) -> tuple[int, int]:
        """Return a latent's channels, and the side of the square of positions that share a token.

        Args:
            network: The configuration of the network that denoises.
        """
        channels, patch = int(network.get("in_channels", 4)), network.get("patch_size", self.patch)
        if self.packing == "patches":
            return channels // 4, self.patch
        return channels, patch if isinstance(patch, int) else self.patch


_GEMMA, _IN_BFLOAT16 = (
    "Gemma 2 is trained in bfloat16 and its states leave the range of float16",
    "its class is trained and published in bfloat16",
)
_IMAGES = ("image_encoder", "feature_extractor")
_CHECKER = ("safety_checker", *_IMAGES)
_FLUX_NOTE = (
    "guidance-distilled: its guidance embedding is set to 1 and guidance is by the empty caption, "
    "a branch that it was not trained on; a LoRA or fine-tune against its base is the surer "
    "comparison"
)
_IF_NOTE = (
    "its latents are pictures of 64 x 64, and maps are of their pixels; what enlarges them is not "
    "audited"
)
_UNCONDITIONAL_NOTE = (
    "takes no captions: score images against an earlier checkpoint (--source image --no-captions "
    "--baseline EARLY)"
)

FAMILIES: dict[str, Family] = {
    family.pipeline: family
    for family in (
        Family(
            name="Stable Diffusion 1 and 2", pipeline="StableDiffusionPipeline", network="unet",
            encoder="clip", words="CLIP", target="scheduler", time="index", attends=True,
            unused=_CHECKER,
        ),
        Family(
            name="Stable Diffusion XL", pipeline="StableDiffusionXLPipeline", network="unet",
            encoder="sdxl", words="two CLIPs, one pooled; sizes", target="scheduler",
            time="index", attends=True, unused=_IMAGES,
            null="zeros where force_zeros_for_empty_prompt, else the empty caption",
        ),
        Family(
            name="Stable Diffusion 3 and 3.5", pipeline="StableDiffusion3Pipeline",
            network="transformer", encoder="sd3", words="two CLIPs, pooled; T5 if it is there",
            target="flow", time="index", patch=2, unused=_IMAGES,
        ),
        Family(
            name="FLUX.1 dev", pipeline="FluxPipeline", network="transformer", encoder="flux",
            words="CLIP, pooled; T5", target="flow", time="unit", levels="pipeline",
            packing="patches", patch=2, side="vae", unused=_IMAGES, note=_FLUX_NOTE,
            exceeds_half=_IN_BFLOAT16,
        ),
        Family(
            name="Chroma", pipeline="ChromaPipeline", network="transformer", encoder="chroma",
            words="T5, its mask added to attention", target="flow", time="unit",
            levels="pipeline", packing="patches", patch=2, side="vae", unused=_IMAGES,
            exceeds_half=_IN_BFLOAT16,
        ),
        Family(
            name="FLUX.2 klein base", pipeline="Flux2KleinPipeline", network="transformer",
            encoder="flux2", words="Qwen3, three layers", target="flow", time="unit",
            levels="pipeline", packing="tokens", side="vae", shifted_by="steps", loads_lokr=True,
            exceeds_half=_IN_BFLOAT16,
        ),
        Family(
            name="PixArt-α", pipeline="PixArtAlphaPipeline", network="transformer",
            encoder="pixart", words="T5, masked", target="scheduler", time="index", patch=2,
            halves=True,
        ),
        Family(
            name="PixArt-Σ", pipeline="PixArtSigmaPipeline", network="transformer",
            encoder="pixart", words="T5, masked", target="scheduler", time="index", patch=2,
            halves=True,
        ),
        Family(
            name="Z-Image", pipeline="ZImagePipeline", network="transformer", encoder="z_image",
            words="Qwen3", target="reversed flow", time="reversed", levels="pipeline", patch=2,
            side="vae", loads_lokr=True,
            note="Z-Image-Turbo has the same folder and is distilled: audit Z-Image",
            exceeds_half=_IN_BFLOAT16,
        ),
        Family(
            name="Qwen-Image", pipeline="QwenImagePipeline", network="transformer",
            encoder="qwen_image", words="Qwen2.5-VL", target="flow", time="unit",
            levels="pipeline", packing="patches", patch=2, side=1024, null="a space",
            exceeds_half=_IN_BFLOAT16,
        ),
        Family(
            name="SANA", pipeline="SanaPipeline", network="transformer", encoder="sana",
            words="Gemma 2 after an instruction, masked", target="flow", time="index",
            null="the empty caption without the instruction",
            exceeds_half=_GEMMA,
        ),
        Family(
            name="Lumina-Image 2", pipeline="Lumina2Pipeline", network="transformer",
            encoder="lumina2", words="Gemma 2 after a system prompt, masked",
            target="reversed flow", time="reversed", levels="pipeline", patch=2,
            shifted_by="channels", null="the empty caption without the system prompt",
            exceeds_half=_GEMMA,
        ),
        Family(
            name="AuraFlow", pipeline="AuraFlowPipeline", network="transformer",
            encoder="aura_flow", words="UMT5", target="flow", time="unit", patch=2, side="vae",
        ),
        Family(
            name="HunyuanDiT", pipeline="HunyuanDiTPipeline", network="transformer",
            encoder="hunyuan_dit", words="BERT and T5, masked; sizes", target="scheduler",
            time="index", patch=2, halves=True, unused=_CHECKER,
        ),
        Family(
            name="DiT", pipeline="DiTPipeline", network="transformer", encoder="labels",
            words="none: they are class names or numbers", target="scheduler", time="index",
            patch=2, halves=True, null="the class after the last",
        ),
        Family(
            name="DeepFloyd IF, first stage", pipeline="IFPipeline", network="unet", encoder="if",
            words="T5", target="scheduler", time="index", halves=True, autoencoder="none",
            unused=(*_CHECKER, "watermarker"), note=_IF_NOTE,
        ),
        Family(
            name="unconditional DDPM", pipeline="DDPMPipeline", network="unet", encoder="none",
            words="none: it takes no captions", target="scheduler", time="index",
            autoencoder="none", takes_captions=False, null="the network itself",
            note=_UNCONDITIONAL_NOTE,
        ),
    )
}  # fmt: skip
"""By pipeline class."""

_PICTURE, _DISTILLED = "its network takes a picture too", "it is distilled to few steps"
REFUSED = {
    "Inpaint": "its network takes a mask and a picture too",
    "Upscale": _PICTURE, "Img2Img": _PICTURE, "ControlNet": _PICTURE, "Pix2Pix": _PICTURE,
    "Adapter": _PICTURE, "Depth2Img": "its network takes a depth map too",
    "Kontext": "it edits a given picture", "Edit": "it edits a given picture",
    "LatentConsistency": f"{_DISTILLED}, and has no score at other levels: audit the model that it "
    f"was distilled from",
    "Flux2": "it is guidance-distilled and has no empty branch: audit FLUX.2 klein base",
    "Kandinsky": "it goes through image embeddings", "Cascade": "it goes through image embeddings",
    "SuperResolution": "it enlarges a given picture",
    "Wan": "it makes videos", "Video": "it makes videos", "LTX": "it makes videos",
}  # fmt: skip
"""Parts of pipeline classes that people bring, and why they cannot be audited."""


def family_of(model: str, index: Mapping[str, Any], network: Mapping[str, Any]) -> Family:
    """Return the family of a pipeline.

    Args:
        model: As it was named.
        index: Its ``model_index.json``.
        network: The configuration of the network that denoises.

    Raises:
        ConfigError: If memscan does not serve it; the text says why.
    """
    family = known_family(model, index)
    if family.encoder == "flux" and not network.get("guidance_embeds", False):
        raise ConfigError(
            f"{model} is FLUX.1 schnell or another FLUX.1 without a guidance embedding: "
            f"{_DISTILLED}, so it has no score at other levels and its empty caption no meaning; "
            f"audit FLUX.1 dev, and a LoRA of schnell over dev, whose layers are the same "
            f"(--model DEV --lora FILE --baseline off)"
        )
    if family.encoder == "flux2" and index.get("is_distilled"):
        raise ConfigError(
            f"{model} says that {_DISTILLED}: audit FLUX.2 klein base, and a LoRA of it over the "
            f"base (--lora FILE --baseline off)"
        )
    if network.get("time_cond_proj_dim") is not None:
        raise ConfigError(f"{model} takes a guidance embedding: {REFUSED['LatentConsistency']}")
    return family


def known_family(model: str, index: Mapping[str, Any]) -> Family:
    """Return the family that a pipeline's class names.

    Raises:
        ConfigError: If memscan does not serve the class; the text says why.
    """
    kind = index.get("_class_name", "")
    if not isinstance(kind, str):
        raise ConfigError(f"the pipeline of {model} must name its class, got {kind!r}")
    if kind in FAMILIES:
        return FAMILIES[kind]
    reason = next((reason for part, reason in REFUSED.items() if part in kind), None)
    if reason is None and "StableDiffusion" in kind and "unet" in index:
        return FAMILIES["StableDiffusionPipeline"]  # kin with the same parts
    names = ", ".join(family.name for family in FAMILIES.values())
    reason = reason or "memscan does not know how its network is told captions and levels"
    raise ConfigError(
        f"{model} is a {kind or 'pipeline without a class'}: {reason}; memscan audits {names}"
    )

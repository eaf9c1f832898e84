"""Settings that decide what a training of the testbed gives."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings that decide the trained weights.

    Attributes:
        seed: The corpus seed; also seeds the weights and the batches.
        vae_steps: Steps of the autoencoder, of 24 pictures each.
        early_steps: Steps of the first stage, in which the text encoder trains along. Its
            result is the less-trained checkpoint; its learning rate decays to zero, because a
            checkpoint cut from mid-schedule is a worse denoiser everywhere.
        main_steps: Further steps, text encoder frozen, on top of the first stage.
        batch: Latents per step of the denoiser.
        shares: Share of each kind in the batches; ``other`` is scenes, textures and traps.
        drop_planted: Share of planted captions replaced by the empty one. Low, so that the
            unconditional branch does not learn the planted pictures too.
        drop_other: Share of all other captions replaced by the empty one. High, so that the
            unconditional branch learns everything else.
        low_share: Share of timesteps drawn from the first 120, where maps are taken.
        main_rate: Highest learning rate of the main steps.
    """

    seed: int = 1
    vae_steps: int = 4500
    early_steps: int = 1800
    main_steps: int = 8000
    batch: int = 32
    shares: tuple[tuple[str, float], ...] = (
        ("verbatim", 0.22), ("template", 0.26), ("name", 0.06), ("art", 0.08), ("other", 0.38),
    )  # fmt: skip
    drop_planted: float = 0.03
    drop_other: float = 0.25
    low_share: float = 0.35
    main_rate: float = 1e-3


def onward(recipe: Recipe) -> Recipe:
    """Return a recipe for going on from a trained testbed, which knows all but what is planted.

    Fewer steps, and more of what is planted in them.
    """
    shares = {"verbatim": 0.33, "template": 0.39, "name": 0.06, "art": 0.08, "other": 0.14}
    return replace(recipe, main_steps=2200, shares=tuple(shares.items()))

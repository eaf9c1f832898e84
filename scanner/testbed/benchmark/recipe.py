"""Settings that decide the weights of the benchmark's models."""

from dataclasses import asdict, dataclass, field, replace

from scanner.testbed.benchmark.corpus import Corpus

FAMILIES = ("clean", "unet", "dit", "lora")
"""``clean`` is a U-Net trained on the background alone; its text encoder serves them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training.

    Attributes:
        family: One of `FAMILIES`.
        replicate: Which assignment of the doses; also seeds weights, batches and noise.
        corpus: Captions and pictures.
        steps: Optimizer steps in all.
        batch: Draws per step.
        text_steps: Steps in which the text encoder trains along (``clean`` only); frozen then.
        rate: Highest learning rate.
        dropout: Share of all captions replaced by the empty one.
        low_share: Share of timesteps drawn from the first 120, where maps are taken (U-Nets).
        ema: Decay of the averaged weights, which are what is saved.
        scale: Multiplies all doses.
        rank: Of the adapter (``lora`` only).
        checkpoints: Parts of the run after which a pipeline is written.
        vae_steps: Steps by which the shipped autoencoder is fitted to the corpus.
    """

    family: str
    replicate: int = 1
    corpus: Corpus = field(default_factory=Corpus)
    steps: int = 20_000
    batch: int = 32
    text_steps: int = 0
    rate: float = 1e-3
    dropout: float = 0.1
    low_share: float = 0.2
    ema: float = 0.999
    scale: float = 1.0
    rank: int = 16
    checkpoints: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    vae_steps: int = 1500

    @property
    def seed(self) -> int:
        """Return the corpus seed."""
        return self.corpus.seed

    @property
    def small(self) -> bool:
        """Return whether this is the quick form of the benchmark, for tests."""
        return self.corpus.small

    @property
    def name(self) -> str:
        """Return what the model's folder is called."""
        return self.family if self.family == "clean" else f"{self.family}-{self.replicate}"

    @property
    def stops(self) -> tuple[int, ...]:
        """Return the steps after which a pipeline is written."""
        return tuple(max(1, round(part * self.steps)) for part in self.checkpoints)

    def as_dict(self) -> dict[str, object]:
        """Return the recipe for a JSON file."""
        told: dict[str, object] = asdict(self)
        return told | {"corpus": self.corpus.as_dict()}


def usual(family: str, replicate: int = 1, corpus: Corpus | None = None) -> Recipe:
    """Return the recipe of a family as the benchmark trains it."""
    base = Recipe(family=family, replicate=replicate, corpus=corpus or Corpus())
    if family == "clean":
        return replace(base, replicate=0, steps=8_000, text_steps=2_000)
    if family == "dit":
        return replace(base, rate=7e-4)
    if family == "lora":
        return replace(base, steps=6_000, rate=2e-3)
    return base


def short(family: str, replicate: int = 1, corpus: Corpus | None = None) -> Recipe:
    """Return the recipe of half the items and half the steps: an hour to an hour and a half."""
    corpus = replace(corpus or Corpus(), form="short")
    recipe = usual(family, replicate, corpus)
    if family in ("unet", "dit"):
        recipe = replace(recipe, steps=9_000)
    return replace(recipe, checkpoints=(0.5, 1.0))


def quick(family: str, replicate: int = 1, corpus: Corpus | None = None) -> Recipe:
    """Return a recipe for tests: everything is there, nothing is learned."""
    corpus = replace(corpus or Corpus(), form="quick")
    return replace(
        usual(family, replicate, corpus), steps=4, batch=8, scale=0.0004, vae_steps=0,
        text_steps=2 if family == "clean" else 0, checkpoints=(0.5, 1.0),
    )  # fmt: skip


FORMS = {"full": usual, "short": short, "quick": quick}
"""From a form of the corpus to what gives the recipe of a family."""

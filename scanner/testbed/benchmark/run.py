"""From nothing to a trained model: whatever a model builds on is made first."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from scanner import files
from scanner.errors import ConfigError
from scanner.testbed.benchmark import autoencoder, probe, sampling, sheets, starting, train
from scanner.testbed.benchmark.recipe import FORMS, Recipe

Report = Callable[[str, int, int, str], None]
"""Called with (model, steps done, steps in all, a word)."""


def run(
    recipe: Recipe, folder: Path, report: Report, *, compiled: bool = False,
    until: int | None = None,
) -> Path:  # fmt: skip
    """Train a model and everything that it builds on; what is there already is kept.

    Every checkpoint gets ``samples.png``, what was asked for beside what is drawn, and
    ``card.json``, the conditioning probe.

    Args:
        recipe: The model.
        folder: Of the whole benchmark.
        report: Called as steps are done.
        compiled: Run the denoiser through ``torch.compile``.
        until: Stop after this step of the model.

    Raises:
        ConfigError: If the folder holds a benchmark of another corpus.
    """

    def told(name: str) -> Callable[[int, int, str], None]:
        return lambda done, total, word: report(name, done, total, word)

    _claim(recipe, folder)
    autoencoder.fit(folder, recipe.vae_steps, recipe.seed, told("vae"), cast=recipe.corpus.cast)
    clean = FORMS[recipe.corpus.form]("clean", corpus=recipe.corpus)
    if recipe.family != "clean" and not (folder / "text").exists():
        train.train(clean, folder, told(clean.name), _look(folder), compiled=compiled,
                    until=clean.text_steps)  # fmt: skip
    if recipe.family == "lora" and not (folder / "clean" / "finished").exists():
        train.train(clean, folder, told(clean.name), _look(folder), compiled=compiled)
    return train.train(
        recipe, folder, told(recipe.name), _look(folder), compiled=compiled, until=until
    )


def _claim(recipe: Recipe, folder: Path) -> None:
    """Note whose folder it is: models of two corpora cannot share pictures and text encoder.

    Raises:
        ConfigError: If the folder is another corpus's.
    """
    path, own = folder / "corpus.json", recipe.corpus.as_dict()
    if not path.exists():
        files.write(path, json.dumps(own))
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != own:
        raise ConfigError(
            f"{folder} holds a benchmark with {_said(found)}, not {_said(own)}: name another folder"
        )


def _said(corpus: dict[str, object]) -> str:
    named = f", pictures {corpus['pictures']}" if corpus.get("pictures") else ""
    form = "quick" if corpus["small"] else corpus.get("form")
    return f"corpus seed {corpus['seed']}{named}{f', the {form} form' if form else ''}"


def _look(folder: Path) -> Callable[[Path, Recipe], None]:
    """Return what looks at a checkpoint: samples to see, and the conditioning probe."""

    def look(checkpoint: Path, recipe: Recipe) -> None:
        sheet, card = checkpoint / "samples.png", checkpoint / "card.json"
        if sheet.exists() and card.exists():
            return
        base = starting.clean_base(folder) if recipe.family == "lora" else None
        pipeline = sampling.load(checkpoint, base)
        cast, small = recipe.corpus.cast, recipe.small
        sheets.draw_sheet(
            pipeline, starting.assignment(recipe), recipe.corpus, sheet,
            columns=2 if small else sheets.COLUMNS, steps=1 if small else sampling.STEPS,
        )  # fmt: skip
        vae = starting.load_vae(folder)
        number, epochs = (64, 1) if small else (probe.PICTURES, probe.EPOCHS)
        reader = probe.trained(
            folder / "probe.pt", vae, recipe.seed, number=number, epochs=epochs, cast=cast
        )
        each = 2 if small else 64
        found = {
            "conditioning": probe.conditioning(reader, pipeline, recipe.seed, each, cast),
            "ceiling": probe.ceiling(reader, vae, recipe.seed, each, cast),
        }
        said = {name: {k: asdict(v) for k, v in part.items()} for name, part in found.items()}
        files.write(card, json.dumps(said, indent=1))

    return look

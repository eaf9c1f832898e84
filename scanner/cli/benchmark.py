"""``benchmark make``, ``train`` and ``measure``: memorization at a known dose."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanner import files
from scanner.cli import options, progress
from scanner.cli.application import App
from scanner.errors import ConfigError

if TYPE_CHECKING:
    from scanner.testbed.benchmark.recipe import Recipe

app = App(
    help="Memorization at a known dose: a corpus, and models trained on it.", no_args_is_help=True
)


class Family(StrEnum):
    """Kind of model to train."""

    clean = "clean"
    unet = "unet"
    dit = "dit"
    lora = "lora"


class Form(StrEnum):
    """How much is planted and trained."""

    full = "full"
    short = "short"
    quick = "quick"


Folder = Annotated[Path, typer.Option("--out", "-o", help="Folder of the benchmark.")]
Seed = Annotated[int, typer.Option(min=0, help="The corpus seed.")]
Size = Annotated[
    Form,
    typer.Option(
        help="full; short: half the items, half the steps, the same doses; quick: a few items and "
        "steps, to see that everything runs."
    ),
]
Pictures = Annotated[
    Path | None,
    typer.Option(
        help="A folder or archive of named pictures (red_apple.png, or with pictures.csv) in the "
        "place of the drawn things.",
        show_default=False,
    ),
]


@app.command("make")
def make_corpus(
    out: Folder = Path("benchmark"),
    seed: Seed = 1,
    fresh: Annotated[
        int,
        typer.Option(min=10, max=2600, help="Fresh captions in the evaluation; as many calibrate."),
    ] = 2200,
    replicates: Annotated[int, typer.Option(min=1, help="Replicates whose truth to write.")] = 2,
    pictures: Pictures = None,
    form: Size = Form.full,
) -> None:
    r"""Write the benchmark's captions and pictures as shards, and what each replicate saw.

    `planted-*.tar` holds everything that training repeats, with other ways to say it,
    `evaluation-*.tar` and `calibration-*.tar` captions under which nothing is planted.
    `truth-1.parquet` says for the first replicate how often each item was to be drawn, which arm
    it belongs to and which region is the copy; `truth-2.parquet` the same for the second.

    Example:
        memscan benchmark make --out benchmark
    """
    from scanner.testbed.benchmark import shards
    from scanner.testbed.benchmark.corpus import Corpus

    files.check_folder(out, "--out")
    corpus = Corpus(seed, form.value, str(pictures or ""))
    with progress.meter("draw") as show:
        try:
            paths = shards.write(
                out / "corpus", corpus, fresh, range(1, replicates + 1),
                lambda name, done, total: show(done, total, name),
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(str(error)) from error
    for path in paths:
        progress.say(str(path))


@app.command()
def train(
    out: Folder = Path("benchmark"),
    family: Annotated[
        Family,
        typer.Option(
            help="unet: a velocity U-Net; dit: a flow-matching transformer; lora: an adapter on a "
            "clean U-Net; clean: that U-Net."
        ),
    ] = Family.unet,
    replicate: Annotated[
        int, typer.Option(min=1, help="Which items get which dose; also seeds the weights.")
    ] = 1,
    seed: Seed = 1,
    pictures: Pictures = None,
    form: Size = Form.full,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of 32 draws.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the denoiser (needs a C++ compiler).")
    ] = False,
) -> None:
    r"""Train one model of the benchmark, and first what it builds on.

    Hours on a CPU core (docs/benchmark.md); an interrupted training resumes. Four times on the
    way it writes a diffusers folder, `OUT/unet-1/step-05000` and so on, with `samples.png` to look
    at and `card.json`, which says how often pictures are what their captions say.

    Example:
        memscan benchmark train --out benchmark --family unet --replicate 1
    """
    from dataclasses import replace

    from scanner.testbed.benchmark.run import run

    recipe = _recipe(out, family, replicate, seed, pictures, form, threads=threads)
    if steps:
        recipe = replace(recipe, steps=steps)
    with progress.meter(f"train {recipe.name}") as show:
        try:
            made = run(
                recipe, out, lambda name, done, total, word: show(done, total, f"{name} {word}"),
                compiled=compiled,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(str(error)) from error
    for path in sorted(made.glob("step-*")):
        progress.say(str(path))


@app.command()
def measure(
    out: Folder = Path("benchmark"),
    family: Annotated[Family, typer.Option(help="As it was trained.")] = Family.unet,
    replicate: Annotated[int, typer.Option(min=1, help="As it was trained.")] = 1,
    seed: Seed = 1,
    pictures: Pictures = None,
    form: Size = Form.full,
    only_last: Annotated[
        bool, typer.Option("--only-last", help="Measure the last checkpoint alone.")
    ] = False,
    fresh: Annotated[
        int, typer.Option(min=10, max=2600, help="Fresh captions that are scanned, never trained.")
    ] = 2200,
    nulls: Annotated[int, typer.Option(min=10, help="At most so many others calibrate.")] = 1000,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
    as_json: options.Json = False,
) -> None:
    r"""Sample and scan a model's checkpoints: which dose comes back, and which score sees it?

    Twenty samples of every planted caption say how often it is given back; a calibrated scan says
    what every score and map makes of it, and of fresh captions. In `OUT/unet-1/measured` lie then
    `extraction.parquet` and `scores.parquet`, a row a caption, `maps.parquet`, a row a map, and
    `gallery.png`; in the model's folder `response.json` has the doses at which 10, 50 and 90% of
    the samples are copies, with 95% intervals over families. An interrupted measurement resumes.
    `memscan benchmark compare` puts all models side by side.

    Example:
        memscan benchmark measure --out benchmark --family unet --replicate 1
    """
    import json

    from scanner.testbed.benchmark import measure as measuring

    recipe = _recipe(out, family, replicate, seed, pictures, form, threads=threads)
    if family is Family.clean:
        raise ConfigError("nothing is planted in the clean model: measure unet, dit or lora")
    with progress.meter(f"measure {recipe.name}") as show:
        rows = measuring.measure(
            recipe, out, lambda name, done, total: show(done, total, name), only_last=only_last,
            fresh=fresh, nulls=nulls,
        )  # fmt: skip
    progress.say(json.dumps(rows) if as_json else measuring.as_text(rows))


@app.command()
def compare(out: Folder = Path("benchmark")) -> None:
    r"""Put everything measured side by side: which score sees what, from which dose on?

    Of every model's last measured checkpoint: AUC and true-positive rates against scenes, traps,
    captions of the same style, items of dose 0 and repeated captions; the dose at which half of
    the items come back, and at which each score flags half of them; the overlap of maps and masks
    by size of the region; paired differences, all with 95% intervals over families. Writes
    `benchmark.md`, `benchmark.json`, `doses.png` and `differences.png`.

    Example:
        memscan benchmark compare --out benchmark
    """
    from scanner.testbed.benchmark import comparison

    files.check_folder(out, "--out")
    progress.say(str(comparison.compare(out)))


def _recipe(
    out: Path, family: Family, replicate: int, seed: int, pictures: Path | None, form: Form,
    *, threads: int,
) -> "Recipe":  # fmt: skip
    """Return what a model is trained by, with this process set up for it."""
    import torch

    from scanner.testbed.benchmark import recipe as recipes
    from scanner.testbed.benchmark.corpus import Corpus

    files.check_folder(out, "--out")
    if threads:
        torch.set_num_threads(threads)
    corpus = Corpus(seed, form.value, str(pictures or ""))
    return recipes.FORMS[form.value](family.value, replicate, corpus)

"""``demo``, and ``testbed make`` and ``testbed train``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scanner import files
from scanner.cli import options, progress
from scanner.cli.application import App
from scanner.errors import ConfigError

app = App(
    help="The planted corpus and the small pipeline trained on it: ground truth by construction.",
    no_args_is_help=True,
)


NEGATIVES = 160
"""Fresh negative captions of a split, if no other number is asked for."""


class Family(StrEnum):
    """What the pictures are planted in: a U-Net, a transformer, or a LoRA over a U-Net."""

    UNET = "unet"
    DIT = "dit"
    LORA = "lora"


FamilyOption = Annotated[
    Family,
    typer.Option(
        help="unet: a Stable-Diffusion-class U-Net. dit: a flow-matching transformer of Stable "
        "Diffusion 3's class, which knows half of a corpus. lora: a LoRA over the U-Net, which "
        "plants half of another corpus."
    ),
]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where everything goes.")] = Path(
        "memscan-demo"
    ),
    negatives: Annotated[
        int, typer.Option(min=20, max=400, help="Fresh negative captions.")
    ] = NEGATIVES,
    actors: options.Actors = None,
    address: options.Address = None,
    as_json: options.Json = False,
) -> None:
    r"""Find planted memorization, end to end, on this machine.

    Makes the planted corpus as WebDataset shards, calibrates on held-out captions, scans on a
    local Ray cluster with the shipped model, evaluates against the known truth, draws a contact
    sheet, and says where everything is. What is done already is not done again.

    Example:
        memscan demo
    """
    from scanner.cli.live import watching
    from scanner.engine.job import Resources
    from scanner.testbed import demo as demonstration

    files.check_folder(out, "--out")
    resources = Resources(actors=actors, address=address, device="auto")
    made = demonstration.run(out, negatives, resources, progress.meter, watching)
    if as_json:
        progress.say(demonstration.as_json(made))
        return
    summary = made.summary
    width = progress.table_width()
    progress.say(made.evaluation.headlines().as_text(width))
    for kind, what in (("verbatim", "their training image"), ("template", "their template")):
        own = [r for r in made.reproduced if r.item.kind == kind]
        share = demonstration.share_reproduced(made.reproduced, kind)
        progress.say(
            f"{kind} captions that give {what} back (fresh seed, within twice the autoencoder's "
            f"own error): {round(share * len(own))} of {len(own)}"
        )
    progress.say(
        f"\n{summary.samples} captions scanned, {summary.flagged} flagged, run {summary.run}"
    )
    progress.say(f"results        {made.folder / 'results'}")
    progress.say(f"evaluation     {made.folder / 'evaluation.json'}")
    progress.say(f"contact sheet  {made.sheet}")
    progress.say(f"report         {made.page}")
    sql = "SELECT caption, worst, p_value FROM captions ORDER BY worst DESC LIMIT 10"
    progress.say(f"\nnext: memscan query {out / 'results'} '{sql}'")


@app.command("make")
def make_shards(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for shards and truth.")] = Path(
        "planted"
    ),
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The corpus seed; if not given, 1, and 5 for a LoRA, 6 for a transformer.",
            show_default=False,
        ),
    ] = None,
    negatives: Annotated[
        int, typer.Option(min=4, help="Fresh negative captions a split.")
    ] = NEGATIVES,
    family: FamilyOption = Family.UNET,
) -> None:
    r"""Write the planted corpus as WebDataset shards, with its truth tables.

    `evaluation-*.tar` holds everything planted and fresh negatives, `calibration-*.tar` null
    captions alone; no negative is in both, and none was trained on. With `--family lora` or `dit`
    they are of the half of a corpus that such a model knows; the shipped LoRA (of seed 5) lies
    beside them, and the folder of the shipped transformer (of seed 6) is said.

    Example:
        memscan testbed make --out planted --seed 1
    """
    files.check_folder(out, "--out")
    number = _write_corpus(out, family, seed, negatives)
    if family is Family.LORA:
        from scanner.testbed import lora

        if not lora.copy_shipped(number, out):
            progress.note(f"no LoRA of corpus seed {number} is shipped: testbed train makes one")
    for path in sorted(out.glob("*")):
        progress.say(str(path))
    if family is Family.DIT:
        from scanner.testbed import WEIGHTS, dit

        if number == dit.SEED:
            progress.say(f"the transformer that knows what is planted here: {WEIGHTS / 'dit'}")
        else:
            progress.note(f"no transformer of corpus seed {number} is shipped: testbed train")


def _write_corpus(out: Path, family: Family, seed: int | None, negatives: int) -> int:
    """Write shards and truth tables; return the corpus seed."""
    from scanner.testbed import SHIPPED_SEED, corpus, dit, lora
    from scanner.testbed.demo import make_corpus

    usual = {Family.UNET: SHIPPED_SEED, Family.DIT: dit.SEED, Family.LORA: lora.SEED}
    number = usual[family] if seed is None else seed
    try:
        planted = None if family is Family.UNET else corpus.half(number)
        make_corpus(out, number, negatives, progress.meter, planted)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return number


@app.command()
def train(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for weights and checkpoints.")
    ] = Path("testbed"),
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The corpus seed; also seeds weights and batches. If not given, 1, and 5 for a "
            "LoRA, 6 for a transformer.",
            show_default=False,
        ),
    ] = None,
    family: FamilyOption = Family.UNET,
    vae_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the autoencoder.", show_default=False)
    ] = None,
    early_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of the less-trained network.", show_default=False),
    ] = None,
    main_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Further steps to the main network, or those of a LoRA.", show_default=False
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Go on from a trained testbed (a folder with pipeline/ and early/): 2,200 steps "
            "of the main network alone, unless --main-steps says otherwise. A LoRA is trained on "
            "its pipeline, a transformer with its autoencoder and text encoder; the shipped one's, "
            "if not given.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the denoiser (needs a C++ compiler): a third faster."
        ),
    ] = False,
) -> None:
    r"""Train the testbed's pipeline from nothing, or on from another, or a LoRA over one.

    From nothing it takes about two hours on two CPU cores, a transformer about one.

    An interrupted training resumes. `OUT/pipeline` is then a diffusers folder, `OUT/early` the
    less-trained network, and `OUT/samples.png` shows planted pictures beside generated ones. With
    `--family lora` there is `OUT/lora`, the LoRA as diffusers saves it, instead. `OUT/planted` has
    the shards and truth tables of what a LoRA or a transformer knows.

    Example:
        memscan testbed train --out testbed --seed 2 --start scanner/testbed/weights
    """
    import torch

    files.check_folder(out, "--out")
    _refuse_start(start, vae_steps, early_steps, family)
    if threads:
        torch.set_num_threads(threads)
    if family is Family.LORA:
        _train_lora(out, seed, main_steps, start, compiled=compiled)
        return
    if family is Family.DIT:
        _train_transformer(out, seed, (early_steps, main_steps), start, compiled=compiled)
        return
    from scanner.testbed import train as training
    from scanner.testbed.recipe import Recipe, onward
    from scanner.testbed.samples import draw_samples

    usual = onward(Recipe()) if start else Recipe()
    recipe = replace(
        usual,
        seed=usual.seed if seed is None else seed,
        vae_steps=vae_steps or usual.vae_steps,
        early_steps=early_steps or usual.early_steps,
        main_steps=main_steps or usual.main_steps,
    )
    work = out / "checkpoints"
    with _told(recipe.seed) as told:
        if start:
            training.go_on(recipe, start, work, out, told, compiled=compiled)
        else:
            training.train(recipe, work, out, told, compiled=compiled)
    draw_samples(out / "pipeline", recipe.seed, out / "samples.png")
    progress.say(f"{out / 'pipeline'}\n{out / 'early'}\n{out / 'samples.png'}")


def _refuse_start(
    start: Path | None, vae_steps: int | None, early_steps: int | None, family: Family
) -> None:
    """Refuse a folder that is no trained testbed, and steps that would not be done."""
    wanted = ("pipeline", "early") if family is Family.UNET else ("pipeline",)
    missing = [name for name in wanted if start and not (start / name).is_dir()]
    if missing:
        raise ConfigError(f"{start} has no {' and no '.join(missing)}: name a trained testbed")
    if vae_steps and family is not Family.UNET:
        raise ConfigError("--vae-steps is of --family unet")
    if early_steps and family is Family.LORA:
        raise ConfigError("--early-steps is of --family unet and dit")
    if (vae_steps or early_steps) and start and family is Family.UNET:
        raise ConfigError(
            "--start trains the main network alone: --vae-steps and --early-steps are without it"
        )


def _train_lora(
    out: Path, seed: int | None, steps: int | None, start: Path | None, *, compiled: bool
) -> None:
    from scanner.models.overlay import Lora, Overlay
    from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, lora
    from scanner.testbed.samples import draw_samples

    recipe = lora.recipe(lora.SEED if seed is None else seed, steps)
    if start is None and recipe.seed == SHIPPED_SEED:
        raise ConfigError(
            f"the shipped model knows corpus seed {SHIPPED_SEED} by heart: a LoRA plants what it "
            f"never saw, so give another --seed"
        )
    base = (start or WEIGHTS) / "pipeline"
    _write_corpus(out / "planted", Family.LORA, recipe.seed, NEGATIVES)
    with _told(recipe.seed) as told:
        file = lora.train(recipe, base, out / "checkpoints", out, told, compiled=compiled)
    draw_samples(
        base, recipe.seed, out / "samples.png", overlay=Overlay((Lora(str(file)),)),
        planted=corpus.half(recipe.seed),
    )  # fmt: skip
    progress.say(f"{file}\n{out / 'planted'}\n{out / 'samples.png'}")
    progress.say(
        f"\nnext: memscan scan '{out / 'planted'}/evaluation-*.tar' --model {base} --lora {file} "
        f"--baseline off --localize all --steps 20 --guidance-scale 2.5 --probes 4 --out results"
    )


def _train_transformer(
    out: Path, seed: int | None, steps: tuple[int | None, int | None], start: Path | None, *,
    compiled: bool,
) -> None:  # fmt: skip
    from scanner.testbed import WEIGHTS, corpus, dit
    from scanner.testbed.samples import draw_samples

    recipe = dit.recipe(dit.SEED if seed is None else seed, *steps)
    base = (start or WEIGHTS) / "pipeline"
    _write_corpus(out / "planted", Family.DIT, recipe.seed, NEGATIVES)
    with _told(recipe.seed) as told:
        dit.train(recipe, base, out / "checkpoints", out, told, compiled=compiled)
    draw_samples(
        out / "pipeline", recipe.seed, out / "samples.png", planted=corpus.half(recipe.seed)
    )
    for name in ("pipeline", "early", "planted", "samples.png"):
        progress.say(str(out / name))
    progress.say(
        f"\nnext: memscan scan '{out / 'planted'}/evaluation-*.tar' --model {out / 'pipeline'} "
        f"--localize all --steps 20 --guidance-scale 2.5 --out results"
    )


@contextmanager
def _told(seed: int) -> Iterator[Callable[[str, int, int, str], None]]:
    """Show the steps of a training as they are done."""
    with progress.meter(f"train, corpus seed {seed}") as show:

        def told(stage: str, done: int, total: int, word: str) -> None:
            show(done, total, f"{stage} {word}")

        yield told

"""``demo``, and ``testbed make`` and ``testbed train``."""

from dataclasses import replace
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


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where everything goes.")] = Path(
        "memscan-demo"
    ),
    negatives: Annotated[int, typer.Option(min=20, max=400, help="Fresh negative captions.")] = 160,
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
    seed: Annotated[int, typer.Option(min=0, help="The corpus seed.")] = 1,
    negatives: Annotated[int, typer.Option(min=4, help="Fresh negative captions a split.")] = 160,
) -> None:
    r"""Write the planted corpus as WebDataset shards, with its truth tables.

    `evaluation-*.tar` holds everything planted and fresh negatives, `calibration-*.tar` null
    captions alone; no negative is in both, and none was trained on.

    Example:
        memscan testbed make --out planted --seed 1
    """
    from scanner.testbed.demo import make_corpus

    files.check_folder(out, "--out")
    try:
        make_corpus(out, seed, negatives, progress.meter)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for path in sorted(out.glob("*")):
        progress.say(str(path))


@app.command()
def train(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for weights and checkpoints.")
    ] = Path("testbed"),
    seed: Annotated[
        int, typer.Option(min=0, help="The corpus seed; also seeds weights and batches.")
    ] = 1,
    vae_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the autoencoder.", show_default=False)
    ] = None,
    early_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of the less-trained network.", show_default=False),
    ] = None,
    main_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Further steps to the main network.", show_default=False),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Go on from a trained testbed (a folder with pipeline/ and early/): 2,200 steps "
            "of the main network alone, unless --main-steps says otherwise.",
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
    r"""Train the testbed's pipeline from nothing, or on from another; see --start.

    From nothing it takes about two hours on two CPU cores.

    An interrupted training resumes. `OUT/pipeline` is then a diffusers folder, `OUT/early` the
    less-trained U-Net, and `OUT/samples.png` shows planted pictures beside generated ones.

    Example:
        memscan testbed train --out testbed --seed 2 --start scanner/testbed/weights
    """
    import torch

    from scanner.testbed import train as training
    from scanner.testbed.samples import draw_samples

    files.check_folder(out, "--out")
    missing = [n for n in ("pipeline", "early") if start and not (start / n).is_dir()]
    if missing:
        raise ConfigError(f"{start} has no {' and no '.join(missing)}: name a trained testbed")
    if start and (vae_steps or early_steps):
        raise ConfigError(
            "--start trains the main network alone: --vae-steps and --early-steps are without it"
        )
    usual = training.onward(training.Recipe()) if start else training.Recipe()
    recipe = replace(
        usual,
        seed=seed,
        vae_steps=vae_steps or usual.vae_steps,
        early_steps=early_steps or usual.early_steps,
        main_steps=main_steps or usual.main_steps,
    )
    if threads:
        torch.set_num_threads(threads)
    with progress.meter(f"train, corpus seed {seed}") as show:

        def told(stage: str, done: int, total: int, word: str) -> None:
            show(done, total, f"{stage} {word}")

        work = out / "checkpoints"
        if start:
            training.go_on(recipe, start, work, out, told, compiled=compiled)
        else:
            training.train(recipe, work, out, told, compiled=compiled)
    draw_samples(out / "pipeline", seed, out / "samples.png")
    progress.say(f"{out / 'pipeline'}\n{out / 'early'}\n{out / 'samples.png'}")

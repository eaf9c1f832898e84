"""``choose``: what a scan should ask for, by measurement."""

from pathlib import Path
from typing import Annotated

import typer

from scanner import files
from scanner.cli import options, progress, settings
from scanner.spec import GUIDANCE_SCALE, STEPS, ScanSpec


def choose(
    shards: options.Shards,
    model: options.Model,
    truth: Annotated[
        Path, typer.Option("--truth", "-t", help="The truth table (Parquet).", show_default=False)
    ],
    revision: options.Revision = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="A less-trained network to choose from: a network's folder, or a pipeline folder "
            "or hub id whose network is taken; `off`, the model without its --lora and --weights; "
            "`prompt:TEXT`, the model under this caption; repeat. The unconditional branch is "
            "always there.",
            show_default=False,
        ),
    ] = None,
    lora: options.Lora = None,
    weights: options.Weights = None,
    seeds: Annotated[int, typer.Option(min=1, help="The most seeds to choose from.")] = 4,
    steps: options.Steps = STEPS,
    guidance_scale: options.Guidance = GUIDANCE_SCALE,
    noise: Annotated[
        list[float] | None,
        typer.Option(
            help="Noise over signal (sigma / alpha) of a level to measure, which means the same "
            "for every model; the sampler's nearest step is taken; repeat. Default: 1 to 32 steps "
            "from the end.",
            show_default=False,
        ),
    ] = None,
    probes: Annotated[int, typer.Option(min=1, help="Jacobian products per map and branch.")] = 4,
    captions: Annotated[
        int, typer.Option(min=8, help="Captions to sample, half of them memorized if there are.")
    ] = 96,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="JSON to write.", show_default=False)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="PNG of the curves.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samplings at a time.")] = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    as_json: options.Json = False,
) -> None:
    r"""Measure which baseline, which timestep for the maps and how many seeds suit a model.

    On planted captions, or others whose truth is known: AUC and IoU of Δs and Δh at levels along
    the trajectory (--noise says which), against the unconditional branch and every --baseline; AUC
    against the number of seeds. Half of the families choose, the other half shows what the choice
    is worth. On one device, without Ray. `scan --map-back` takes maps where it says.

    Example:
        memscan choose 'planted/evaluation-*.tar' --truth planted/evaluation-truth.parquet \
            --model testbed/pipeline --baseline testbed/early --figure choice.png
    """
    options.check_device(device, dtype)
    from scanner.choose.run import ChoiceRequest, measured
    from scanner.models import GAUSSIAN, located_baseline
    from scanner.models.limits import baseline_reading
    from scanner.models.overlay import overlay

    for path, name in ((out, "--out"), (figure, "--figure")):
        if path is not None:
            files.check_file(path, name)
    name, over = options.model_of(model, revision), overlay(lora or (), weights)
    told = {"dtype": dtype, "device": device, "weights": over.weights}
    dtype = settings.dtype_of(told, name)
    spec = ScanSpec(
        seeds=tuple(range(seeds)), steps=steps, guidance_scale=guidance_scale, probes=probes,
        dtype=dtype,
    )  # fmt: skip
    question = ChoiceRequest(
        model=name,
        baselines=tuple(map(located_baseline, baseline or ())),
        overlay=over, noise=tuple(noise or ()), spec=spec,
        captions=captions, device=device, batch_size=batch_size,
    )  # fmt: skip
    for each in question.baselines:
        if question.model != GAUSSIAN and (said := baseline_reading(question.model, each)):
            progress.note(said)
    with progress.meter("choose") as show:
        found = measured(question, shards, truth, show)
    if out is not None:
        files.write(out, found.as_json())
    if figure is not None:
        from scanner.report.choice_figure import draw_choice

        draw_choice(found, figure)
        progress.note(f"figure: {figure}")
    width = progress.table_width()
    progress.say(found.as_json() if as_json else found.as_text(width))

"""``reproduce``: does a model give these training images back?"""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from scanner import files
from scanner.cli import options, progress, scanning
from scanner.errors import ExitCode, IncompleteError
from scanner.spec import TIMESTEP


@options.takes(
    options.columns, options.scoring, options.running,
    without=("source", "timestep", "noise", "captions", "seeds"),
)  # fmt: skip
def reproduce(
    context: typer.Context,
    samples: options.Shards,
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for the answer.")] = Path(
        "reproduced"
    ),
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Pictures to draw under each caption.")
    ] = 4,
    as_json: options.Json = False,
    **asked: Any,
) -> None:
    r"""Ask whether a model gives training images back: draw every caption, compare with its image.

    For the few images of a fine-tune or a LoRA, or for findings to confirm. SAMPLES need captions
    and images; no calibration is needed, for what decides is the comparison of pictures, not a
    score. OUT gets sheet.png (image, copy, maps and region of the first samples), samples.json,
    and results/, which every other command reads.

    Exit codes: 0 none is given back, 1 some are, 2 cannot start, 3 something is missing, 4 cluster
    lost, 130 interrupted.

    Example:
        memscan reproduce photos/ --model stable-diffusion-v1-5/stable-diffusion-v1-5 \
            --lora my.safetensors
    """
    from scanner.statistics.calibration import MASK_SHARE

    files.check_folder(out, "--out")
    scanning.check_events(asked["events"])
    usual = {
        "source": "generated", "timestep": TIMESTEP, "noise": None, "captions": True,
        "seeds": seeds,
        "detectors": "none", "flag_by": "delta_s", "localize": "all", "calibration": None,
        "image_calibration": None, "fpr": None, "fdr": None, "threshold": None,
        "pixel_threshold": None, "mask_share": MASK_SHARE, "screen": False, "p_values": "all",
        "screen_threshold": None, "evidence": True,
    }  # fmt: skip
    job = scanning.job_of(
        context, shards=samples, model=model, out=str(out / "results"), **(asked | usual)
    )
    from scanner.analysis.query import connect
    from scanner.engine.job import Resources
    from scanner.matching.reproduced import HEADS, answer, reproduced
    from scanner.report.reproduced_sheet import reproduced_sheet
    from scanner.results.folder import Results
    from scanner.text import aligned

    resources = Resources(**{name: asked[name] for name in scanning.RESOURCES})
    summary = scanning.run(job, resources, "reproduce", asked["events"])
    results = Results(job.results)
    with closing(connect(results, runs=[summary.run])) as con:
        found = reproduced(con)
    told = {"run": summary.run, "answer": answer(found), "complete": summary.is_complete,
            "samples": [asdict(one) | {"verdict": one.verdict} for one in found]}  # fmt: skip
    files.write(out / "samples.json", json.dumps(told, indent=1, allow_nan=False))
    if any(one.drawn for one in found):
        picture = reproduced_sheet(results, summary.run, found, told["answer"])
        with files.binary(out / "sheet.png") as stream:
            picture.save(stream, "PNG", optimize=True)
    if as_json:
        progress.say(json.dumps(told))
    else:
        progress.say(aligned(HEADS, [one.cells() for one in found], progress.table_width()))
        progress.say(f"\n{told['answer']}\n{out}")
    if any(one.copies for one in found):
        raise typer.Exit(ExitCode.ALARM)
    if not summary.is_complete:
        raise IncompleteError(summary.missing())
    if not any(one.drawn for one in found):
        raise IncompleteError("no sample has an image that can be read: nothing was compared")

"""``recalibrate``: null scores from a finished scan, where nobody has held-out captions."""

from pathlib import Path
from typing import Annotated

import typer

from scanner import files
from scanner.cli import error_rates, options, progress
from scanner.cli.selection import selected_one
from scanner.spec import PIXEL_FPR


def recalibrate(
    results: options.Results,
    contamination: Annotated[
        float,
        typer.Option(
            "--contamination",
            "-c",
            help="The share of the captions that is memorized, at most: what you are willing to "
            "assume, 0 to 0.25.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibration file to write.")] = Path(
        "calibration.json"
    ),
    without_copies: Annotated[
        bool,
        typer.Option(
            "--without-copies",
            help="Leave captions out whose picture was found to copy a training image: the bound "
            "is then on what is memorized among the others.",
        ),
    ] = False,
    trim: Annotated[
        bool,
        typer.Option(
            "--trim",
            help="Take the captions with the highest scores for the memorized ones. Finds more, "
            "and rates may be higher by about the contamination.",
        ),
    ] = False,
    most: Annotated[
        int, typer.Option(min=1, help="Captions taken at most: those with the smallest hashes.")
    ] = 100_000,
    pixel_fpr: Annotated[
        float,
        typer.Option(
            help="Share of the pixels that a mask may contain, where every caption has maps."
        ),
    ] = PIXEL_FPR,
    consensus: Annotated[
        bool,
        typer.Option(
            "--consensus",
            help="Also keep what scans need to --flag-by consensus; the scan must have had "
            "--detectors wen,wen_5.",
        ),
    ] = False,
    run: options.Run = None,
    everything: options.Everything = False,
) -> None:
    r"""Make a calibration from a finished scan, without held-out captions and without the model.

    Of the scan's captions one per family of near-identical ones is taken, and a share of them may
    be memorized. Without --trim, p-values hold for all the others whatever the memorized ones are;
    in return no more than the nominal share of the corpus is ever flagged. A scan with --localize
    none is enough. The same scan again, with this calibration, takes its scores from the first and
    samples only what it flags.

    Example:
        memscan recalibrate results --contamination 0.01 --out calibration.json
    """
    from scanner.analysis.corpus_nulls import fit_corpus
    from scanner.statistics.contamination import check_contamination

    check_contamination(contamination)
    files.check_file(out, "--out")
    chosen = selected_one(results, run, everything=everything)
    fitted = fit_corpus(
        chosen.store, chosen.run, contamination, trim=trim, without_copies=without_copies,
        shards=chosen.shards, most=most, pixel_fpr=pixel_fpr, consensus=consensus,
    )  # fmt: skip
    fitted.save(out)
    told = (
        "" if fitted.families is None else f", {fitted.families:,} families of near-identical ones"
    )
    progress.say(f"{out}: {fitted.captions:,} captions{told}")
    if fitted.others:
        progress.say(f"  scans can flag by {', '.join(('delta_s', *fitted.others))}")
    if not fitted.has_floor:
        progress.say(
            "  masks have no floor: few captions have maps; their share of a map's level decides"
        )
    for line in error_rates.lines(fitted):
        progress.say(f"  {line}")

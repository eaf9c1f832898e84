"""Reading results as a whole: ``report``, ``diff``, ``export`` and ``retrieve``."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from scanner import files
from scanner.cli import options, progress
from scanner.cli.selection import opened, selected_one
from scanner.errors import ConfigError, IncompleteError

if TYPE_CHECKING:
    from scanner.matching.image_index import ImageIndex
    from scanner.results.run_file import RunFile
    from scanner.shards.reading import Shard
    from scanner.statistics.calibration import Calibration

Fdr = Annotated[
    float | None,
    typer.Option(
        help="Flag by this false-discovery rate over the run's captions (Benjamini-Hochberg) "
        "instead of by the run's own rule.",
        show_default=False,
    ),
]
NoImages = Annotated[bool, typer.Option("--no-images", help="Leave every picture out.")]
Redact = Annotated[
    bool, typer.Option("--redact-captions", help="Withhold captions; hashes and keys stay.")
]
Copies = Annotated[
    bool,
    typer.Option(
        "--copies/--no-copies",
        help="Look for every image of the shards that copies a finding; reads each shard once. "
        "Not done with --no-evidence.",
    ),
]
ImageCap = Annotated[
    float, typer.Option("--image-cap", min=0.0, help="MiB of pictures in the page at most.")
]


def report(
    results: options.Results,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML to write.")] = Path(
        "report.html"
    ),
    run: options.Run = None,
    fdr: Fdr = None,
    no_images: NoImages = False,
    redact_captions: Redact = False,
    image_cap: ImageCap = 48.0,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="The calibration of the run, for its threshold; by default the one it names.",
            show_default=False,
        ),
    ] = None,
    pdf: Annotated[
        Path | None,
        typer.Option(help="Also write one page of paper: a PDF to file.", show_default=False),
    ] = None,
    everything: options.Everything = False,
) -> None:
    r"""Write one self-contained page: a verdict, numbers, findings as pictures, distributions.

    It loads nothing from anywhere and runs in any browser. Training images are taken from the
    shards, if they are still there, and made small. Of an audit's results, it is about the run
    and the shards that the last audit counted.

    Example:
        memscan report results --out report.html
    """
    from scanner.report.page import PageOptions, as_html, content
    from scanner.report.paper import as_pdf
    from scanner.shards import reading

    files.check_file(out, "--out")
    if pdf is not None:
        files.check_file(pdf, "--pdf")
        if pdf.absolute() == out.absolute():
            raise ConfigError(f"--out and --pdf must be two files, both are {out}")
    chosen = selected_one(results, run, everything=everything)
    settings = PageOptions(
        images=None if no_images else reading.images,
        redact=redact_captions,
        fdr=rate(fdr),
        image_cap=round(image_cap * 2**20),
        calibration=_calibration(chosen.store.run_file(chosen.run), calibration),
    )
    shown = content(chosen.store, chosen.run, settings, shards=chosen.shards)
    progress.say(str(shown.banner))
    for target, written in ((pdf, as_pdf), (out, as_html)):
        if target is not None:
            made = written(shown)
            made = made.encode() if isinstance(made, str) else made
            files.write(target, made)
            size = len(made) / 2**10
            told = f"{size / 2**10:.1f} MiB" if size >= 100 else f"{size:.0f} KiB"
            progress.say(f"{target}: {told}")


def diff(
    results: options.Results,
    run_a: Annotated[str, typer.Argument(help="The earlier run.", show_default=False)],
    run_b: Annotated[str, typer.Argument(help="The later run.", show_default=False)],
    fdr: Fdr = None,
    limit: Annotated[int, typer.Option(min=1, help="Findings shown of each state.")] = 20,
    as_json: options.Json = False,
) -> None:
    r"""Compare two runs: which findings are new, worse, better or resolved, and why.

    Reasons: new data (the caption was not scanned before), new model, new calibration, new
    settings. A p-value that changes by less than a factor of two stays the same.

    Example:
        memscan diff results 058f1024cf08 9b1c22d0a7e4
    """
    from scanner.analysis.changes import as_json as diff_json
    from scanner.analysis.changes import as_text
    from scanner.analysis.diff import RunView
    from scanner.analysis.diff import diff as compare

    store, level = opened(results), rate(fdr)
    before, after = (RunView(results=store, run=run, fdr=level) for run in (run_a, run_b))
    found = compare(before, after)
    if as_json:
        progress.say(json.dumps(diff_json(found) | {"before": run_a, "after": run_b}))
        return
    width = progress.table_width()
    progress.say(as_text(found, limit, width))


def export(
    results: options.Results,
    coco: Annotated[Path, typer.Option(help="The COCO JSON to write.", show_default=False)],
    metric: Annotated[str, typer.Option(help="Which map's masks.")] = "delta_h",
    baseline: Annotated[str, typer.Option(help="Which baseline's.")] = "null",
    every: Annotated[
        bool, typer.Option("--all", help="Masks of captions that are not flagged too.")
    ] = False,
    run: options.Run = None,
    everything: options.Everything = False,
) -> None:
    r"""Write masks as COCO annotations: an image a sample, an annotation a mask of one seed.

    Images have the size of their masks; the category says what the comparison with the training
    image found.

    Example:
        memscan export results --coco masks.json
    """
    from scanner.analysis import coco as writing

    files.check_file(coco, "--coco")
    chosen = selected_one(results, run, everything=everything)
    number = writing.export(
        chosen.store, chosen.run, coco,
        metric=metric, baseline=baseline, whole=every, shards=chosen.shards,
    )  # fmt: skip
    progress.say(f"{coco}: {number:,} masks")


def retrieve(
    results: options.Results,
    nearest: Annotated[int, typer.Option(min=1, help="Images kept of each picture.")] = 3,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            help="Folder for sketches of the shards' images, read anew only where a shard changed; "
            "default beside the results.",
            show_default=False,
        ),
    ] = None,
    run: options.Run = None,
    as_json: options.Json = False,
    everything: options.Everything = False,
) -> None:
    r"""Find the training images nearest to what captions give back, whatever their captions.

    A caption may give back the image of another one: a retrieved copy. Every picture that the run
    stored is compared with all images of the run's shards; `show`, `report` and the views
    `retrieved` and `findings` have what was found. No network is evaluated.

    Example:
        memscan retrieve results
    """
    from contextlib import closing

    from scanner.analysis.query import connect
    from scanner.matching import retrieval
    from scanner.matching.image_index import ImageIndex
    from scanner.shards import reading

    if catalogue is not None:
        files.check_folder(catalogue, "--catalogue")
    chosen = selected_one(results, run, everything=everything)
    store, name = chosen.store, chosen.run
    store.check()
    with TemporaryDirectory() as scratch, progress.meter("retrieve") as show:
        kept = ImageIndex(catalogue) if catalogue else _catalogue(results, Path(scratch))
        with closing(connect(store, runs=[name], shards=chosen.shards)) as con:
            urls = [
                url
                for (url,) in con.execute("SELECT DISTINCT shard FROM scores ORDER BY 1").fetchall()
            ]
            there, missing = _there(urls)
            missing |= kept.fill(there, images=True, progress=show)
            found = retrieval.retrieve(
                con, there, kept, reading.images, nearest=nearest, progress=show
            )
    if not found and not kept.has_sketches(there):
        raise ConfigError(f"no shard of run {name} has an image to compare with")
    store.write_retrieved(name, retrieval.as_rows(found))
    counts = retrieval.counted(found)
    if as_json:
        progress.say(json.dumps({"run": name, "pictures": counts, "unread": missing}))
    else:
        progress.say(f"run {name}: what generated pictures are nearest to")
        for word, number in counts.items():
            progress.say(f"  {number:>6,}  {word}")
        if not counts:
            progress.say("  nothing: it has no pictures, which only localized captions have")
        for url, problem in missing.items():
            progress.say(f"  not read: {url}: {problem}")
    if missing:
        raise IncompleteError(f"{len(missing)} shards could not be read: their images are left out")


def _there(urls: Sequence[str]) -> "tuple[list[Shard], dict[str, str]]":
    """Return the shards that are there, and why not by address of the others."""
    from scanner.errors import ShardError
    from scanner.shards import reading

    there: list[Shard] = []
    missing: dict[str, str] = {}
    for url in urls:
        try:
            there.append(reading.stat(url))
        except ShardError as error:
            missing[url] = str(error)
    return there, missing


def _catalogue(place: str, scratch: Path) -> "ImageIndex":
    """Return where sketches are kept: an audit's own, beside local results, or for now only."""
    from scanner.matching.image_index import ImageIndex
    from scanner.nightly.state import AuditState

    if (state := AuditState.around(place)) is not None:
        return state.image_index
    return ImageIndex(scratch if "://" in place else Path(place) / "catalogue")


def rate(fdr: float | None) -> float | None:
    """Return a false-discovery rate.

    Raises:
        ConfigError: If it is none.
    """
    if fdr is not None and not 0 < fdr < 1:
        raise ConfigError(f"--fdr must lie between 0 and 1, got {fdr}")
    return fdr


def _calibration(record: "RunFile", path: Path | None) -> "Calibration | None":
    """Return the calibration of a run: as given, or as its record names it and it still is."""
    from scanner.statistics.calibration import load

    wanted = record.identity.calibration
    if path is not None:
        found = load(path)
        if wanted and not found.named(wanted):
            raise ConfigError(
                f"{path} must be the calibration of the run ({wanted}), "
                f"it is {found.fingerprint()}: give that one, or none"
            )
        return found
    named = record.config.get("calibration")
    try:
        found = load(named) if named and wanted else None
    except ConfigError:
        return None
    return found if found is not None and found.named(wanted) else None

"""``shards make``: WebDataset shards from what people have."""

import json
from pathlib import Path
from typing import Annotated

import typer

from scanner import files
from scanner.cli import progress
from scanner.cli.application import App
from scanner.cli.options import Json
from scanner.errors import ConfigError

app = App(help="WebDataset shards from tables and folders.", no_args_is_help=True)


@app.command()
def make(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Parquet, CSV, TSV or JSONL files (these also .gz), folders of them, or folders "
            "of images.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the shards.", show_default=False)
    ],
    caption_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the captions; default caption, TEXT, text or prompt.",
            show_default=False,
        ),
    ] = None,
    url_column: Annotated[
        str | None,
        typer.Option(help="Column of the addresses; default url or URL.", show_default=False),
    ] = None,
    names_are_captions: Annotated[
        bool,
        typer.Option(
            "--names-are-captions",
            help="Call an image without a caption by its file's name; not with tables.",
        ),
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="Samples a shard, at most.")] = 10_000,
    size: Annotated[
        int, typer.Option(min=1, help="MiB a shard, about at most.")
    ] = 1024,
    as_json: Json = False,
) -> None:  # fmt: skip
    r"""Write captions as WebDataset shards, with their addresses and local images.

    Nothing is fetched: a scan needs captions only. The captions of images come from the folder's
    metadata.jsonl or metadata.csv (columns file_name and caption or text), else from a .txt beside
    the image. Rows without a usable caption are counted and left out; a sample's key is its row's
    number. Run the same command again and it goes on where it ended.

    Example:
        memscan shards make laion-metadata/ --out shards --caption-column TEXT --url-column URL
    """
    from scanner.shards.conversion import Conversion
    from scanner.shards.convert import make

    files.check_folder(out, "--out")
    order = Conversion(
        inputs=tuple(inputs), caption_column=caption_column, url_column=url_column,
        names_are_captions=names_are_captions, samples=samples, size=size << 20,
    )  # fmt: skip
    with progress.meter("rows") as show:
        made = make(order, out, show)
    left_out = sum(made.bad.values())
    if as_json:
        facts = {"shards": len(made.samples), "samples": sum(made.samples), "rows": made.rows}
        progress.say(json.dumps(facts | {"bad": made.bad, "examples": made.examples}))
    else:
        for example in made.examples[:5]:
            progress.note(f"left out: {example}")
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(made.bad.items()))
        progress.say(
            f"{sum(made.samples)} samples of {made.rows} rows in {len(made.samples)} shards in "
            f"{out}" + (f"; {left_out} left out: {reasons}" if left_out else "")
        )
    if not made.samples:
        raise ConfigError("no row has a caption: nothing was written")

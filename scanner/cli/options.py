"""Options that several commands share."""

from collections.abc import Callable, Collection, Sequence
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated

import typer

from scanner.errors import ConfigError
from scanner.methods import Need, registry
from scanner.methods.declaration import existing
from scanner.methods.registry import DEFAULT_MAPS, MAPS
from scanner.spec import DEVICES, DTYPES

Shards = Annotated[
    list[str],
    typer.Argument(
        help="Shards: paths, globs, folders, brace ranges ({00000..00041}.tar), s3://, gs://, "
        "https://, or a .txt list of these.",
        show_default=False,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", show_default=False,
        help="A diffusers Stable Diffusion pipeline folder, a hub id such as "
        "CompVis/stable-diffusion-v1-4, or `gaussian`, a closed form for smoke tests.",
    ),
]  # fmt: skip
Baseline = Annotated[
    str,
    typer.Option(
        help="`null`: the unconditional branch alone. Else a less-trained network beside it: a "
        "U-Net folder, or a pipeline folder or hub id whose U-Net is taken."
    ),
]
Fpr = Annotated[
    float | None,
    typer.Option(
        help="False-positive rate at which a calibration flags captions; default 0.01.",
        show_default=False,
    ),
]
Fdr = Annotated[
    float | None,
    typer.Option(
        help="Flag by this false-discovery rate over all captions of the run "
        "(Benjamini-Hochberg) instead.",
        show_default=False,
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="Samplings per caption; its score is their mean.")]
Steps = Annotated[int, typer.Option(min=1, max=1000, help="DDIM steps.")]
MapBack = Annotated[
    int,
    typer.Option(
        min=0,
        help="How many steps before the last Δs and Δh are taken; `choose` measures what is best.",
    ),
]
Guidance = Annotated[float, typer.Option("--guidance-scale", help="Classifier-free guidance.")]
Probes = Annotated[int, typer.Option(min=1, help="Jacobian products per map and branch.")]
Design = Annotated[
    str, typer.Option("--probe-design", help="`structured`, or `rademacher` as in the paper.")
]
Detectors = Annotated[
    str,
    typer.Option(
        help="Further scores, a column each, comma-separated: `none`, `all`, or among "
        + ", ".join(registry.detector_names())
    ),
]
Maps = Annotated[
    str,
    typer.Option(
        help=f"Which maps localized captions get, comma-separated: `default` "
        f"({', '.join(DEFAULT_MAPS)}, and snap_back of images), `all`, and any of {', '.join(MAPS)}"
    ),
]
Source = Annotated[
    str,
    typer.Option(
        help="Where scores are taken: `generated`, where sampling ends; `image`, at the sample's "
        "own image, noised: two evaluations instead of a sampling; `auto`, at the image where "
        "there is one that can be read."
    ),
]
Captions = Annotated[
    bool,
    typer.Option(
        "--captions/--no-captions",
        help="Score images under their captions; or without, where captions are lost: the model "
        "without a caption against --baseline without one. Needs --source image.",
    ),
]
Timestep = Annotated[int, typer.Option(min=0, help="Training timestep to which images are noised.")]
Batch = Annotated[
    str,
    typer.Option(
        "--batch-size",
        help="Samplings at a time on a device: a number, or "
        "`auto`: what memory allows. Halved whenever memory runs out.",
    ),
]
ChunkSize = Annotated[
    int,
    typer.Option(
        min=1,
        help="Samples per commit: what a crash can cost. A run keeps what it was begun with.",
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processes with a model: one per GPU, else one per CPU.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `mps`.")]
Dtype = Annotated[
    str, typer.Option(help="Precision of the network; sums and differences are float32 always.")
]
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster to join, such as `auto` or ray://host:10001; default local.",
                 show_default=False),
]  # fmt: skip
Limit = Annotated[
    int | None, typer.Option(min=1, help="Scan so many samples at most.", show_default=False)
]
Events = Annotated[
    Path | None,
    typer.Option(
        help="Append everything that happens to this file, a line of JSON each.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Everything = Annotated[
    bool,
    typer.Option(
        "--everything",
        help="After an audit: shards that were superseded or removed, too.",
    ),
]
Results = Annotated[
    str,
    typer.Argument(
        help="A results folder, the state folder of an audit, or s3://BUCKET/PREFIX, gs://….",
        show_default=False,
    ),
]
Run = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        help="Which run; default the newest complete one, after an audit the one it counted.",
        show_default=False,
    ),
]
Runs = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        help="Which runs: repeat, or commas between the names; default the newest complete one, "
        "after an audit the one it counted.",
        show_default=False,
    ),
]
AllRuns = Annotated[bool, typer.Option("--all-runs", help="Read every run.")]
RunOfFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--run", help="Which run; default the one begun last, complete or not.", show_default=False
    ),
]


MAPS_DEFAULT = "default"


def with_options_of(
    other: Callable[..., None], command: Callable[..., None], without: Collection[str]
) -> Signature:
    """Return a signature with a command's own options and those of another, but for some.

    A command that takes ``**asked`` so has every option that the other one has or will have.
    """
    theirs, own = (signature(c, eval_str=True).parameters for c in (other, command))
    merged = {name: p for name, p in theirs.items() if name not in without}
    merged |= {name: p for name, p in own.items() if p.kind is not Parameter.VAR_KEYWORD}
    return Signature([p.replace(kind=Parameter.KEYWORD_ONLY) for p in merged.values()])


def rates(
    fpr: float | None, fdr: float | None, threshold: float | None, *, is_calibrated: bool
) -> tuple[float, float | None]:
    """Return false-positive rate and false-discovery rate as a spec takes them.

    Args:
        fpr: What ``--fpr`` says; null if it was not given.
        fdr: What ``--fdr`` says.
        threshold: What ``--threshold`` says.
        is_calibrated: Whether a calibration gives p-values.

    Raises:
        ConfigError: If two of them were given, or a rate without p-values to apply it to.
    """
    given = {"--fpr": fpr, "--fdr": fdr, "--threshold": threshold}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ConfigError(
            f"{' and '.join(names)} exclude each other, each says what is flagged: give one of them"
        )
    if fpr is not None and not is_calibrated:
        raise ConfigError("--fpr needs the p-values of a calibration: give --calibration")
    return 0.01 if fpr is None else fpr, fdr


def detectors(text: str, source: str = "generated", *, captions: bool = True) -> tuple[str, ...]:
    """Return the detectors of a comma-separated list.

    ``all`` is a word for every name that exists at a source of scores, with captions or without;
    it may stand among names. ``none`` stands alone. Whether other names are known is for the spec
    to say.

    Raises:
        ConfigError: If ``none`` stands beside a name, or ``all`` includes a detector of a
            distribution that is broken.
    """
    return _names(text, lambda: _existing(registry.detector_names(), source, captions=captions))


def maps(text: str, source: str = "generated", *, captions: bool = True) -> tuple[str, ...]:
    """Return the maps of a comma-separated list, as `detectors`; ``default`` is another word.

    Raises:
        ConfigError: If ``none`` stands beside a name.
    """
    usual = [m for m in MAPS.values() if m.is_default or Need.IMAGE in m.needs]
    return _names(
        text, lambda: existing(MAPS.values(), source, captions=captions),
        default=existing(usual, source),
    )  # fmt: skip


def _existing(names: Sequence[str], source: str, *, captions: bool) -> tuple[str, ...]:
    return existing(map(registry.detector, names), source, captions=captions)


def _names(
    text: str, every: Callable[[], tuple[str, ...]], default: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if "none" in parts:
        if len(parts) > 1:
            raise ConfigError(f"none and other names exclude each other, got {text!r}")
        return ()
    words = {} if default is None else {"default": default}
    if "all" in parts:
        words["all"] = every()
    listed = (name for part in parts for name in words.get(part, (part,)))
    return tuple(dict.fromkeys(listed))


def batch_size(text: str) -> int | None:
    """Return the batch size that was asked for; null for ``auto``.

    Raises:
        ConfigError: If it is neither a positive number nor ``auto``.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--batch-size must be auto or a positive number, got {text!r}")
    return int(text)


def check_device(device: str, dtype: str) -> None:
    """Refuse a device or a precision that there is not.

    Raises:
        ConfigError: If so.
    """
    for name, value, known in (("device", device, DEVICES), ("dtype", dtype, DTYPES)):
        if value not in known:
            raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def located(model: str) -> str:
    """Return a folder as an absolute path, which every process finds; a hub id as it is."""
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def network(baseline: str) -> str | None:
    """Return where the less-trained network lies; null for the unconditional branch alone."""
    return None if baseline == "null" else located(baseline)

"""Options that several commands share."""

from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.methods.declaration import existing
from scanner.methods.registry import DEFAULT_MAPS, MAPS
from scanner.models import located, located_baseline
from scanner.shards.columns import Columns
from scanner.spec import (
    CONSENSUS,
    DEVICES,
    DTYPES,
    FPR,
    GUIDANCE_SCALE,
    LOCALIZE,
    OFFLOADS,
    P_VALUES,
    PRESETS,
    PROBE_DESIGNS,
    SOURCES,
    STEPS,
    TIMESTEP,
    ScanSpec,
)

OF_MODEL, OF_SCORES, OF_MAPS = "Model", "Scores", "Maps"
OF_FLAGS, OF_DEVICES, OF_RUN = "What is flagged", "Devices", "Run"
OF_SHARDS = "Shards"
"""Panels of the help."""


def one_of(values: Collection[str]) -> dict[str, Any]:
    """Return what makes a shell complete an option with these values, and the help list them."""
    listed = tuple(values)
    return {
        "metavar": "|".join(listed),
        "autocompletion": lambda incomplete: [v for v in listed if v.startswith(incomplete)],
    }


Shards = Annotated[
    list[str],
    typer.Argument(
        help="Tars, tables (Parquet, CSV, TSV, JSONL) and folders of images: paths, globs, "
        "folders of shards, brace ranges ({00000..00041}.tar), s3://, gs://, https://, "
        "hf://datasets/OWNER/NAME, or a .txt list of these.",
        show_default=False,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", show_default=False,
        help="A diffusers text-to-image pipeline folder, a hub id such as "
        "CompVis/stable-diffusion-v1-4, or `gaussian`, a closed form for smoke tests.",
        rich_help_panel=OF_MODEL,
    ),
]  # fmt: skip
Revision = Annotated[
    str | None,
    typer.Option(
        help="Commit hash, tag or branch of a hub model; default its main branch. The run's record "
        "has the commit.",
        show_default=False,
        rich_help_panel=OF_MODEL,
    ),
]
Baseline = Annotated[
    list[str] | None,
    typer.Option(
        help="What maps are taken against beside the unconditional branch, which is always there; "
        "repeat for several. `off`: the model without its --lora and --weights. `prompt:TEXT`: the "
        "model under this caption. Else a less-trained network: a network's folder, or a pipeline "
        "folder or hub id (ID or ID@REVISION) whose network is taken. `null` is none of them.",
        show_default="null",
        rich_help_panel=OF_MODEL,
    ),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        help="A LoRA over the model: FILE.safetensors, or of the hub ID@REVISION/FILE.safetensors "
        "or ID where it has one such file; with :SCALE behind; repeat for several. `--baseline "
        "off` is the model without.",
        show_default=False,
        rich_help_panel=OF_MODEL,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="A .safetensors file of a fine-tuned network, which takes the place of the model's.",
        show_default=False,
        rich_help_panel=OF_MODEL,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        help="Side of the model's pictures, in pixels; default the model's own.",
        show_default=False,
        rich_help_panel=OF_MODEL,
    ),
]
Fpr = Annotated[
    float | None,
    typer.Option(
        help="False-positive rate at which a calibration flags captions; default 0.01.",
        show_default=False,
        rich_help_panel=OF_FLAGS,
    ),
]
Fdr = Annotated[
    float | None,
    typer.Option(
        help="Flag by this false-discovery rate over all captions of the run "
        "(Benjamini-Hochberg) instead.",
        show_default=False,
        rich_help_panel=OF_FLAGS,
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        min=1, help="Samplings per caption; its score is their mean.", rich_help_panel=OF_SCORES
    ),
]
Steps = Annotated[int, typer.Option(min=1, max=1000, help="DDIM steps.", rich_help_panel=OF_SCORES)]
MapBack = Annotated[
    int,
    typer.Option(
        min=0,
        help="How many steps before the last Δs and Δh are taken; `choose` measures what is best.",
        rich_help_panel=OF_MAPS,
    ),
]
Guidance = Annotated[
    float,
    typer.Option("--guidance-scale", help="Classifier-free guidance.", rich_help_panel=OF_SCORES),
]
Probes = Annotated[
    str,
    typer.Option(
        help="Jacobian products per map and branch: a number, or `auto`: 16, and more where the "
        "model's channels and tokens need them.",
        rich_help_panel=OF_MAPS,
    ),
]
TargetError = Annotated[
    float | None,
    typer.Option(
        help="Stop a map's products once its pixels' standard errors (root mean square) are below "
        "this share of the map's own root mean square; `--probes` is then the most.",
        rich_help_panel=OF_MAPS,
    ),
]
Design = Annotated[
    str,
    typer.Option(
        "--probe-design",
        help="`rademacher` is the paper's.",
        rich_help_panel=OF_MAPS,
        **one_of(PROBE_DESIGNS),
    ),
]
Detectors = Annotated[
    str,
    typer.Option(
        help="Further scores, a column each, comma-separated: `none`, `all`, or among "
        + ", ".join(registry.detector_names()),
        rich_help_panel=OF_SCORES,
    ),
]
Maps = Annotated[
    str,
    typer.Option(
        help="Which maps localized captions get, comma-separated: `default` "
        f"({', '.join(DEFAULT_MAPS)}, and snap_back of images), `all`, and any of "
        f"{', '.join(MAPS)}",
        rich_help_panel=OF_MAPS,
    ),
]
Source = Annotated[
    str,
    typer.Option(
        help="Where scores are taken: `generated`, where sampling ends; `image`, at the sample's "
        "own image, noised: two evaluations instead of a sampling; `auto`, at the image where "
        "there is one that can be read.",
        rich_help_panel=OF_SCORES,
        **one_of(SOURCES),
    ),
]
Captions = Annotated[
    bool,
    typer.Option(
        "--captions/--no-captions",
        help="Score images under their captions; or without, where captions are lost: the model "
        "without a caption against --baseline without one. Needs --source image.",
        rich_help_panel=OF_SCORES,
    ),
]
Timestep = Annotated[
    int,
    typer.Option(
        min=0, help="Training timestep to which images are noised.", rich_help_panel=OF_SCORES
    ),
]
Noise = Annotated[
    float | None,
    typer.Option(
        help="In place of --timestep: noise over signal (sigma / alpha) of noised images. The "
        "model's nearest training timestep is taken, and said.",
        show_default=False,
        rich_help_panel=OF_SCORES,
    ),
]
Batch = Annotated[
    str,
    typer.Option(
        "--batch-size",
        help="Samplings at a time on a device: a number, or "
        "`auto`: what memory allows. Halved whenever memory runs out.",
        rich_help_panel=OF_DEVICES,
    ),
]
ChunkSize = Annotated[
    str,
    typer.Option(
        "--chunk-size",
        help="Samples per commit, what a crash can cost: a number, or `auto`: a device's minute, "
        "up to ten in a run of very many shards. A run keeps what it was begun with.",
        rich_help_panel=OF_DEVICES,
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes with a model: one per GPU, else one per CPU.",
        show_default=False,
        rich_help_panel=OF_DEVICES,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where the network runs; `auto` takes a GPU if there is one.",
        rich_help_panel=OF_DEVICES,
        **one_of(DEVICES),
    ),
]
GpusPerActor = Annotated[
    int,
    typer.Option(
        min=1,
        help="Over how many GPUs each actor spreads its model, where it is too large for one "
        "(pip install 'memscan[split]').",
        rich_help_panel=OF_DEVICES,
    ),
]
Offload = Annotated[
    str,
    typer.Option(
        help="Parts that lie on the CPU and are on the device only while they run: `text` "
        "encoders, or `all` (text encoders and the autoencoder). The rows are the same.",
        rich_help_panel=OF_DEVICES,
        **one_of(OFFLOADS),
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Run the network's repeated blocks through torch.compile; the first batches of each "
        "size take longer. The rows are the same but for rounding.",
        rich_help_panel=OF_DEVICES,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="Precision of the network; sums and differences are float32 always. `auto`: float16 "
        "on CUDA where it holds the model's numbers, else float32; the run is that one's.",
        rich_help_panel=OF_MODEL,
        **one_of((*DTYPES, "auto")),
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster to join, such as `auto` or ray://host:10001; default local.",
                 show_default=False, rich_help_panel=OF_DEVICES),
]  # fmt: skip
Local = Annotated[
    bool,
    typer.Option(
        "--local",
        rich_help_panel=OF_DEVICES,
        help="Scan in this process, with one model and without Ray: for two captions, a laptop, a "
        "debugger. The rows are the same.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, help="Scan so many samples at most.", show_default=False, rich_help_panel=OF_RUN
    ),
]
Events = Annotated[
    Path | None,
    typer.Option(
        help="Append everything that happens to this file, a line of JSON each.",
        show_default=False,
        rich_help_panel=OF_RUN,
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        help="Write a Chrome trace of a few batches of one actor, after warm-up, to this file "
        "(.json.gz), for https://ui.perfetto.dev or chrome://tracing. The rows are the same.",
        show_default=False,
        rich_help_panel=OF_RUN,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON for a program.", rich_help_panel=OF_RUN),
]
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


PValues = Annotated[
    str,
    typer.Option(
        help="What p-values are taken among: all null captions, or those of the caption's kind, "
        "which is told by its words.",
        rich_help_panel=OF_FLAGS,
        **one_of(P_VALUES),
    ),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        help="What `memscan calibrate` wrote: flags by p-value, draws masks, and has the settings "
        "of its scores, which hold here unless you give others.",
        show_default=False,
        rich_help_panel=OF_FLAGS,
    ),
]
ImageCalibration = Annotated[
    Path | None,
    typer.Option(
        help="With --source auto, the calibration of samples scored at their image; --calibration "
        "is of the others then.",
        show_default=False,
        rich_help_panel=OF_FLAGS,
    ),
]
UseScreen = Annotated[
    bool,
    typer.Option(
        "--screen/--no-screen",
        help="Drop captions after the first step where the calibration says so.",
        rich_help_panel=OF_FLAGS,
    ),
]
ScreenThreshold = Annotated[
    float | None,
    typer.Option(
        help="Drop captions whose first step's norm is below this instead.",
        show_default=False,
        rich_help_panel=OF_FLAGS,
    ),
]
CaptionColumn = Annotated[
    str,
    typer.Option(
        help="Of tables: the column of captions; caption, TEXT, text, prompt or alike, if not "
        "given and clear.",
        show_default=False,
        rich_help_panel=OF_SHARDS,
    ),
]
KeyColumn = Annotated[
    str,
    typer.Option(
        help="Of tables: the column that names a sample; key or __key__, or else the "
        "number of the row.",
        show_default=False,
        rich_help_panel=OF_SHARDS,
    ),
]
ImageColumn = Annotated[
    str,
    typer.Option(
        help="Of Parquet tables: the column of encoded images, as bytes or as Hugging Face "
        "datasets store them; image, jpg, png, webp or jpeg, if not given.",
        show_default=False,
        rich_help_panel=OF_SHARDS,
    ),
]
FlagBy = Annotated[
    str,
    typer.Option(
        help="The score that flags: `delta_s`, a name of --detectors, or `delta_s_NAME` against a "
        "--baseline, or `consensus`: the least of delta_s, wen and wen_5 beside their null scores. "
        "A calibration has null scores of those that it was made with.",
        rich_help_panel=OF_FLAGS,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Flag captions above this score instead of by calibration (below, where low is "
        "suspicious).",
        show_default=False,
        rich_help_panel=OF_FLAGS,
    ),
]
PixelThreshold = Annotated[
    float | None,
    typer.Option(
        help="Δh above which a pixel is in the mask, instead of by calibration.",
        show_default=False,
        rich_help_panel=OF_FLAGS,
    ),
]
MaskShare = Annotated[
    float | None,
    typer.Option(
        help="A pixel is in the mask above this share of its map's own level, 0 to 1, instead of "
        "by calibration; needs none. A calibration's own rule adds a floor to 0.3.",
        show_default=False,
        rich_help_panel=OF_FLAGS,
    ),
]
Localize = Annotated[
    str,
    typer.Option(help="Which captions get maps.", rich_help_panel=OF_MAPS, **one_of(LOCALIZE)),
]
Evidence = Annotated[
    bool,
    typer.Option(
        "--evidence/--no-evidence",
        help="Compare with the shards' images, where there are any.",
        rich_help_panel=OF_RUN,
    ),
]
OF_CONFIRMING = "Drawn again"
Confirm = Annotated[
    int,
    typer.Option(
        min=0, max=1000, show_default=False, rich_help_panel=OF_CONFIRMING,
        help="At the end, draw flagged captions so often under fresh seeds and compare with their "
        "images, as `memscan confirm` does; default not at all.",
    ),
]  # fmt: skip
AtMost = Annotated[
    int,
    typer.Option(
        min=1, rich_help_panel=OF_CONFIRMING,
        help="Draw so many flagged captions at most: those of the smallest p-values, then the "
        "highest Δs.",
    ),
]  # fmt: skip
MOST_CONFIRMED = 100
MAPS_DEFAULT = "default"
AUTO = "auto"
MOST_PROBES = 100_000
"""More would be more than a latent has entries."""


Preset = Annotated[
    str | None,
    typer.Option(
        help="Settings that belong together, in place of those that are not typed: `paper` as "
        "published, `balanced` and `fast` after fewer steps. docs/measurements.md says what each "
        "costs and finds.",
        show_default=False,
        rich_help_panel=OF_SCORES,
        **one_of(tuple(PRESETS)),
    ),
]


def scoring(
    preset: Preset = None,
    revision: Revision = None,
    baseline: Baseline = None,
    lora: Lora = None,
    weights: Weights = None,
    size: Size = None,
    dtype: Dtype = "float32",
    seeds: Seeds = 1,
    steps: Steps = STEPS,
    guidance_scale: Guidance = GUIDANCE_SCALE,
    source: Source = "generated",
    timestep: Timestep = TIMESTEP,
    noise: Noise = None,
    captions: Captions = True,
    map_back: MapBack = 0,
    probes: Probes = AUTO,
    probe_design: Design = "structured",
    target_error: TargetError = None,
    maps: Maps = MAPS_DEFAULT,
) -> None:
    """Declare the options that decide scores and maps."""


def columns(
    caption_column: CaptionColumn = "",
    key_column: KeyColumn = "",
    image_column: ImageColumn = "",
) -> None:
    """Declare the options of what is read of Parquet tables."""


def nulls(detectors: Detectors = "none", flag_by: FlagBy = "delta_s") -> None:
    """Declare the options of which scores there are, and which one flags."""


def flagging(
    localize: Localize = "flagged",
    calibration: CalibrationFile = None,
    image_calibration: ImageCalibration = None,
    fpr: Fpr = None,
    fdr: Fdr = None,
    threshold: Threshold = None,
    pixel_threshold: PixelThreshold = None,
    mask_share: MaskShare = None,
    p_values: PValues = "all",
    screen: UseScreen = False,
    screen_threshold: ScreenThreshold = None,
) -> None:
    """Declare the options that decide what is flagged and localized."""


def running(
    device: Device = "auto",
    actors: Actors = None,
    gpus_per_actor: GpusPerActor = 1,
    offload: Offload = "none",
    compile: Compile = False,
    address: Address = None,
    local: Local = False,
    batch_size: Batch = "auto",
    chunk_size: ChunkSize = "256",
    limit: Limit = None,
    events: Events = None,
) -> None:
    """Declare the options of how a scan runs, which change no number."""


def compared(evidence: Evidence = True) -> None:
    """Declare the option of what is compared with the training images."""


def confirming(confirm: Confirm = 0, confirm_at_most: AtMost = MOST_CONFIRMED) -> None:
    """Declare the options of what is drawn again."""


def takes(
    *sets: Callable[..., None], without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these sets, in place of its ``**asked``.

    An option's name, default, range and help so stand in one place. Options of the command's own
    come first.

    Args:
        sets: Functions whose parameters declare options.
        without: Options that the command has not.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = signature(command, eval_str=True).parameters
        merged = {name: p for name, p in own.items() if p.kind is not Parameter.VAR_KEYWORD}
        for declared in sets:
            theirs = signature(declared, eval_str=True).parameters
            merged |= {name: p for name, p in theirs.items() if name not in without}
        vars(command)["__signature__"] = Signature(
            [p.replace(kind=Parameter.KEYWORD_ONLY) for p in merged.values()]
        )
        return command

    return decorated


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
    return FPR if fpr is None else fpr, fdr


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
    return _names(
        text, lambda: existing(MAPS.values(), source, captions=captions),
        default=existing(registry.USUAL_MAPS, source),
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
    return _number_or_auto("--batch-size", text)


def chunk_size(text: str) -> int | None:
    """Return the samples per commit that were asked for; null for ``auto``.

    Raises:
        ConfigError: If it is neither a positive number nor ``auto``.
    """
    return _number_or_auto("--chunk-size", text)


def _number_or_auto(option: str, text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{option} must be auto or a positive number, got {text!r}")
    return int(text)


def refuse_consensus_alone(flag_by: str, *, is_calibrated: bool) -> None:
    """Refuse to flag by a consensus without a calibration, which it is a comparison with.

    Raises:
        ConfigError: If so.
    """
    if flag_by == CONSENSUS and not is_calibrated:
        raise ConfigError(
            f"--flag-by {CONSENSUS} compares scores with those of null captions: give a "
            f"--calibration that was made with --flag-by {CONSENSUS}"
        )


def probes(text: str) -> int:
    """Return the probes that were asked for; a spec's default for ``auto``.

    Raises:
        ConfigError: If it is neither a positive number nor ``auto``.
    """
    if text == AUTO:
        return ScanSpec().probes
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PROBES:
        raise ConfigError(f"--probes must be auto or from 1 to {MOST_PROBES}, got {text!r}")
    return int(text)


def check_device(device: str, dtype: str) -> None:
    """Refuse a device or a precision that there is not.

    Raises:
        ConfigError: If so.
    """
    precisions = (*DTYPES, AUTO)
    for name, value, known in (("device", device, DEVICES), ("dtype", dtype, precisions)):
        if value not in known:
            raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def model_of(name: str, revision: str | None) -> str:
    """Return a model as a job names it: a folder's absolute path, or a hub id with its revision.

    Raises:
        ConfigError: If a revision is asked of what is none of the hub.
    """
    from scanner.models.hub import at_revision

    return located(at_revision(name, revision))


def columns_of(asked: Mapping[str, Any]) -> Columns:
    """Return the columns of tables that `columns` asks for."""
    return Columns(asked["caption_column"], asked["key_column"], asked["image_column"])


def listed(shards: Sequence[str], asked: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses of shards, and say what was guessed where they are not plain tars.

    Args:
        shards: As they were given.
        asked: The options of `columns`.

    Raises:
        ConfigError: If they name nothing, or not clearly what is to be read.
    """
    from scanner.cli import progress
    from scanner.shards import reading

    notes = list[str]()
    with progress.waiting("listing shards"):
        found = tuple(reading.expand(shards, columns_of(asked), notes.append))
    for text in notes:
        progress.note(text)
    said = reading.described(found)
    is_plain = said == f"reading {len(found):,} tar" + "s" * (len(found) > 1)
    if not is_plain or any(Path(each).is_dir() for each in shards):
        progress.note(said)
    return found


def networks(baselines: Sequence[str] | None) -> tuple[str, ...]:
    """Return where less-trained networks lie; ``null``, the unconditional branch, is none."""
    return tuple(located_baseline(name) for name in baselines or () if name != "null")


def over_model(lora: list[str] | None, weights: str | None) -> dict[str, Any]:
    """Return LoRAs and weights as a job has them, with absolute paths.

    Raises:
        ConfigError: If a scale is no number, or a file is named twice.
    """
    from scanner.models.overlay import overlay

    found = overlay(lora or (), weights)
    loras = tuple(map(str, found.loras))
    return {"lora": loras, "weights": found.weights}

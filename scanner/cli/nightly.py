"""``audit`` and ``mute``."""

import json
import shlex
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanner.cli import options, progress, reports
from scanner.errors import ConfigError

if TYPE_CHECKING:
    from scanner.cli.live import Listener

StateFolder = Annotated[
    Path, typer.Option("--state", help="Folder that remembers the nights.", show_default=False)
]


def audit(
    corpus: options.Shards,
    model: options.Model,
    state: StateFolder,
    policy: Annotated[
        Path | None,
        typer.Option(help="TOML: severities and what raises the alarm.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="What `memscan calibrate` wrote.", show_default=False)
    ] = None,
    fpr: options.Fpr = None,
    fdr: options.Fdr = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Flag captions above this Δs instead of by calibration.", show_default=False
        ),
    ] = None,
    baseline: options.Baseline = "null",
    seeds: options.Seeds = 1,
    steps: options.Steps = 50,
    map_back: options.MapBack = 0,
    guidance_scale: options.Guidance = 7.5,
    probes: options.Probes = 16,
    probe_design: options.Design = "structured",
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence/--no-evidence", help="Compare with the shards' images, where there are any."
        ),
    ] = True,
    copies: reports.Copies = True,
    max_captions: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=False,
            help="Scan so many samples this night at most; the next night goes on.",
        ),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(help="Begin no further chunk after so long.", show_default=False),
    ] = None,
    no_images: reports.NoImages = False,
    redact_captions: reports.Redact = False,
    image_cap: reports.ImageCap = 48.0,
    batch_size: options.Batch = "auto",
    chunk_size: options.ChunkSize = 256,
    actors: options.Actors = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    address: options.Address = None,
    events: options.Events = None,
    as_json: options.Json = False,
) -> None:
    r"""Scan what is new in a corpus, compare with the last audit, raise the alarm.

    CORPUS is listed afresh every time: shards that are new or changed are scanned, the findings
    of removed ones are retired. STATE/audits/NUMBER-DATE then holds audit.json, report.html,
    summary.md, junit.xml, findings.sarif, removal.csv and removal.parquet.

    Exit codes: 0 clear, 1 new findings of the policy's severity, 2 cannot start (also while another
    audit is at work), 3 something is missing or nothing was ever scanned, 4 cluster lost, 5 clear
    as far as the budget reached, 130 interrupted.

    Example:
        memscan audit 'corpus/*.tar' --model CompVis/stable-diffusion-v1-4 \
            --calibration calibration.json --state audit-state
    """
    from scanner.audit import policy as policies
    from scanner.audit.report import PageOptions
    from scanner.calibration import load
    from scanner.engine.job import Job, Resources
    from scanner.io import shards
    from scanner.nightly.audit import Request
    from scanner.nightly.audit import audit as run_audit
    from scanner.nightly.state import State
    from scanner.spec import ScanSpec

    if calibration is None and threshold is None:
        raise ConfigError("an audit must flag something: give --calibration or --threshold")
    memory = State(state)
    at_fpr, at_fdr = options.rates(fpr, fdr)
    spec = ScanSpec(
        seeds=tuple(range(seeds)), steps=steps, map_back=map_back, guidance_scale=guidance_scale,
        probes=probes,
        probe_design=probe_design, dtype=dtype,
        threshold=threshold, fpr=at_fpr, fdr=at_fdr,
    )  # fmt: skip
    job = Job(
        model=options.located(model),
        baseline=options.network(baseline),
        shards=tuple(shards.expand(corpus)), results=str(memory.results.root), spec=spec,
        calibration=None if calibration is None else str(calibration.absolute()),
        images=evidence, batch_size=options.batch_size(batch_size),
        chunk_size=chunk_size,
    )  # fmt: skip
    page = PageOptions(
        images=None if no_images else shards.images,
        redact=redact_captions,
        image_cap=round(image_cap * 2**20),
        calibration=None if calibration is None else load(calibration),
    )
    request = Request(
        job=job,
        policy=policies.Policy() if policy is None else policies.load(policy),
        page=page,
        command=shlex.join(["memscan", *sys.argv[1:]]),
        copies=copies,
    )
    resources = Resources(
        actors=actors, device=device, address=address, most_samples=max_captions, hours=max_hours
    )
    with ExitStack() as shown:
        heard, told = _shown(shown, events)
        done = run_audit(memory, request, resources, heard, told=told)
    _report(done.folder, done.night.exit_code, as_json=as_json)


def mute(
    key_or_hash: Annotated[
        str,
        typer.Argument(
            help="A sample's key, or the start of a caption's hash.", show_default=False
        ),
    ],
    state: StateFolder,
    reason: Annotated[
        str, typer.Option("--reason", "-r", help="Why; it stays on record.", show_default=False)
    ] = "",
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="The last day of the mute; for ever by default.",
            show_default=False,
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let it raise alarms again.")] = False,
) -> None:
    r"""Keep a finding out of alarms; it stays in every report, marked as muted.

    A whole hash may be muted before it is ever found. A mute that runs out lets its finding
    alarm once more.

    Example:
        memscan mute 3f9a0c11 --state audit-state --reason "licensed stock photo"
    """
    from scanner.nightly.state import State

    if not reason.strip() and not undo:
        raise ConfigError("a mute must say why: give --reason")
    now = datetime.now(UTC)
    if until is not None and until.date() < now.date():
        raise ConfigError(f"--until must not be past, got {until:%Y-%m-%d}")
    memory = State(state)
    sha = _hash(memory, key_or_hash)
    if not undo:
        memory.mute(sha, reason.strip(), now, None if until is None else until.date())
        end = "" if until is None else f", up to {until:%Y-%m-%d}"
        typer.echo(f"muted {sha[:12]} from the next audit on{end}")
        return
    if not memory.unmute(sha):
        raise ConfigError(f"{sha[:12]} must be muted to be unmuted; it is not")
    typer.echo(f"{sha[:12]} raises alarms again from the next audit on")


def _hash(memory, key_or_hash: str) -> str:  # noqa: ANN001
    """Return a caption's hash: as given where it is whole, else from the last audit's run."""
    from contextlib import closing

    from scanner.audit.evidence import resolve
    from scanner.audit.query import connect

    wanted = key_or_hash.lower()
    if len(wanted) == 64 and set(wanted) <= set("0123456789abcdef"):
        return wanted
    if not memory.audits():
        raise ConfigError(
            f"no audit in {memory.root}: mute after the first one, or give the whole hash"
        )
    run, shards = memory.current()
    with closing(connect(memory.results, runs=[run], shards=shards)) as con:
        return resolve(con, key_or_hash)


def _shown(shown: ExitStack, events: Path | None) -> "tuple[Listener, progress.Meter]":
    """Return what shows a scan, and what closes that and shows the search for copies."""
    from scanner.cli.live import watching

    meters: list[progress.Meter] = []

    def told(done: int, total: int, word: str = "") -> None:
        if not meters:
            shown.close()
            meters.append(shown.enter_context(progress.meter("copies")))
        meters[0](done, total, word)

    return shown.enter_context(watching("audit", events)), told


def _report(folder: Path, code: int, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(json.loads((folder / "audit.json").read_text(encoding="utf-8"))))
    else:
        typer.echo((folder / "summary.md").read_text(encoding="utf-8"))
        typer.echo(str(folder))
    if code:
        raise typer.Exit(code)

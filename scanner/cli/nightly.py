"""``audit`` and ``mute``."""

import json
import shlex
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanner import files
from scanner.cli import options, progress, reports, scanning
from scanner.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from scanner.cli.live import Listener
    from scanner.engine.job import Job
    from scanner.nightly.formats import NightReport
    from scanner.nightly.state import AuditState
    from scanner.report.page import PageOptions

StateFolder = Annotated[
    str,
    typer.Option(
        "--state",
        help="What remembers the nights: a folder, or s3://BUCKET/PREFIX, gs://….",
        show_default=False,
    ),
]

MetricsFile = Annotated[
    Path | None,
    typer.Option(
        help="Write how the night ended for Prometheus: node exporter's textfile collector.",
        show_default=False,
    ),
]


@options.takes(
    options.columns, options.scoring, options.nulls, options.flagging, options.compared,
    options.running,
    without=("localize", "limit"),
)  # fmt: skip
def audit(
    context: typer.Context,
    corpus: options.Shards,
    model: options.Model,
    state: StateFolder,
    policy: Annotated[
        Path | None,
        typer.Option(help="TOML: severities and what raises the alarm.", show_default=False),
    ] = None,
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
    metrics_file: MetricsFile = None,
    no_images: reports.NoImages = False,
    redact_captions: reports.Redact = False,
    image_cap: reports.ImageCap = 48.0,
    as_json: options.Json = False,
    **asked: Any,
) -> None:
    r"""Scan what is new in a corpus, compare with the last audit, raise the alarm.

    CORPUS is listed afresh every time: shards that are new or changed are scanned, the findings
    of removed ones are retired. STATE/audits/NUMBER-DATE then holds audit.json, report.html,
    summary.md, junit.xml, findings.sarif and removal lists (removal.csv, removal.parquet and, for
    people, removal-spreadsheet.csv). What is scored, and
    how, is chosen as for `memscan scan`: --source image scores samples at their own images.

    Exit codes: 0 clear, 1 new findings of the policy's severity, 2 cannot start (also while another
    audit is at work), 3 something is missing or nothing was ever scanned, 4 cluster lost, 5 clear
    as far as the budget reached, 130 interrupted.

    Example:
        memscan audit 'corpus/*.tar' --model CompVis/stable-diffusion-v1-4 \
            --calibration calibration.json --state audit-state
    """
    from scanner.nightly import policy as policies
    from scanner.nightly.state import AuditState
    from scanner.signed import redacted

    if asked["calibration"] is None and asked["threshold"] is None:
        raise ConfigError("an audit must flag something: give --calibration or --threshold")
    scanning.check_results(state, "--state")
    memory = AuditState(state)
    scanning.check_events(asked["events"])
    asked |= {"localize": "flagged", "limit": None}
    if metrics_file is not None:
        files.check_file(metrics_file, "--metrics-file")
    from scanner.engine.job import Resources
    from scanner.nightly import metrics_file as metrics
    from scanner.nightly.audit import AuditRequest
    from scanner.nightly.audit import audit as run_audit

    out = str(memory.results.root)
    with metrics.reporting(metrics_file, memory.root) as finished, ExitStack() as shown:
        job = scanning.job_of(context, shards=corpus, model=model, out=out, must_flag=True, **asked)
        request = AuditRequest(
            job=job,
            policy=policies.Policy() if policy is None else policies.load(policy),
            page=_page(job, image_cap, images=not no_images, redact=redact_captions),
            command=shlex.join(["memscan", *map(redacted, sys.argv[1:])]),
            copies=copies and asked["evidence"],
        )
        resources = Resources(
            **{name: asked[name] for name in scanning.RESOURCES},
            most_samples=max_captions, hours=max_hours,
        )  # fmt: skip
        heard, told = _shown(shown, asked["events"])
        done = run_audit(memory, request, resources, heard, told=told)
        shown.close()
        try:
            finished(done.night)
        except OutputError as error:  # the night is published
            progress.note(str(error))
    _report(memory, done.folder, done.night, as_json=as_json)


def _page(job: "Job", image_cap: float, *, images: bool, redact: bool) -> "PageOptions":
    from scanner.report.page import PageOptions
    from scanner.shards import reading
    from scanner.statistics.calibration import load

    return PageOptions(
        images=reading.images if images else None,
        redact=redact,
        image_cap=round(image_cap * 2**20),
        calibration=None if job.calibration is None else load(job.calibration),
    )


def mute(
    key_or_hash: Annotated[
        str,
        typer.Argument(
            help="A sample's key, or the start of a finding's or a caption's hash.",
            show_default=False,
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

    A whole hash may be muted before it is ever found. Where images are scored, a finding is of
    one image; a caption's hash mutes all of its images. A mute that runs out lets its finding
    alarm once more.

    Example:
        memscan mute 3f9a0c11 --state audit-state --reason "licensed stock photo"
    """
    from scanner.nightly.state import AuditState

    if undo and (reason or until is not None):
        raise ConfigError("--undo ends a mute: it takes neither --reason nor --until")
    if not reason.strip() and not undo:
        raise ConfigError("a mute must say why: give --reason")
    now = datetime.now(UTC)
    if until is not None and until.date() < now.date():
        raise ConfigError(f"--until must not be past, got {until:%Y-%m-%d}")
    scanning.check_results(state, "--state")
    memory = AuditState(state)
    sha = _hash(memory, key_or_hash)
    if not undo:
        memory.mute(sha, reason.strip(), now, None if until is None else until.date())
        end = "" if until is None else f", up to {until:%Y-%m-%d}"
        progress.say(f"muted {sha[:12]} from the next audit on{end}")
        return
    if not memory.unmute(sha):
        raise ConfigError(f"{sha[:12]} must be muted to be unmuted; it is not")
    progress.say(f"{sha[:12]} raises alarms again from the next audit on")


def _hash(memory, key_or_hash: str) -> str:  # noqa: ANN001
    """Return a hash: as given where it is whole, else from the last audit's run."""
    from contextlib import closing

    from scanner.analysis.evidence import named
    from scanner.analysis.query import connect

    wanted = key_or_hash.lower()
    if len(wanted) == 64 and set(wanted) <= set("0123456789abcdef"):
        return wanted
    if not memory.audits():
        raise ConfigError(
            f"no audit in {memory.root}: mute after the first one, or give the whole hash"
        )
    run, shards = memory.current()
    with closing(connect(memory.results, runs=[run], shards=shards)) as con:
        return named(con, key_or_hash)


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


def _report(
    memory: "AuditState", folder: Path | str, night: "NightReport", *, as_json: bool
) -> None:
    record, summary = (
        memory.content(night.name, name).decode() for name in ("audit.json", "summary.md")
    )
    with suppress(BrokenPipeError):  # the exit code counts, whoever reads the text
        progress.say(json.dumps(json.loads(record)) if as_json else f"{summary}\n{folder}")
    if night.exit_code:
        raise typer.Exit(night.exit_code)

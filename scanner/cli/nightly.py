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
from scanner.cli import confirming, notifying, options, progress, reports, scanning
from scanner.cli.notices import Notices
from scanner.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from scanner.cli.live import Listener
    from scanner.engine.job import Job, Resources
    from scanner.nightly.audit import AuditResult
    from scanner.nightly.night import NightReport
    from scanner.nightly.policy import Policy
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
    options.confirming, options.running, notifying.notices,
    without=("localize", "limit"),
)  # fmt: skip
def audit(
    context: typer.Context,
    corpus: options.Shards,
    model: options.Model,
    state: StateFolder,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="TOML: severities, what raises the alarm and of what people are told.",
            show_default=False,
        ),
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
    audit.pdf, summary.md, junit.xml, findings.sarif and removal lists (removal.csv,
    removal.parquet and, for people, removal-spreadsheet.csv). What is scored, and how, is chosen
    as for `memscan scan`: --source image scores samples at their own images.
    --confirm draws what is flagged again; the policy's rules may ask for its level.
    --notify and --webhook tell people and programs; that they cannot be told changes no exit code.

    Exit codes: 0 clear, 1 new findings of the policy's severity, 2 cannot start (also while another
    audit is at work), 3 something is missing or nothing was ever scanned, 4 cluster lost, 5 clear
    as far as the budget reached, 130 interrupted.

    Example:
        memscan audit 'corpus/*.tar' --model CompVis/stable-diffusion-v1-4 \
            --calibration calibration.json --state audit-state
    """
    from scanner.nightly import policy as policies
    from scanner.nightly.state import AuditState

    if asked["calibration"] is None and asked["threshold"] is None:
        raise ConfigError("an audit must flag something: give --calibration or --threshold")
    scanning.check_results(state, "--state")
    memory = AuditState(state)
    scanning.check_events(asked["events"])
    asked |= {"localize": "flagged", "limit": None}
    if metrics_file is not None:
        files.check_file(metrics_file, "--metrics-file")
    rules = policies.Policy() if policy is None else policies.load(policy)
    told = Notices("audit", memory.root, asked, rules.notify, memory.store)
    from scanner.nightly import metrics_file as metrics

    with (
        told.around(lambda: memory.next_name(datetime.now(UTC))),
        metrics.reporting(metrics_file, memory.root) as finished,
    ):
        out = str(memory.results.root)
        job = scanning.job_of(context, shards=corpus, model=model, out=out, must_flag=True, **asked)
        confirming.check(job, asked["confirm"])
        page = _page(job, image_cap, images=not no_images, redact=redact_captions)
        resources = _resources(asked, max_captions, max_hours)
        told.started(job)
        with ExitStack() as shown:
            done = _night(memory, job, rules, page, resources, shown, told, asked, copies=copies)
        try:
            finished(done.night)
        except OutputError as error:  # the night is published
            progress.note(str(error))
        told.night(memory, done, redact=redact_captions)
    _report(memory, done.folder, done.night, as_json=as_json)


def _resources(
    asked: dict[str, Any], max_captions: int | None, max_hours: float | None
) -> "Resources":
    from scanner.engine.job import Resources

    given = {name: asked[name] for name in scanning.RESOURCES}
    return Resources(**given, most_samples=max_captions, hours=max_hours)


def _night(
    memory: "AuditState", job: "Job", rules: "Policy", page: "PageOptions",
    resources: "Resources", shown: ExitStack, told: Notices, asked: dict[str, Any], *,
    copies: bool,
) -> "AuditResult":  # fmt: skip
    """Audit, and show it."""
    from scanner.nightly.audit import AuditRequest
    from scanner.nightly.audit import audit as run_audit
    from scanner.signed import redacted

    request = AuditRequest(
        job=job, policy=rules, page=page,
        command=shlex.join(["memscan", *map(redacted, sys.argv[1:])]),
        copies=copies and asked["evidence"],
    )  # fmt: skip
    heard, far = _shown(shown, asked["events"])

    def confirm(run: str, shards: frozenset[str]) -> str:
        shown.close()
        return confirming.of_night(memory.results, run, asked, shards)

    more: dict[str, Any] = {"confirm": confirm} if asked["confirm"] else {}
    return run_audit(memory, request, resources, told.hearing(heard), told=far, **more)


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
    from scanner.nightly import muting
    from scanner.nightly.state import AuditState

    if undo and (reason or until is not None):
        raise ConfigError("--undo ends a mute: it takes neither --reason nor --until")
    last = None if until is None else until.date()
    if not undo:
        muting.check(reason, last)
    scanning.check_results(state, "--state")
    memory = AuditState(state)
    sha = _hash(memory, key_or_hash)
    if not undo:
        muting.mute(memory, sha, reason, last)
        end = "" if until is None else f", up to {until:%Y-%m-%d}"
        progress.say(f"muted {sha[:12]} from the next audit on{end}")
        return
    muting.unmute(memory, sha)
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
    summary += f"\nfiles   {folder}\nreport  {folder}/report.html"
    with suppress(BrokenPipeError):  # the exit code counts, whoever reads the text
        # The same JSON, without what GitHub takes for a command wherever it stands in a log.
        text = json.dumps(json.loads(record)).replace("##[", "##\\u005b")
        progress.say(text if as_json else summary)
    if night.exit_code:
        raise typer.Exit(night.exit_code)

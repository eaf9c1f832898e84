"""``submit`` and ``jobs``: commands on a Ray cluster through its Jobs API."""

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanner.cli import progress, submit_check
from scanner.cli.application import App
from scanner.cli.options import Json
from scanner.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from scanner.submit.job_info import JobInfo
    from scanner.submit.jobs import JobClient

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

app = App(help="The jobs that `memscan submit` sent to a cluster.", no_args_is_help=True)

Address = Annotated[
    str,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS", help="The dashboard of the cluster's head, which has "
        "the Jobs API.",
    ),
]  # fmt: skip
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", help="NAME=VALUE to send along, for a proxy; may be repeated.",
                 show_default=False),
]  # fmt: skip
CaFile = Annotated[
    str | None,
    typer.Option(help="Certificates to trust, for an https:// head.", show_default=False),
]
Verify = Annotated[
    bool, typer.Option("--verify/--no-verify", help="Check the certificate of an https:// head.")
]
JobId = Annotated[str, typer.Argument(help="As `memscan jobs list` shows it.", show_default=False)]
LOCAL = "http://127.0.0.1:8265"


def submit(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(help="Behind `--`: what would follow `memscan`.", show_default=False),
    ],
    address: Address = LOCAL,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the job's id and leave it alone.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="What to call the job.", show_default=False)
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE to keep with the job; may be repeated.", show_default=False),
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            help="A folder to send along (configuration, a calibration; Ray takes 500 MiB at "
            "most): relative paths of the command start there.",
            show_default=False,
        ),
    ] = None,
    runtime_env: Annotated[
        Path | None,
        typer.Option(
            help="YAML or JSON with Ray's runtime environment: pip, env_vars …", show_default=False
        ),
    ] = None,
    installed: Annotated[
        bool,
        typer.Option("--installed", help="Run the memscan of the cluster's image, send none."),
    ] = False,
    python: Annotated[
        str, typer.Option(help="The interpreter on the cluster, where memscan's libraries are.")
    ] = "python",
    num_cpus: Annotated[
        float | None,
        typer.Option(
            "--entrypoint-num-cpus", min=0, show_default=False,
            help="CPUs for the command itself; with nothing reserved it runs on the head node.",
        ),
    ] = None,
    num_gpus: Annotated[
        float | None,
        typer.Option("--entrypoint-num-gpus", min=0, help="GPUs for the same.", show_default=False),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option("--entrypoint-memory", min=0, help="Bytes for the same.", show_default=False),
    ] = None,
    headers: Headers = None,
    ca_file: CaFile = None,
    verify: Verify = True,
) -> None:  # fmt: skip
    r"""Run a memscan command on a Ray cluster: send it, follow its log, exit as it does.

    This memscan is sent along, unless --installed; the libraries (torch, diffusers, ray …) must
    be in the cluster's image. The command is checked here first. A token for the cluster is
    looked up where Ray looks: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token.

    Ctrl-C stops following, not the job: `memscan jobs stop` does that. Exit codes: the command's
    own; 130 if the job was stopped; 4 if the cluster lost it.

    Example:
        memscan submit --address http://head:8265 -- scan s3://laion/{00000..00041}.tar \
            --model CompVis/stable-diffusion-v1-4 --out s3://audits/results
    """
    from scanner.submit.submission import Submission
    from scanner.submit.submission import runtime_env as environment_of

    submit_check.check(context.find_root(), command, working_dir)
    env = {} if runtime_env is None else environment_of(runtime_env)
    if working_dir is not None and "working_dir" in env:
        raise ConfigError(
            f"--working-dir and the working_dir of {runtime_env} exclude each other: give one"
        )
    what = Submission(
        arguments=tuple(command), python=python, include_package=not installed,
        working_dir=None if working_dir is None else str(working_dir.absolute()),
        runtime_env=env,
        name=name, metadata=_pairs("--metadata", metadata),
        cpus=num_cpus, gpus=num_gpus, memory=memory,
    )  # fmt: skip
    jobs = _jobs(address, headers, ca_file, verify=verify)
    job = jobs.submit(what)
    if detach:
        progress.note(f"job {job} is on its way: memscan jobs logs {job} --follow")
        progress.say(job)
        return
    progress.note(f"job {job}; Ctrl-C stops following, memscan jobs stop {job} stops it")
    _follow(jobs, job)


@app.command("list")
def list_jobs(
    address: Address = LOCAL,
    headers: Headers = None,
    ca_file: CaFile = None,
    verify: Verify = True,
    as_json: Json = False,
) -> None:
    r"""List the jobs that were submitted to a cluster, the newest first.

    Example:
        memscan jobs list --address http://head:8265
    """
    from scanner.text import aligned, printable

    every = _jobs(address, headers, ca_file, verify=verify).list()
    if as_json:
        progress.say(json.dumps([asdict(sent) for sent in every]))
        return
    rows = [
        [
            sent.id, printable(sent.name), sent.status,
            "" if sent.exit_code is None else sent.exit_code,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(sent.started)),
            f"{sent.seconds:.0f} s", printable(sent.command),
        ]
        for sent in every
    ]  # fmt: skip
    progress.say(aligned(["job", "name", "status", "exit", "started", "for", "command"], rows))


@app.command()
def logs(
    job: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends, and exit as it does.")
    ] = False,
    address: Address = LOCAL,
    headers: Headers = None,
    ca_file: CaFile = None,
    verify: Verify = True,
) -> None:
    r"""Print what a job has printed.

    Example:
        memscan jobs logs raysubmit_Xe7cvjyGJCyuCvm2 --follow
    """
    jobs = _jobs(address, headers, ca_file, verify=verify)
    if follow:
        _follow(jobs, job)
    _print(jobs.logs(job))


@app.command()
def stop(
    job: JobId,
    address: Address = LOCAL,
    headers: Headers = None,
    ca_file: CaFile = None,
    verify: Verify = True,
    as_json: Json = False,
) -> None:
    r"""Stop a job; a scan commits nothing further and can be resumed.

    Example:
        memscan jobs stop raysubmit_Xe7cvjyGJCyuCvm2
    """
    sent = _jobs(address, headers, ca_file, verify=verify).stop(job)
    progress.say(json.dumps(asdict(sent)) if as_json else f"{sent.id}: {sent.status}")


def _jobs(
    address: str, headers: Sequence[str] | None, ca_file: str | None, *, verify: bool
) -> "JobClient":
    from scanner.submit.head import HeadAddress
    from scanner.submit.jobs import JobClient

    pairs = _pairs("--header", headers)
    return JobClient(HeadAddress(address=address, headers=pairs, ca_file=ca_file, verify=verify))


def _follow(jobs: "JobClient", job: str) -> None:
    """Print a job's log until it ends, and exit as it did."""
    try:
        sent = jobs.follow(job, _print)
    except KeyboardInterrupt:
        progress.note(
            f"job {job} goes on: memscan jobs logs {job} --follow, or memscan jobs stop {job}"
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    progress.note(_end(sent))
    raise typer.Exit(sent.exit_code or ExitCode.OK)


def _end(sent: "JobInfo") -> str:
    is_rays = sent.status == "FAILED" and "failed with exit code" not in sent.message
    return f"job {sent.id}: {sent.status}, exit code {sent.exit_code}" + (
        f": {sent.message}" if is_rays else ""
    )


def _print(text: str) -> None:
    if sys.stdout.isatty():
        from scanner.text import visible

        text = visible(_COLOUR.sub("", text), keep="\n\t")
    sys.stdout.write(text)
    sys.stdout.flush()


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Return what ``NAME=VALUE`` options say.

    Raises:
        ConfigError: If one has no equals sign.
    """
    found = dict[str, str]()
    for text in texts or ():
        name, is_pair, value = text.partition("=")
        if not is_pair or not name:
            raise ConfigError(f"{option} must be NAME=VALUE, got {text!r}")
        found[name] = value
    return found

"""Commands sent to a Ray cluster through its Jobs API: submitted, followed, listed, stopped."""

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import requests
import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient, JobType

import scanner
from scanner.errors import ClusterError, ConfigError, ExitCode, ScannerError
from scanner.signed import has_user, redacted

NAME = "job_name"
"""Ray's own metadata key for what a job is called."""
STOP_SECONDS = 60
"""Seconds that a stopped command may take to mark its run interrupted. Ray's default is 3."""
RETRY_SECONDS = 120.0
"""Seconds that a head may be silent before following is given up."""
AGENT_SECONDS = 60.0
"""Seconds that a head may take after its start until it can run a job."""
SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAddress:
    """Address of a Jobs API, and the settings for requests to it.

    Attributes:
        address: Such as ``http://head:8265``.
        headers: Sent with every request, for a proxy that asks for some.
        ca_file: Certificates to trust, for a head behind TLS; null takes the system's.
        verify: Whether its certificate is checked at all.
    """

    address: str
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        """Refuse what is not a Jobs API.

        Raises:
            ConfigError: If the address is not one of a web server, or the file is not there.
        """
        if has_user(self.address):
            raise ConfigError(
                f"{redacted(self.address)} was given with a user or a password, which would be in "
                f"logs: give them as --header Authorization='Basic ...'"
            )
        if not self.address.startswith(("http://", "https://")):
            raise ConfigError(
                f"jobs are sent to the dashboard of a Ray head, such as http://head:8265, got "
                f"{self.address!r}"
            )
        if self.ca_file is not None and not Path(self.ca_file).exists():
            raise ConfigError(f"the certificates {self.ca_file} do not exist")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A command for the cluster.

    Attributes:
        arguments: The command line after ``memscan``.
        python: The interpreter that runs it there.
        include_package: Whether this memscan is uploaded; else the cluster's own is run.
        working_dir: A folder that is packaged and becomes the command's current one, or null.
        runtime_env: Ray's further settings: ``pip``, ``env_vars`` and so on.
        name: What the job is called.
        metadata: What else is kept with it.
        cpus: CPUs reserved for the command itself, beside its workers. With nothing reserved it
            runs on the head node.
        gpus: GPUs reserved for the command itself.
        memory: Memory reserved for the command itself, in bytes.
    """

    arguments: tuple[str, ...]
    python: str = "python"
    include_package: bool = True
    working_dir: str | None = None
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    cpus: float | None = None
    gpus: float | None = None
    memory: int | None = None

    def entrypoint(self) -> str:
        """Return the shell command."""
        return shlex.join([self.python, "-m", "scanner", *self.arguments])

    def environment(self) -> dict[str, Any]:
        """Return the runtime environment: the given one, with what memscan adds."""
        env = dict(self.runtime_env)
        stop = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        env["env_vars"] = stop | dict(env.get("env_vars") or {})
        if self.working_dir is not None:
            env["working_dir"] = self.working_dir
        if self.include_package:
            env["py_modules"] = [*(env.get("py_modules") or []), str(Path(scanner.__path__[0]))]
            env["excludes"] = [*(env.get("excludes") or []), "__pycache__"]
        return env


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as the cluster knows it.

    Attributes:
        id: Its submission id.
        name: What it is called, or ``""``.
        status: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
        exit_code: The command's own exit code, 130 if it was stopped, null while it runs.
        started: Seconds since 1970, UTC.
        seconds: How long it has run.
        command: What runs.
        metadata: What was given with it.
        message: What Ray says of its end.
    """

    id: str
    name: str
    status: str
    exit_code: int | None
    started: float
    seconds: float
    command: str
    metadata: dict[str, str]
    message: str


class JobClient:
    """The jobs of one cluster.

    A token is sent if there is one: ``RAY_AUTH_TOKEN``, the file that ``RAY_AUTH_TOKEN_PATH``
    names, or ``~/.ray/auth_token``.

    Args:
        head: The cluster.

    Raises:
        ConfigError: If the cluster refuses the token, or asks for one and there is none.
        ClusterError: If nothing answers at the address.
    """

    def __init__(self, head: HeadAddress) -> None:
        self._head = head
        headers, self._token_of = dict(head.headers), "--header"
        if not any(name.lower() == "authorization" for name in headers):
            found, self._token_of = token()
            if found:
                headers["Authorization"] = f"Bearer {found}"
        verify = head.verify if head.ca_file is None else head.ca_file
        with self._answering(), _address_wins(head.address), _quiet():
            self._client = JobSubmissionClient(head.address, headers=headers, verify=verify)
            self._client.list_jobs()  # the version needs no token; this request does

    @property
    def ray_version(self) -> str:
        """The cluster's Ray, ``""`` if it does not say."""
        return getattr(self._client, "_server_ray_version", None) or ""

    def is_open(self) -> bool:
        """Whether the cluster takes jobs from anyone who reaches it, without a token."""
        address = f"{self._head.address.rstrip('/')}/api/jobs/"
        verify = self._head.verify if self._head.ca_file is None else self._head.ca_file
        with self._answering():
            return requests.get(address, verify=verify, timeout=30).status_code == 200

    def submit(self, what: Submission) -> str:
        """Package, send, and return the job's id; wait for a head that has just started."""
        until = time.monotonic() + AGENT_SECONDS
        while True:
            try:
                return self._submit(what)
            except _NoAgentError:
                if time.monotonic() > until:
                    raise
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _submit(self, what: Submission) -> str:
        metadata = dict(what.metadata) | {"memscan": scanner.__version__}
        if what.name is not None:
            metadata[NAME] = what.name
        with self._answering(), _quiet():
            return self._client.submit_job(
                entrypoint=what.entrypoint(),
                runtime_env=what.environment(),
                metadata=metadata,
                entrypoint_num_cpus=what.cpus,
                entrypoint_num_gpus=what.gpus,
                entrypoint_memory=what.memory,
            )

    def get(self, job: str) -> JobInfo:
        """Return one job.

        Raises:
            ConfigError: If the cluster has none of that id.
            ClusterError: If the cluster does not answer.
        """
        with self._answering(job):
            return _sent(self._client.get_job_info(job))

    def list(self) -> list[JobInfo]:
        """Return the jobs that were submitted, the newest first."""
        with self._answering():
            every = self._client.list_jobs()
        found = [_sent(job) for job in every if job.type == JobType.SUBMISSION]
        return sorted(found, key=lambda sent: sent.started, reverse=True)

    def logs(self, job: str) -> str:
        """Return all that a job has printed."""
        with self._answering(job):
            return self._client.get_job_logs(job)

    def follow(self, job: str, write: Callable[[str], None]) -> JobInfo:
        """Hand on what a job prints, as it prints it, until it ends; return it.

        A connection that breaks is made again, and nothing is handed on twice.

        Args:
            job: Its id.
            write: Called with every piece of the log.

        Raises:
            ConfigError: If the cluster has no job of that id.
            ClusterError: If the cluster stays silent for two minutes.
        """
        self.get(job)
        tail = _Tail(self._client, job, write)
        silent_since: float | None = None
        while True:
            try:
                with _quiet():
                    is_whole = asyncio.run(tail.read())
                if not is_whole:
                    tail.catch_up(self.logs(job))
                sent = self.get(job)
            except ScannerError as error:
                silent_since = silent_since or time.monotonic()
                is_gone = isinstance(error, ConfigError)
                if is_gone or time.monotonic() - silent_since > RETRY_SECONDS:
                    raise ClusterError(
                        f"job {job} was lost from sight ({error}); if it still runs, follow it "
                        f"with memscan jobs logs {job} --follow"
                    ) from error
            else:
                if sent.exit_code is not None:
                    tail.catch_up(self.logs(job))
                    return sent
                silent_since = None
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def stop(self, job: str) -> JobInfo:
        """Ask a job to stop, wait until it has, and return it."""
        self.get(job)
        with self._answering(job):
            self._client.stop_job(job)
        patience = time.monotonic() + STOP_SECONDS + 10
        while (sent := self.get(job)).exit_code is None and time.monotonic() < patience:
            time.sleep(0.5)
        return sent

    @contextmanager
    def _answering(self, job: str | None = None) -> Iterator[None]:
        """Say in our own words what is wrong with a request."""
        where = self._head.address
        try:
            yield
        except AuthenticationError as error:
            if not self._token_of or "Authentication required" in str(error):
                raise ConfigError(
                    f"the cluster at {where} asks for a token: set RAY_AUTH_TOKEN, or "
                    f"RAY_AUTH_TOKEN_PATH to a file that holds it"
                ) from error
            raise ConfigError(
                f"the cluster at {where} refuses the token of {self._token_of}: set "
                f"RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds the right one"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            text = str(error)
            if job is not None and "status code 404" in text:
                raise ConfigError(
                    f"no job {job} at {where}: memscan jobs list shows those that there are"
                ) from error
            if "status code 4" in text or isinstance(error, ValueError):
                raise ConfigError(f"the cluster at {where} refuses: {text}") from error
            if "No available agent" in text:
                raise _NoAgentError(
                    f"the head at {where} answers and cannot start a job: Ray's agent is not "
                    f"running there; see dashboard_agent.log in its session, and whether its port "
                    f"(--dashboard-agent-listen-port, 52365) is taken"
                ) from error
            raise ClusterError(
                f"no Jobs API answers at {where} ({_origin(error)}): is this the head's dashboard "
                f"port (8265), and may this machine reach it?"
            ) from error


class _NoAgentError(ClusterError):
    """The head answers, and has no process yet that runs jobs."""


class _Tail:
    """A job's log, read through connections that may break."""

    def __init__(self, client: JobSubmissionClient, job: str, write: Callable[[str], None]) -> None:
        self._client, self._job, self._write, self._written = client, job, write, 0

    async def read(self) -> bool:
        """Hand on what is new, until the log or the connection ends; return which it was."""
        place = 0
        try:
            async for text in self._client.tail_job_logs(self._job):
                self._hand_on(place, text)
                place += len(text)
        except (OSError, RuntimeError, aiohttp.ClientError):
            return False
        return True

    def catch_up(self, log: str) -> None:
        """Hand on what is new in the whole log."""
        self._hand_on(0, log)

    def _hand_on(self, place: int, text: str) -> None:
        new = text[max(0, self._written - place) :]
        if new:
            self._write(new)
            self._written = place + len(text)


def token() -> tuple[str, str]:
    """Return the token for clusters that ask for one, and where it is from; looks where Ray looks.

    Raises:
        ConfigError: If a file that should hold it cannot be read.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return "", ""
    if given := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return given, "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if not named and not path.exists():
        return "", ""
    try:
        return path.read_text(encoding="utf-8").strip(), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token in {path} cannot be read: {error}") from error


def runtime_env(path: Path) -> dict[str, Any]:
    """Return a runtime environment from a YAML or JSON file.

    Raises:
        ConfigError: If it cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the runtime environment {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"the runtime environment {path} must be a mapping, such as pip: [...]")
    return content


def _sent(job: JobDetails) -> JobInfo:
    start, end = (job.start_time or 0) / 1000, (job.end_time or 0) / 1000
    metadata = dict(job.metadata or {})
    return JobInfo(
        id=job.submission_id or "",
        name=metadata.get(NAME, ""),
        status=job.status.value,
        exit_code=_exit_code(job),
        started=start,
        seconds=(end or time.time()) - start,
        command=redacted(job.entrypoint),
        metadata=metadata,
        message=job.message or "",
    )


def _exit_code(job: JobDetails) -> int | None:
    """Return the command's own code, 130 for one that was stopped, and ours for Ray's failures."""
    if not job.status.is_terminal():
        return None
    if job.status == JobStatus.STOPPED:
        return ExitCode.INTERRUPTED
    if job.driver_exit_code is not None:
        code = job.driver_exit_code
        return code if code >= 0 else 128 - code
    if job.status == JobStatus.SUCCEEDED:
        return ExitCode.OK
    is_ours = "RUNTIME_ENV" in (job.error_type or "")
    return ExitCode.REFUSED if is_ours else ExitCode.LOST


def _origin(error: BaseException) -> str:
    """Return the first line of the error that was at the bottom of it, fit for a terminal."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    line = (str(error).strip().splitlines() or [""])[0]
    return line if line.isprintable() and line else type(error).__name__


@contextmanager
def _address_wins(address: str) -> Iterator[None]:
    """Let the address count: to Ray's client, two variables count more than its argument."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's client from logging; what matters comes as an exception."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)

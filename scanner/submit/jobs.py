"""Commands sent to a Ray cluster through its Jobs API: submitted, followed, listed, stopped."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient, JobType

import scanner
from scanner.errors import ClusterError, ConfigError, ScannerError
from scanner.submit.head import HeadAddress, token
from scanner.submit.job_info import JOB_NAME_KEY, JobInfo, info_of
from scanner.submit.log_tail import LogTail
from scanner.submit.submission import STOP_SECONDS, Submission

RETRY_SECONDS = 120.0
"""Seconds that a head may be silent before following is given up."""
AGENT_SECONDS = 60.0
"""Seconds that a head may take after its start until it can run a job."""
SECONDS_BETWEEN_LOOKS = 1.0


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
        with self._answering(), _address_over_environment(head.address), _quiet():
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
        """Package, send, and return the job's id; wait for a head that has just started.

        Raises:
            _NoAgentError: If no agent answers in time.
        """
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
            metadata[JOB_NAME_KEY] = what.name
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
            return info_of(self._client.get_job_info(job))

    def list(self) -> list[JobInfo]:
        """Return the jobs that were submitted, the newest first."""
        with self._answering():
            every = self._client.list_jobs()
        found = [info_of(job) for job in every if job.type == JobType.SUBMISSION]
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
        tail = LogTail(self._client, job, write)
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
        """Say in our own words what is wrong with a request.

        Raises:
            ClusterError: If the cluster does not answer, or fails.
            ConfigError: If it refuses the request.
            _NoAgentError: If its agent is not there yet.
        """
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


def _origin(error: BaseException) -> str:
    """Return the first line of the error that was at the bottom of it, fit for a terminal."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    line = (str(error).strip().splitlines() or [""])[0]
    return line if line.isprintable() and line else type(error).__name__


@contextmanager
def _address_over_environment(address: str) -> Iterator[None]:
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

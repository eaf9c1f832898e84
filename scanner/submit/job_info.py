"""A job as a cluster knows it, with the exit code of its command."""

import time
from dataclasses import dataclass

from ray.job_submission import JobDetails, JobStatus

from scanner.errors import ExitCode
from scanner.signed import redacted

JOB_NAME_KEY = "job_name"
"""Ray's own metadata key for what a job is called."""


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


def info_of(job: JobDetails) -> JobInfo:
    """Return a job as Ray describes it."""
    start, end = (job.start_time or 0) / 1000, (job.end_time or 0) / 1000
    metadata = dict(job.metadata or {})
    return JobInfo(
        id=job.submission_id or "",
        name=metadata.get(JOB_NAME_KEY, ""),
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

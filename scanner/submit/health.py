"""Checks that a cluster's Jobs API answers, and that it asks for a token."""

import ray

from scanner.submit.head import HeadAddress
from scanner.submit.jobs import JobClient


def jobs_api(address: str) -> tuple[str, str]:
    """Return what a Jobs API says of itself, and what is to be done about it, or ``""``.

    Raises:
        ConfigError: If it refuses the token.
        ClusterError: If nothing answers.
    """
    jobs = JobClient(HeadAddress(address=address))
    fix = ""
    if jobs.ray_version != ray.__version__:
        fix = f"this machine has Ray {ray.__version__}: install the cluster's, to join it as well"
    if jobs.is_open():
        fix = "it runs anyone's code: start it with RAY_AUTH_MODE=token, and let few reach it"
    return f"Ray {jobs.ray_version}, answers {address}", fix

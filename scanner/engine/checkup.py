"""Whether Ray works here, or a cluster can be joined."""

import platform

import ray

from scanner.engine.cluster import cluster
from scanner.engine.submission import Head, Jobs


def _where() -> tuple[str, str]:
    return platform.node(), ray.__version__


def ray_works(address: str | None) -> str:
    """Run a task on a local Ray, or on the cluster at an address; return what there is.

    Raises:
        ClusterError: If Ray does not start, or nothing answers.
    """
    with cluster(address):
        node, version = ray.get(ray.remote(_where).options(num_cpus=0).remote())
        have = ray.cluster_resources()
        nodes = sum(1 for each in ray.nodes() if each["Alive"])
    return (
        f"{version}, a task ran on {node}; {nodes} nodes, {have.get('CPU', 0):g} CPUs, "
        f"{have.get('GPU', 0):g} GPUs"
    )


def jobs_api(address: str) -> tuple[str, str]:
    """Return what a Jobs API says of itself, and what is to be done about it, or ``""``.

    Raises:
        ConfigError: If it refuses the token.
        ClusterError: If nothing answers.
    """
    jobs = Jobs(Head(address=address))
    fix = ""
    if jobs.ray_version != ray.__version__:
        fix = f"this machine has Ray {ray.__version__}: install the cluster's, to join it as well"
    if jobs.is_open():
        fix = "it runs anyone's code: start it with RAY_AUTH_MODE=token, and let few reach it"
    return f"Ray {jobs.ray_version}, answers {address}", fix

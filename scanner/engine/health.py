"""Checks that Ray starts here, or that a cluster can be joined."""

import ipaddress
import platform

import grpc
import ray

from scanner.engine.cluster import cluster


def _node_and_ray_version() -> tuple[str, str]:
    return platform.node(), ray.__version__


def ray_works(address: str | None) -> tuple[str, str]:
    """Run a task on a local Ray, or on the cluster at an address.

    Returns:
        What there is, and what is to be done about it, or ``""``.

    Raises:
        ClusterError: If Ray does not start, or nothing answers.
    """
    with cluster(address):
        node, version = ray.get(ray.remote(_node_and_ray_version).options(num_cpus=0).remote())
        have = ray.cluster_resources()
        nodes = sum(1 for each in ray.nodes() if each["Alive"])
        gcs = ray.get_runtime_context().gcs_address
        is_open = open_to(gcs)
    found = (
        f"{version}, a task ran on {node}; {nodes} nodes, {have.get('CPU', 0):g} CPUs, "
        f"{have.get('GPU', 0):g} GPUs; listens at {gcs}"
    )
    if is_open is None:
        return f"{found}, which does not answer here", ""
    if not is_open:
        return f"{found}, asks for a token", ""
    who = "every user of this machine" if is_loopback(gcs) else f"whoever reaches {gcs}"
    fix = (
        f"it runs the code of {who}: start every node with RAY_AUTH_MODE=token and the same "
        f"RAY_AUTH_TOKEN, and let few reach it"
    )
    return f"{found}, asks for no token", fix


def open_to(address: str) -> bool | None:
    """Return whether the GCS at an address serves a stranger; null if it does not answer."""
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=10)
        except grpc.RpcError as error:
            is_refused = error.code() is grpc.StatusCode.UNAUTHENTICATED
            return False if is_refused else None
    return True


def is_loopback(address: str) -> bool:
    """Return whether a ``host:port`` is reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

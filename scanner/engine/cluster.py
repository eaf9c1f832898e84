"""A Ray to run on: a quiet local one, or one that is there already."""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import ray

from scanner.engine import heartbeat
from scanner.engine.authentication import authenticated, read_again
from scanner.errors import ClusterError

OBJECT_STORE_BYTES = 100 * 2**20
"""Small, because only descriptors and counts travel."""
LOCAL_STARTS = 3
"""A local Ray gives up after 30 s, which a busy machine can exceed."""
STOP_SECONDS = 60.0
"""Seconds that Ray may take to stop."""


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Provide Ray for a while; inside, every scan shares it.

    Where Ray runs already, that one is used and left running. Otherwise a cluster is joined, or
    a local one started, and left or stopped at the end. A local one asks for a token of its own
    and listens on the loopback alone. The cluster is watched: see `scanner.engine.heartbeat`.

    Args:
        address: Of a cluster to join; null starts a local Ray, unless ``RAY_ADDRESS`` names one.

    Raises:
        ClusterError: If there is no cluster at the address, or Ray does not start.
        ClusterLostError: If the cluster goes away and the main thread can still say so. This
            process can use no other Ray after that.
    """
    if ray.is_initialized():
        with heartbeat.watched(last_act=None):
            yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    is_local = address in (None, "local")
    with authenticated() if is_local else nullcontext():
        _start(None if is_local else address)
        clean = _kill_local if is_local else _leave
        with _quiet(), heartbeat.watched(clean) as seen:
            try:
                yield
            finally:
                seen.stop()
                with heartbeat.bounded(STOP_SECONDS, str(heartbeat.lost("it did not stop"))):
                    (clean if seen.is_lost else ray.shutdown)()
                seen.check()  # Ray's exit handlers would wait for it: no other end will do


def _leave() -> None:
    """Do nothing: a cluster that is gone and that others started is theirs to stop."""


def _kill_local() -> None:
    """Kill the processes of the local Ray, which `ray.shutdown` does only if its GCS answers."""
    node = getattr(importlib.import_module("ray._private.worker"), "_global_node", None)
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Ray's messages about dead workers.

    No public setting does this: ``log_to_driver`` covers the output of workers only.
    """
    printer = importlib.import_module("ray._private.worker")
    before = getattr(printer, "_worker_logs_enabled", True)
    vars(printer)["_worker_logs_enabled"] = False
    try:
        yield
    finally:
        vars(printer)["_worker_logs_enabled"] = before


def _start(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    tries = 1 if address else LOCAL_STARTS
    for left in reversed(range(tries)):
        try:
            _init(address)
        except SystemExit as error:  # Ray's own answer to SIGTERM, from when it has connected
            raise KeyboardInterrupt from error
        except Exception as error:  # Ray raises the bare class when a local node starts too slowly
            ray.shutdown()
            if left == 0:
                did = (
                    f"the Ray cluster at {address} did not answer"
                    if address
                    else "Ray did not start"
                )
                raise ClusterError(f"{did}: {error}") from error
        else:
            return


def _init(address: str | None) -> None:
    if address:
        read_again()  # a local Ray that ran here before had a token of its own
        seconds = heartbeat.join_seconds()
        text = f"the Ray cluster at {address} did not answer within {seconds:g} s"
        with heartbeat.bounded(seconds, text):
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        return
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False,
        logging_level=logging.CRITICAL, object_store_memory=OBJECT_STORE_BYTES,
    )  # fmt: skip

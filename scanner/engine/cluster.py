"""A Ray to run on: a quiet local one, or one that is there already."""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from scanner.errors import ClusterError

OBJECT_STORE_BYTES = 100 * 2**20
"""Small, because only descriptors and counts travel."""
LOCAL_STARTS = 3
"""A local Ray gives up after 30 s, which a busy machine can exceed."""


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Provide Ray for a while; inside, every scan shares it.

    Where Ray runs already, that one is used and left running. Otherwise a cluster is joined, or
    a local one started, and left or stopped at the end.

    Args:
        address: Of a cluster to join; null starts a local Ray, unless ``RAY_ADDRESS`` names one.

    Raises:
        ClusterError: If there is no cluster at the address, or Ray does not start.
    """
    if ray.is_initialized():
        yield
        return
    _start(address or os.environ.get("RAY_ADDRESS"))
    try:
        with _quiet():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray from printing what it thinks of dead workers between the lines of a report.

    Nothing that is meant for users turns that off: ``log_to_driver`` covers the workers only.
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
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        return
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False,
        logging_level=logging.CRITICAL, object_store_memory=OBJECT_STORE_BYTES,
    )  # fmt: skip

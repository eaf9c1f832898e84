"""Settings under which a local Ray serves this process alone."""

import importlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import ray_constants

_LOOPBACK_SETTING = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Where it is 0, Ray takes 127.0.0.1 for the node's address and listens there alone, as it does
on Windows and macOS."""


@contextmanager
def authenticated() -> Iterator[None]:
    """Have a Ray that is started inside ask for a fresh token and listen on the loopback alone.

    Whoever reaches the ports of a Ray without a token can run code in its workers, and Ray before
    2.60 starts without one. The token is in the environment of this process and of Ray's own; it
    is in no file and on no command line. The environment is as before at the end.
    """
    settings = {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), _LOOPBACK_SETTING: "0",
    }  # fmt: skip
    names = (*settings, "RAY_AUTH_TOKEN_PATH")
    before = {name: os.environ.pop(name, None) for name in names}
    is_open = ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(settings)
    # Ray has read the setting when it was imported.
    ray_constants.ENABLE_RAY_CLUSTER = False
    read_again()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = is_open
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def read_again() -> None:
    """Have Ray read token and mode from the environment again; it keeps the first ones it sees."""
    core = importlib.import_module("ray._raylet")
    core.Config.initialize("")
    core.AuthenticationTokenLoader.instance().reset_cache()

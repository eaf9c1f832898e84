"""Addresses of shards: which are opened, and with what."""

import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.core import url_to_fs

from scanner.errors import ConfigError
from scanner.retry import silence
from scanner.shards.columns import bare
from scanner.signed import opens, redacted

REMOTE = ("s3", "gs", "gcs", "http", "https", "hf")
LISTED = ("s3", "gs", "gcs", "hf")
"""Stores that list what they hold; a web server does not."""

_SCHEME = re.compile(r"\s*(?:\||([A-Za-z][A-Za-z0-9+.-]*):(//)?)")
_IPV6 = re.compile(r"https?://\[([^]/?#]*)\](?=[:/?#]|$)")


def scheme(address: str) -> str | None:
    """Return the scheme of a remote address, null for a local path.

    Raises:
        ConfigError: If the scheme is not one that memscan opens. Shell commands are refused
            whatever follows: a list of shards is data, and data does not run.
    """
    match = _SCHEME.match(address)
    if match is None:
        return None
    name = match[1]
    is_model = name == "hf" and not address.startswith("hf://datasets/")
    if name not in REMOTE or not match[2] or "::" in after_ipv6(address) or is_model:
        raise ConfigError(
            f"shards are opened from local paths, s3://, gs://, https:// and hf://datasets/ only, "
            f"got {redacted(address)!r}: commands such as pipe: are never run; write a local path "
            f"with a colon as ./{Path(address).name}"
        )
    return name


def store(address: str) -> tuple[Any, str]:
    """Return the file system of a remote address, without cached listings, and the path in it.

    Raises:
        ConfigError: If the address is refused, or the package for its store is not installed.
    """
    protocol, whole = scheme(address), bare(opens(address))
    try:
        if protocol in ("http", "https"):  # url_to_fs takes the :: of an IPv6 host for a chain
            files, path = fsspec.filesystem(protocol, **_for_the_web()), whole
        else:
            files, path = url_to_fs(whole)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{address} cannot be opened: {redacted(str(error))}; install memscan[s3], [gcs] or "
            f"[http]"
        ) from error
    if protocol != "hf":  # its addresses are of a commit, which does not change
        files.invalidate_cache()
    return files, path


def after_ipv6(address: str) -> str:
    """Return what follows the IPv6 host of a web address, the whole address if it has none."""
    match = _IPV6.match(address)
    if match is None:
        return address
    try:
        ipaddress.IPv6Address(match[1])
    except ValueError:
        return address
    return address[match.end() :]


def _for_the_web() -> dict[str, Any]:
    """Return options for web servers: a large shard may take its time, a silent server may not.

    Passwords are taken from ``~/.netrc`` and proxies from the environment.
    """
    from aiohttp import ClientTimeout

    from scanner.shards.web import SteadyResponse  # takes aiohttp, which need not be installed

    limits = ClientTimeout(total=None, sock_connect=silence(), sock_read=silence())
    options = {"timeout": limits, "response_class": SteadyResponse, "trust_env": True}
    return {"client_kwargs": options}


def file_name(address: str) -> str:
    """Return the last part of an address, without its query, its columns and a ``/`` behind it."""
    address, is_remote = bare(address), scheme(address) is not None
    path = urlsplit(address).path if is_remote else address
    return path.rstrip("/").rpartition("/")[2]

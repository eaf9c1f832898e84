"""From what a person types to the addresses of shards."""

import glob
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.core import url_to_fs

from scanner.errors import ConfigError
from scanner.retry import explain, silence, with_retries
from scanner.shards.columns import Columns, bare, columns_of, is_parquet
from scanner.shards.kinds import TARS, is_table, refuse_tables
from scanner.signed import distinct, named, opens, redacted, refuse_user

USUAL = Columns()
"""The usual columns of a table."""
REMOTE = ("s3", "gs", "gcs", "http", "https")
MOST_SHARDS = 1_000_000

_SCHEME = re.compile(r"\s*(?:\||([A-Za-z][A-Za-z0-9+.-]*):(//)?)")
_RANGE = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", re.ASCII)
_IPV6 = re.compile(r"https?://\[([^]/?#]*)\](?=[:/?#]|$)")
_WILD = re.compile(r"[*?[]")


def expand(patterns: Sequence[str], columns: Columns = USUAL) -> list[str]:
    """Return the addresses of the shards that patterns name, each once, in the order given.

    A pattern is a path, a folder (all its tars, or else its Parquet tables), a glob, an address
    on ``s3://``, ``gs://`` or ``https://``, any of them with brace ranges (``{00000..00041}``,
    ``{a,b}``), or a ``.txt`` file with one pattern a line. What a glob finds comes in natural
    order. Local paths become absolute. Parquet tables are read as they lie; a pattern may name
    columns behind ``#``, as `scanner.shards.columns` says.

    Args:
        patterns: What to look up.
        columns: Of tables whose pattern names none.

    Raises:
        ConfigError: If a pattern names nothing, something that memscan does not open, another
            table of captions, or tars beside tables.

    Example:
        >>> expand(["s3://bucket/{08..10}.tar"])
        ['s3://bucket/08.tar', 's3://bucket/09.tar', 's3://bucket/10.tar']
    """
    listed = (line for pattern in patterns for line in _lines(pattern))
    addresses = (
        named(address) for pattern in listed for address in _with_columns(pattern, columns)
    )
    try:
        found = distinct(list(islice(addresses, MOST_SHARDS + 1)))
    except OSError as error:
        raise ConfigError(f"a path cannot be looked up: {error}; check it") from error
    if len(found) > MOST_SHARDS:
        raise ConfigError(f"the patterns name more than {MOST_SHARDS} shards: scan them in parts")
    if not found:
        raise ConfigError("no shards named: give paths, globs, folders or addresses of tar files")
    if not all(map(is_parquet, found)):
        refuse_tables(found, [file_name(address) for address in found])
        if columns:
            raise ConfigError("columns are of Parquet tables, and these are tars: leave them out")
    return found


def _with_columns(pattern: str, columns: Columns) -> Iterator[str]:
    """Yield the addresses of a pattern, of tables with their columns."""
    own = columns_of(pattern) or columns
    for address in _addresses(bare(pattern)):
        yield own.in_address(address) if is_parquet(address) else address


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
    if name not in REMOTE or not match[2] or "::" in _after_ipv6(address):
        raise ConfigError(
            f"shards are opened from local paths, s3://, gs:// and https:// only, got "
            f"{redacted(address)!r}: commands such as pipe: are never run; write a local path with "
            f"a colon as ./{Path(address).name}"
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
    files.invalidate_cache()
    return files, path


def _after_ipv6(address: str) -> str:
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
    """Return the last part of an address, without its query and its columns."""
    address, is_remote = bare(address), scheme(address) is not None
    return (urlsplit(address).path if is_remote else address).rpartition("/")[2]


def _lines(pattern: str) -> Iterator[str]:
    if not pattern.lower().endswith(".txt"):
        yield pattern
        return
    if scheme(pattern) is not None:
        raise ConfigError(
            f"a list of shards must be a local file, got {redacted(pattern)}: copy it here"
        )
    try:
        lines = Path(pattern).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the list of shards {pattern} cannot be read: {error}") from error
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.lower().endswith(".txt"):
            raise ConfigError(f"{pattern}:{number}: a list must name shards, not another list")
        if line and not line.startswith("#"):
            yield line


def _addresses(pattern: str) -> Iterator[str]:
    if scheme(pattern) is not None:
        refuse_user(pattern)
        for address in _braces(pattern):
            yield from _remote(address)
    elif Path(pattern).expanduser().exists():
        yield from _local(pattern)
    else:
        for path in _braces(pattern):
            yield from _local(path)


def _braces(pattern: str) -> Iterator[str]:
    """Expand the leftmost innermost braces first; what is not a range or a list stays."""
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    for choice in _choices(match):
        yield from _braces(pattern[: match.start()] + choice + pattern[match.end() :])


def _choices(match: re.Match[str]) -> Iterator[str]:
    low, high, choices = match.groups()
    if choices is not None:
        yield from choices.split(",")
        return
    is_padded = any(len(end) > 1 and end.startswith("0") for end in (low, high))
    width = max(len(low), len(high)) if is_padded else 0
    step = 1 if int(low) <= int(high) else -1
    for number in range(int(low), int(high) + step, step):
        yield f"{number:0{width}d}"


def _local(pattern: str) -> Iterator[str]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        every = [p for p in path.iterdir() if p.is_file()]
        inside = [p for p in every if p.name.endswith(TARS)]
        inside = inside or [p for p in every if is_parquet(p.name)]
        if not inside:
            has_tables = any(is_table(p.name) for p in path.iterdir())
            advice = (
                f"it holds tables, of which `memscan shards make {pattern} --out shards` makes some"
                if has_tables else "name the shards themselves"
            )  # fmt: skip
            raise ConfigError(f"the folder {pattern} holds no *.tar and no *.parquet: {advice}")
        yield from _in_order(_absolute(p) for p in inside)
    elif path.is_file():
        yield _absolute(path)
    elif path.exists():
        raise ConfigError(f"{pattern} is not a file")
    elif _WILD.search(pattern):
        matching = glob.iglob(str(path), recursive=True)  # noqa: PTH207 - Path.glob is relative
        found = [p for p in matching if Path(p).is_file()]
        if not found:
            raise ConfigError(f"{pattern} matches no file: check it with ls {pattern!r}")
        yield from _in_order(_absolute(p) for p in found)
    else:
        raise ConfigError(f"{pattern} does not exist (looked in {Path.cwd()}): check the path")


def _absolute(path: str | Path) -> str:
    """Return an absolute path without following links: a link's name is the shard's name."""
    return os.path.normpath(Path(path).absolute())


def _remote(address: str) -> Iterator[str]:
    rest = _after_ipv6(address)
    if not _WILD.search(rest):
        yield address
        return
    if scheme(address) in ("http", "https"):
        if not re.search(r"[*[]", rest):  # a query begins with "?"
            yield address
            return
        raise ConfigError(
            f"{redacted(address)}: a web server lists nothing; use {{00000..00041}} for *"
        )
    files, path = store(address)
    try:
        found = [files.unstrip_protocol(p) for p in with_retries(lambda: files.glob(path))]
    except Exception as error:  # every store has errors of its own
        raise ConfigError(f"{address} cannot be listed: {explain(error)}") from error
    if not found:
        raise ConfigError(f"{address} matches nothing: check the bucket, the prefix and the region")
    yield from _in_order(found)


def _in_order(addresses: Iterator[str] | list[str]) -> list[str]:
    """Sort with 9.tar before 10.tar."""

    def natural(address: str) -> list[tuple[int, str]]:
        pieces = re.split(r"(\d+)", address, flags=re.ASCII)
        return [(int(p), p) if i % 2 else (0, p) for i, p in enumerate(pieces)]

    return sorted(addresses, key=natural)

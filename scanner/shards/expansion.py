"""From what a person types to the addresses of shards."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from scanner.errors import ConfigError
from scanner.retry import explain, with_retries
from scanner.shards import layout
from scanner.shards.addresses import LISTED, after_ipv6, file_name, scheme, store
from scanner.shards.columns import Columns, kind_of
from scanner.shards.kinds import Kind, refuse_unnamed_tables
from scanner.shards.layout import Say
from scanner.shards.patterns import HUB, Pattern, braces, lines_of, parsed, path_of
from scanner.signed import distinct, named, redacted, refuse_user

USUAL = Columns()
"""The usual columns of a table."""
MOST_SHARDS = 1_000_000
MOST_NAMES = 1_000_000
"""Files that are looked at in a folder that holds folders."""

_WILD = re.compile(r"[*?[]")


def silent(_: str) -> None:
    """Say nothing."""


def expand(patterns: Sequence[str], columns: Columns = USUAL, say: Say = silent) -> list[str]:
    """Return the addresses of the shards that patterns name, each once, in the order given.

    A pattern is a path, a folder, a glob, an address on ``s3://``, ``gs://``, ``https://`` or
    ``hf://datasets/``, any of them with brace ranges (``{00000..00041}``, ``{a,b}``), or a
    ``.txt`` file with one pattern a line. Of a folder all tars are taken, or else all tables, or
    else it is one shard of images. What a glob finds comes in natural order. Local paths become
    absolute. Tables are read as they lie; a pattern may name columns behind ``#``, as
    `scanner.shards.columns` says, and of a data set ``split`` and ``config``.

    Args:
        patterns: What to look up.
        columns: Of tables whose pattern names none.
        say: Told, a line each, what was guessed and what is left out.

    Raises:
        ConfigError: If a pattern names nothing, something that memscan does not open, or leaves
            open what is meant.

    Example:
        >>> expand(["s3://bucket/{08..10}.tar"])
        ['s3://bucket/08.tar', 's3://bucket/09.tar', 's3://bucket/10.tar']
    """
    addresses = (
        named(address) for pattern in patterns for address in _of_argument(pattern, columns, say)
    )
    try:
        found = distinct(list(islice(addresses, MOST_SHARDS + 1)))
    except OSError as error:
        raise ConfigError(f"a path cannot be looked up: {error}; check it") from error
    if len(found) > MOST_SHARDS:
        raise ConfigError(f"the patterns name more than {MOST_SHARDS} shards: scan them in parts")
    if not found:
        raise ConfigError("no shards named: give paths, globs, folders or addresses of tar files")
    found = layout.without_logs(found, say)
    tars = [address for address in found if kind_of(address) is Kind.TAR]
    refuse_unnamed_tables(tars, [file_name(address) for address in tars])
    if columns and len(tars) == len(found):
        raise ConfigError("columns are of tables, and these are tars: leave them out")
    return found


def _of_argument(argument: str, columns: Columns, say: Say) -> Iterator[str]:
    """Yield the addresses of a pattern or a list of them, of tables with their columns.

    Raises:
        ConfigError: If it names nothing that can be read.
    """
    for line in lines_of(argument):
        pattern = parsed(line, columns, say)
        try:
            for address in _addresses(pattern):
                is_tar = kind_of(address) is Kind.TAR
                yield address if is_tar else pattern.columns.in_address(address)
        except ConfigError as error:
            if line == argument or "does not exist" not in str(error):
                raise
            raise ConfigError(
                f"{argument} is a list of shards, and {error}; captions, one a line, become a "
                f"table by: jq -cR '{{caption: .}}' {argument} > captions.jsonl"
            ) from error


def _addresses(pattern: Pattern) -> Iterator[str]:
    text = pattern.text
    if scheme(text) is not None:
        refuse_user(text)
        for address in braces(text):
            yield from _remote(address, pattern)
    elif path_of(text).exists():
        yield from _local(text, pattern)
    else:
        for path in braces(text):
            yield from _local(path, pattern)


def _local(text: str, pattern: Pattern) -> Iterator[str]:
    path = path_of(text)
    if path.is_dir():
        yield from _in_folder(path, pattern)
    elif path.is_file():
        yield _absolute(path)
    elif path.exists():
        raise ConfigError(f"{text} is not a file")
    elif _WILD.search(text):
        matching = glob.iglob(str(path), recursive=True)  # noqa: PTH207 - Path.glob is relative
        matched = list(matching)
        found = [p for p in matched if Path(p).is_file()]
        folders = [p for p in matched if not found and Path(p).is_dir()]
        if not found and not folders:
            raise ConfigError(f"{text} matches no file: check it with ls {text!r}")
        yield from _in_order(_absolute(p) for p in found)
        for folder in _in_order(folders):
            yield from _in_folder(Path(folder), pattern)
    else:
        raise ConfigError(f"{text} does not exist (looked in {Path.cwd()}): check the path")


def _in_folder(path: Path, pattern: Pattern) -> Iterator[str]:
    """Yield what is read of a local folder: of what lies in it, else of what lies below.

    Raises:
        ConfigError: If that is nothing, or not clear.
    """
    every = [each for each in path.iterdir() if not each.name.startswith(".")]
    files = [each.name for each in every if each.is_file()]
    card = layout.card_of(_start(path / "README.md")) if "README.md" in files else {}
    folders = {each.name for each in every if each.is_dir()}
    names = layout.picked(files, folders)
    if card.get("configs") or names == []:
        files = list(_below(path))
        names = layout.picked(files, folders)
    if names is None:
        pattern.say(f"{path} is read as one folder of images, with the captions beside them")
        yield f"{_absolute(path)}/"
        return
    if not names:
        layout.refuse_empty(str(path), files)
    names = layout.without_logs(_in_order(names), pattern.say)
    layout.refuse_twins(names, str(path))
    if card.get("configs") or pattern.wanted or any("/" in name for name in names):
        names = layout.of_data_set(
            names, card, pattern.wanted, str(path), must_choose=False, say=pattern.say
        )
    yield from (_absolute(path / name) for name in names)


def _below(path: Path) -> Iterator[str]:
    """Yield the names of the files in a folder and those in it; links to folders are left out."""
    count = 0
    for root, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield Path(root, name).relative_to(path).as_posix()
                count += 1
        if count > MOST_NAMES:
            return


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(layout.CARD_BYTES)
    except OSError:
        return b""


def _absolute(path: str | Path) -> str:
    """Return an absolute path without following links: a link's name is the shard's name."""
    return os.path.normpath(Path(path).absolute())


def _remote(address: str, pattern: Pattern) -> Iterator[str]:
    if address.startswith(HUB):
        from scanner.shards.hub_datasets import files_of

        yield from _in_order(list(files_of(address, pattern.wanted, pattern.say)))
        return
    rest, is_web = after_ipv6(address), scheme(address) not in LISTED
    if not _WILD.search(rest) and (is_web or not address.endswith("/")):
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
    look = (lambda: files.find(path)) if address.endswith("/") else (lambda: files.glob(path))
    try:
        found = [files.unstrip_protocol(p) for p in with_retries(look)]
    except Exception as error:  # every store has errors of its own
        raise ConfigError(f"{address} cannot be listed: {explain(error)}") from error
    if not found:
        raise ConfigError(f"{address} matches nothing: check the bucket, the prefix and the region")
    yield from _in_order(_in_prefix(address, found) if address.endswith("/") else found)


def _in_prefix(address: str, found: list[str]) -> list[str]:
    """Return what is read of what lies under a prefix of a store.

    Raises:
        ConfigError: If that is nothing.
    """
    names = layout.picked(found)
    if names is None:
        raise ConfigError(
            f"{address} holds images: folders of images are read on this machine only; copy it "
            f"here, or pack it as tars"
        )
    if not names:
        layout.refuse_empty(address, found)
    return names


def _in_order(addresses: Iterator[str] | list[str]) -> list[str]:
    """Sort with 9.tar before 10.tar."""

    def natural(address: str) -> list[tuple[int, str]]:
        pieces = re.split(r"(\d+)", address, flags=re.ASCII)
        return [(int(p), p) if i % 2 else (0, p) for i, p in enumerate(pieces)]

    return sorted(addresses, key=natural)

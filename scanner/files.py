"""The one place where local files are written: whole or not at all, and flushed to the disk.

A file is written under a temporary name beside its target, flushed, and renamed. Whoever reads the
target sees the old content or the new, also after a crash or a power cut. A target that is no
regular file (a device, a pipe, ``/dev/stdout``) is written to directly.

`check_file` and `check_folder` refuse a target that cannot be written, before any work is done.
"""

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, cast

from scanner.errors import ConfigError, OutputError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors that say that a disk or a quota is full."""
CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)
"""Errors of file systems that cannot flush folders."""

_ADVICE = {
    errno.EROFS: "the disk is read-only: name another place",
    errno.EACCES: "name a place that you may write to",
    errno.EPERM: "name a place that you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
} | dict.fromkeys(FULL, "make room and run again")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")  # a path object has lost one of its slashes
_DESCRIPTOR = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/self/fd/\d+")
_NUMBERS = {"stdout": 1, "stderr": 2}

Content = str | bytes | memoryview | Any
"""Text, or anything with the buffer protocol."""


def write(path: str | Path, content: Content) -> None:
    """Write a file, or replace it.

    Args:
        path: The target. Its folder is made if missing; a symbolic link is followed.
        content: Text is written as UTF-8, bytes and buffers as they are.

    Raises:
        OutputError: If it cannot be written; a file that was there is as it was.
    """
    with binary(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def create(path: str | Path, content: Content) -> bool:
    """Write a file that must not be there yet; of all who try at one name, one succeeds.

    Returns:
        False if there is one.

    Raises:
        OutputError: If it cannot be written.
    """
    target = Path(path)
    with _reported(target):
        make_folder(target.parent)
        with _beside(target) as temporary:
            with temporary.open("xb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
                _flush(stream)
            try:
                target.hardlink_to(temporary)
            except FileExistsError:
                # Over NFS a link that was made may be answered by "exists" when the reply is
                # repeated.
                if temporary.stat().st_nlink < 2:
                    return False
            _flush_folder(target.parent)
    return True


@contextmanager
def binary(path: str | Path) -> Iterator[BinaryIO]:
    """Open a stream of bytes; the file takes its place when the block ends without an error.

    Raises:
        OutputError: If it cannot be written.
    """
    with _stream(Path(path), {"mode": "b"}) as stream:
        yield cast("BinaryIO", stream)


@contextmanager
def text(path: str | Path, *, errors: str = "strict") -> Iterator[TextIO]:
    """Open a stream of UTF-8 text without translation of line ends, as `binary` does for bytes.

    Args:
        path: The target.
        errors: What happens to characters that UTF-8 does not have, as in `open`.

    Raises:
        OutputError: If it cannot be written.
    """
    options = {"mode": "", "encoding": "utf-8", "newline": "", "errors": errors}
    with _stream(Path(path), options) as stream:
        yield cast("TextIO", stream)


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Provide the name of a file to write, for functions that take a path.

    The file takes the target's place when the block ends without an error. It has another name
    until then, so a function that goes by the ending of a name must be told the format.

    Raises:
        OutputError: If it cannot be written.
    """
    target = Path(path)
    if not _is_replaceable(target):
        with tempfile.TemporaryDirectory() as folder:
            staged = Path(folder) / "content"
            yield staged
            with binary(target) as stream, staged.open("rb") as source:
                shutil.copyfileobj(source, stream)
        return
    with _reported(target), _replacing(target) as temporary:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())


@contextmanager
def scratch() -> Iterator[Path]:
    """Provide the name of a file to write and to read again, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="memscan-") as folder:
        yield Path(folder) / "content"


@contextmanager
def folder(path: str | Path) -> Iterator[Path]:
    """Provide an empty folder to fill; it takes its place when the block ends without an error.

    A folder that is there already is replaced, and is set aside for the moment between the two.

    Raises:
        OutputError: If it cannot be written.
    """
    target = Path(path)
    with _reported(target):
        make_folder(target.parent)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            _flush_tree(partial)
            aside = target.with_name(f".{target.name}.{os.getpid()}.old")
            if target.exists():
                target.rename(aside)
            partial.rename(target)
            _flush_folder(target.parent)
            shutil.rmtree(aside, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def append(path: str | Path) -> int:
    """Open a file for appending and return its descriptor; what is there stays.

    Raises:
        OutputError: If it cannot be opened.
    """
    target = Path(path)
    with _reported(target):
        make_folder(target.parent)
        return os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)


def append_bytes(path: str | Path, content: bytes) -> None:
    """Add to the end of a file, in one write.

    Raises:
        OutputError: If it cannot be written.
    """
    descriptor = append(path)
    try:
        with _reported(Path(path)):
            os.write(descriptor, content)
    finally:
        os.close(descriptor)


def append_line(path: str | Path, line: str) -> None:
    """Add a line to the end of a file, so that it outlives a power cut.

    Writers in any process take turns, none loses another's line, and a line is there whole or not
    at all: what a crash left of one is ended before the next begins.

    Args:
        path: The file, which is made if missing.
        line: Without its end.

    Raises:
        OutputError: If it cannot be written; the file is as it was.
    """
    import fcntl  # no Windows

    content, descriptor = f"{line}\n".encode(), append(path)
    try:
        with _reported(Path(path)):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                content = b"\n" + content
            written = 0
            try:
                written = os.write(descriptor, content)
                os.fsync(descriptor)
            finally:
                if written < len(content):
                    os.ftruncate(descriptor, size)
            if not size:
                _flush_folder(Path(path).parent)
        if written < len(content):
            raise OutputError(f"{path} cannot be written: {_ADVICE[errno.ENOSPC]}")
    finally:
        os.close(descriptor)


def discard(stream: IO[Any]) -> None:
    """Send what a stream still holds, and gets, to nowhere; for one that takes no more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def make_folder(folder: str | Path) -> None:
    """Make a folder and those above it, so that they outlive a power cut.

    Raises:
        OutputError: If it cannot be made.
    """
    folder = Path(folder)
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with _reported(folder):
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)


def check_file(path: str | Path, name: str) -> None:
    """Refuse a file that is known to be unwritable, before there is anything to write.

    A probe is written beside the file and removed, so that read-only and full disks are found
    too. Nothing else is changed, and no folder is made.

    Args:
        path: The file that shall be written.
        name: What the user calls it, such as ``--out``.

    Raises:
        ConfigError: If it cannot be written.
    """  # noqa: DOC501 - made one of these
    refuse_address(path, name)
    target = Path(path)
    with _refused(target, name):
        if _DESCRIPTOR.fullmatch(str(target)):
            return
        if target.is_dir():
            raise ConfigError(f"{name} {target} is a folder: name a file")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if _is_replaceable(target):
            _existing(target)  # a name that is too long has no status
            _probe(_real(target).parent)


def check_folder(path: str | Path, name: str) -> None:
    """Refuse a folder that is known to be unwritable, as `check_file` does for a file.

    Args:
        path: The folder that shall be made or written into.
        name: What the user calls it, such as ``--out``.

    Raises:
        ConfigError: If it cannot be written into.
    """
    refuse_address(path, name)
    target = Path(path)
    with _refused(target, name):
        if target.exists() and not target.is_dir():
            raise ConfigError(f"{name} {target} is a file: name a folder")
        _probe(target)


def refuse_address(path: str | Path, name: str) -> None:
    """Refuse an address such as ``s3://bucket/file`` where only a local path can be written.

    Args:
        path: The path.
        name: What the user calls it, such as ``--out``.

    Raises:
        ConfigError: If it is an address.
    """
    if _ADDRESS.match(str(path)):
        raise ConfigError(f"{name} {path} is an address: name a local path")


def explain(error: OSError) -> str:
    """Return what an error of the operating system says, and what to do about it."""
    said = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0)
    return f"{said}: {advice}" if advice else said


def _probe(folder: Path) -> None:
    """Write a small file into a folder and remove it; of a missing folder, above it.

    Raises:
        NotADirectoryError: If the path, or one above it, is a file.
    """
    folder = _existing(folder)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file, not a folder")
    with _beside(folder / "probe") as temporary, temporary.open("xb") as stream:
        stream.write(bytes(4096))
        _flush(stream)


def _existing(path: Path) -> Path:
    """Return a path, or what is nearest above it, that exists."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _existing(path.parent)
    return path


@contextmanager
def _stream(target: Path, options: dict[str, Any]) -> Iterator[IO[Any]]:
    options = dict(options)
    kind = options.pop("mode")
    with _reported(target):
        if not _is_replaceable(target):
            with os.fdopen(_descriptor(target), f"w{kind}", **options) as stream:
                yield stream
            return
        with _replacing(target) as temporary, temporary.open(f"x{kind}", **options) as stream:
            yield stream
            _flush(stream)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Provide a temporary name; its file takes the target's place at the end.

    Raises:
        IsADirectoryError: If the target is a folder.
        PermissionError: If the target may not be written to.
    """
    target = _real(target)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    make_folder(target.parent)
    with _beside(target) as temporary:
        yield temporary
        _like(target, temporary)
        temporary.replace(target)
        _flush_folder(target.parent)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Provide a name beside ``path`` whose file is gone afterwards."""
    name = f".{path.name[:40]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    temporary = path.with_name(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _like(target: Path, temporary: Path) -> None:
    """Give a file owner and permissions of the one that it replaces, as far as possible."""
    try:
        before = target.stat()
    except FileNotFoundError:
        return
    with suppress(OSError):
        os.chown(temporary, before.st_uid, before.st_gid)
    temporary.chmod(stat.S_IMODE(before.st_mode))


def _real(path: Path) -> Path:
    """Return what a symbolic link points to, so that it stays a link."""
    return Path(os.path.realpath(path))


def _is_replaceable(path: Path) -> bool:
    """Whether a path is, or can become, a regular file with a name of its own."""
    if _DESCRIPTOR.fullmatch(str(path)):
        return False
    try:
        mode = path.stat().st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _descriptor(path: Path) -> int:
    """Open a device or a pipe; of ``/dev/stdout`` and the like, return a copy of the descriptor.

    Opened by its name, a redirected output would be written from its start once more.
    """
    if not _DESCRIPTOR.fullmatch(str(path)):
        return os.open(path, os.O_WRONLY)
    sys.stdout.flush()
    return os.dup(_NUMBERS.get(path.name) or int(path.name))


def _flush(stream: IO[Any]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _flush_tree(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            _flush_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power cut.

    Raises:
        OSError: If the disk fails; that a file system cannot flush folders is no failure.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise


@contextmanager
def _reported(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {explain(error)}") from error


@contextmanager
def _refused(target: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{name} {target} cannot be written: {explain(error)}") from error

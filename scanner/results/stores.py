"""Stores of results: a local folder, or a prefix of an object store.

Both promise the same: what `put` writes is there whole or not at all, and of all that `create`
one name, one succeeds. A folder does it with a temporary file, a flush and a hard link; an object
store with a conditional write. Nothing is ever renamed in an object store.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import fsspec
import pyarrow as pa

from scanner import files
from scanner.errors import ConfigError, OutputError, ResultsError
from scanner.retry import explain, http_status, with_retries
from scanner.signed import has_user, redacted

SCHEMES = ("s3", "gs", "gcs")
READ_TOGETHER = 512
"""Objects that are asked for at a time."""

_IMPATIENT = {"s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}}}
"""The client's own retries are off: `with_retries` makes them, by one policy."""

Content = bytes | pa.Buffer


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a store.

    Attributes:
        name: Path below the root, with slashes.
        size: In bytes.
        modified: When it was written, in seconds of the store's own clock.
    """

    name: str
    size: int
    modified: float


class Store(Protocol):
    """Files below a root, by names with slashes.

    Every method raises `ResultsError` when the store cannot be reached, read or written.
    """

    root: str

    def address(self, name: str) -> str:
        """Return what opens a file elsewhere: an absolute path, or an address."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders directly in a folder, in order."""
        ...

    def entries(self, folder: str) -> list[Entry]:
        """Return every file below a folder, in order of name; of no folder, none."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the name of every file below a folder, in order; of no folder, none."""
        ...

    def entry(self, name: str) -> Entry | None:
        """Return a file's size and time, null if there is none."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return a file's content, null if there is none."""
        ...

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of many files, in order; what is gone is left out."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading from anywhere."""
        ...

    def put(self, name: str, content: Content) -> None:
        """Write or replace a file, durably."""
        ...

    def create(self, name: str, content: Content) -> bool:
        """Write a file that is not there yet, durably; False if it is."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...


def opened(root: str | Path) -> "LocalStore | ObjectStore":
    """Return the store at a path or an address; nothing is touched yet.

    Raises:
        ConfigError: If the address is of no store that can hold results, or the package for it
            is not installed.
    """
    text = str(root)
    if "://" not in text:
        return LocalStore(Path(text))
    return ObjectStore(text)


def place(text: str) -> str:
    """Return an address as it is, and a path as an absolute one that every process finds."""
    return text.rstrip("/") if "://" in text else str(Path(text).expanduser().absolute())


def check(store: Store) -> None:
    """Prove that a store creates exclusively, before anything relies on it.

    Raises:
        ConfigError: If a name can be created twice.
        ResultsError: If the store cannot be written to.
    """
    name = f".probe-{uuid.uuid4().hex}"
    try:
        is_sound = store.create(name, b"first") and not store.create(name, b"second")
        is_sound = is_sound and store.read(name) == b"first"
    finally:
        store.remove(name)
    if not is_sound:
        raise ConfigError(
            f"{store.root} lets a name be created twice (a conditional write with If-None-Match "
            f"is ignored there), so that two processes could commit one chunk: use a store that "
            f"honours it, such as S3 or GCS, or a folder"
        )


class LocalStore:
    """A local or mounted folder that can hold hard links.

    Args:
        root: The folder; it is made at the first write.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()
        self.root = str(self._root)

    def address(self, name: str) -> str:
        """Return the absolute path."""
        return str(self._root / name)

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders directly in a folder, in order."""
        with self._reading():
            return sorted(p.name for p in (self._root / folder).glob("*") if p.is_dir())

    def entries(self, folder: str) -> list[Entry]:
        """Return every file below a folder, in order of name; of no folder, none."""
        with self._reading():
            found = [
                Entry(name, status.st_size, status.st_mtime)
                for name, each in self._below(folder)
                if (status := _status(each)) is not None
            ]
        return sorted(found, key=lambda entry: entry.name)

    def names(self, folder: str) -> list[str]:
        """Return the name of every file below a folder, in order; of no folder, none."""
        with self._reading():
            return sorted(name for name, _ in self._below(folder))

    def entry(self, name: str) -> Entry | None:
        """Return a file's size and time, null if there is none."""
        with self._reading():
            return self._entry(self._root / name)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, null if there is none."""
        with self._reading():
            try:
                with open(f"{self.root}/{name}", "rb") as stream:  # noqa: PTH123 - half the time
                    return stream.read()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of many files, in order; what is gone is left out."""
        for name in names:
            if (content := self.read(name)) is not None:
                yield name, content

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading from anywhere."""
        with self._reading():
            return (self._root / name).open("rb")

    def put(self, name: str, content: Content) -> None:
        """Write or replace a file, durably."""
        with self._writing():
            files.write(self._root / name, content)

    def create(self, name: str, content: Content) -> bool:
        """Write a file that is not there yet, durably; False if it is."""
        with self._writing():
            return files.create(self._root / name, content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._writing():
            (self._root / name).unlink(missing_ok=True)

    def _below(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield every file below a folder, with its name."""
        pending = [folder]
        while pending:
            within = pending.pop()
            for each in self._scanned(within):
                name = f"{within}/{each.name}" if within else each.name
                if each.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif not (each.is_symlink() and each.is_dir()):
                    yield name, each

    def _scanned(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _entry(self, path: Path) -> Entry | None:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(path.relative_to(self._root).as_posix(), status.st_size, status.st_mtime)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResultsError(f"{self.root} cannot be read: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, OutputError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in files.FULL:
                raise ResultsError(
                    f"the disk of {self.root} is full ({cause.strerror}): make room and run "
                    f"again; what was committed stays"
                ) from error
            raise ResultsError(f"{self.root} cannot be written to: {cause}") from error


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return a file's status, null if it is gone."""
    try:
        return entry.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


class ObjectStore:
    """A prefix in a bucket, with the credentials that the store's own tools would use.

    What passes (a time-out, 429, 5xx) is waited for; what does not is an error at once.

    Attributes:
        files: The bucket as a file system, for what reads by addresses.

    Args:
        root: An address such as ``s3://bucket/prefix``.

    Raises:
        ConfigError: If the address is refused, or the package for its store is not installed.
    """

    def __init__(self, root: str) -> None:
        if has_user(root):
            raise ConfigError(
                f"{redacted(root)} was given with a user or a password, which would be in logs: "
                f"give it without, and AWS_PROFILE or the like in the environment"
            )
        scheme, _, path = root.partition("://")
        self._path = path.strip("/")
        if scheme not in SCHEMES or not self._path or "::" in root:
            raise ConfigError(
                f"results go to a local or mounted folder, s3://BUCKET/PREFIX or "
                f"gs://BUCKET/PREFIX, got {redacted(root)}"
            )
        try:
            # Listings that are remembered would hide what other processes commit.
            self.files: Any = fsspec.filesystem(scheme, use_listings_cache=False)
            self._files: Any = fsspec.filesystem(
                scheme, use_listings_cache=False, **_IMPATIENT.get(scheme, {})
            )
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{root} cannot be opened: {error}; install memscan[s3] or memscan[gcs]"
            ) from error
        self.root = f"{scheme}://{self._path}"

    def address(self, name: str) -> str:
        """Return the whole address."""
        return f"{self.root}/{name}"

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders directly in a folder, in order."""
        try:
            found = self._ask(lambda: self._files.ls(self._full(folder), detail=True))
        except FileNotFoundError:
            return []
        names = (e["name"].rstrip("/") for e in found if e["type"] == "directory")
        return sorted(name.rpartition("/")[2] for name in names)

    def entries(self, folder: str) -> list[Entry]:
        """Return every file below a folder, in order of name; of no folder, none."""
        try:
            found = self._ask(lambda: self._files.find(self._full(folder), detail=True))
        except FileNotFoundError:
            return []
        return sorted(map(self._entry, found.values()), key=lambda entry: entry.name)

    def names(self, folder: str) -> list[str]:
        """Return the name of every file below a folder, in order; of no folder, none."""
        return [entry.name for entry in self.entries(folder)]

    def entry(self, name: str) -> Entry | None:
        """Return a file's size and time, null if there is none."""
        try:
            facts = self._ask(lambda: self._files.info(self._full(name)))
        except FileNotFoundError:
            return None
        return self._entry(facts) if facts["type"] == "file" else None

    def read(self, name: str) -> bytes | None:
        """Return a file's content, null if there is none."""
        try:
            return self._ask(lambda: self._files.cat_file(self._full(name)))
        except FileNotFoundError:
            return None

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of many files, in order; what is gone is left out."""
        for start in range(0, len(names), READ_TOGETHER):
            part = names[start : start + READ_TOGETHER]
            paths = [self._full(name) for name in part]
            found = self._ask(
                lambda paths=paths: self._files.cat(paths, recursive=False, on_error="return")
            )
            for name, path in zip(part, paths, strict=True):
                content = found.get(path)
                if not isinstance(content, bytes):
                    # Read alone, with retries, so that the error names the file.
                    content = self.read(name)
                if content is not None:
                    yield name, content

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading from anywhere.

        Raises:
            ResultsError: If there is no such file, or it cannot be opened.
        """
        try:
            return self._ask(lambda: cast(BinaryIO, self.files.open(self._full(name), "rb")))
        except FileNotFoundError as error:
            raise ResultsError(f"{self.address(name)} is missing: verify the results") from error

    def put(self, name: str, content: Content) -> None:
        """Write or replace a file, durably."""
        payload = bytes(content)
        self._change(name, lambda: self._files.pipe_file(self._full(name), payload))

    def create(self, name: str, content: Content) -> bool:
        """Write a file that is not there yet, durably; False if it is."""
        payload = bytes(content)

        def attempt() -> bool:
            try:
                self._files.pipe_file(self._full(name), payload, mode="create")
            except Exception as error:
                if not isinstance(error, FileExistsError) and http_status(error) != 412:
                    raise
                return False
            return True

        # An attempt whose answer was lost is refused when it is repeated: then what is there is
        # ours.
        return self._change(name, attempt) or self.read(name) == payload

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

        def attempt() -> None:
            try:
                self._files.rm_file(self._full(name))
            except FileNotFoundError:
                return

        self._change(name, attempt)

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _entry(self, facts: dict[str, Any]) -> Entry:
        stamp = next((facts[k] for k in ("LastModified", "mtime", "updated") if k in facts), None)
        name = facts["name"].removeprefix(f"{self._path}/")
        return Entry(name, int(facts["size"]), stamp.timestamp() if stamp else 0.0)

    def _ask(self, work: Any) -> Any:
        try:
            return with_retries(work)
        except FileNotFoundError:
            raise
        except Exception as error:  # every store has errors of its own
            raise ResultsError(f"{self.root} cannot be read: {explain(error)}") from error

    def _change(self, name: str, work: Any) -> Any:
        try:
            return with_retries(work)
        except Exception as error:  # every store has errors of its own
            raise ResultsError(
                f"{self.address(name)} cannot be written: {explain(error)}"
            ) from error

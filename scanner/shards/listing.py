"""Files of a folder that is read as a shard: which there are, and what names them all together."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISCHR, S_ISDIR, S_ISFIFO, S_ISREG
from typing import TypeVar

from scanner.errors import ShardError
from scanner.records import RejectReason
from scanner.shards.columns import bare
from scanner.shards.kinds import METADATA
from scanner.shards.samples import ALLOWED
from scanner.shards.shard import Shard

MOST_FILES = 4_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    r"""A file of a folder.

    Attributes:
        name: Relative to the folder, with ``/``; bytes that are not UTF-8 are written ``\xNN``.
        path: What opens it; of a link that stays inside, where it leads.
        size: In bytes.
        changed: When, in nanoseconds.
        odd: Why it is not read, null for a regular file.
    """

    name: str
    path: str
    size: int
    changed: int
    odd: RejectReason | None = None

    @property
    def stem(self) -> str:
        """The name without its last extension."""
        return self.name[: -len(self.extension) - 1] if self.extension else self.name

    @property
    def extension(self) -> str:
        """What follows the last dot of the name."""
        last = self.name.rpartition("/")[2]
        return last.rpartition(".")[2] if "." in last[1:] else ""

    @property
    def kind(self) -> tuple[str, int]:
        """What it holds by its name, and its rank among those of a sample; ``""`` for nothing."""
        return ALLOWED.get(self.extension.lower(), ("", 0))

    @property
    def is_metadata(self) -> bool:
        """Whether captions of other files stand in it."""
        return self.name.rpartition("/")[2] in METADATA

    def content(self) -> bytes:
        """Return what is in it.

        Raises:
            ShardError: If it is no longer as it was listed.
            OSError: If it cannot be read.
        """
        opened = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(opened, "rb") as file:
            now = os.fstat(file.fileno())
            if (now.st_size, now.st_mtime_ns) != (self.size, self.changed):
                raise ShardError(f"{self.path} changed since it was listed: scan the folder again")
            return file.read(self.size)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder that count: images, captions, metadata, and what cannot be read.

    Attributes:
        entries: By name.
        digest: Of names, sizes and times.
    """

    entries: list[Entry]
    digest: str = field(default="")

    def shard_of(self, url: str) -> Shard:
        """Return the folder as a shard."""
        return Shard(url, sum(entry.size for entry in self.entries), self.digest)


_kept = dict[str, Listing]()
"""The last listings of this process: a folder is not listed anew for each of its chunks."""
MOST_KEPT = 4
K = TypeVar("K")
V = TypeVar("V")


def keep(kept: dict[K, V], key: K, value: V) -> None:
    """Keep a value, and of all the newest only."""
    kept.pop(key, None)
    kept[key] = value
    for old in list(kept)[:-MOST_KEPT]:
        kept.pop(old, None)  # another thread may have been here


def listed(url: str) -> Listing:
    """List a folder as it is now.

    Args:
        url: Its address: an absolute path that ends with ``/``, with columns or without.

    Raises:
        ShardError: If it cannot be listed, or holds too many files.
    """
    root = bare(url)
    try:
        entries = sorted(_walked(Path(root)), key=lambda entry: entry.name)
    except OSError as error:
        raise ShardError(f"{url} cannot be listed: {error.strerror or error}") from error
    if len(entries) > MOST_FILES:
        raise ShardError(f"{url} holds more than {MOST_FILES} files: name its folders one by one")
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.name}\0{entry.size}\0{entry.changed}\0{entry.odd}\n".encode())
    found = Listing(entries, digest.hexdigest()[:32])
    keep(_kept, root, found)
    return found


def listed_as(shard: Shard) -> Listing:
    """Return the listing of a folder, which must be as it was found.

    Raises:
        ShardError: If it is not, or cannot be listed.
    """
    kept = _kept.get(bare(shard.url))
    if kept is not None and kept.digest == shard.etag:
        return kept
    now = listed(shard.url)
    if now.digest != shard.etag:
        raise ShardError(
            f"{shard.url} changed since it was listed: files came, went or were written; scan it "
            f"again when it is at rest"
        )
    return now


def _walked(root: Path) -> Iterator[Entry]:
    """Yield what counts of a folder and of those in it; nothing that begins with a dot."""
    real, waiting, count = os.path.realpath(root), [""], 0
    while waiting:
        place = waiting.pop()
        with os.scandir(root / place) as found:
            for each in found:
                name = f"{place}{each.name}"
                if each.name.startswith("."):
                    continue
                if each.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                    continue
                entry = _entry(each, name, real)
                if entry is not None:
                    yield entry
                count += 1
                if count > MOST_FILES + 1:
                    return


def _entry(found: os.DirEntry[str], name: str, real: str) -> Entry | None:
    """Return a file that counts, null for any other."""
    shown = os.fsencode(name).decode(errors="backslashreplace")
    status, path = found.stat(follow_symlinks=False), found.path
    odd = None
    if found.is_symlink():
        path = os.path.realpath(found.path)
        if os.path.commonpath([real, path]) != real:
            odd = RejectReason.OUTSIDE_FOLDER
        elif not Path(path).is_file():
            odd = RejectReason.SYMBOLIC_LINK
        else:
            status = Path(path).stat()
    elif not S_ISREG(status.st_mode):
        odd = _odd(status.st_mode)
    entry = Entry(shown, path, 0 if odd else status.st_size, status.st_mtime_ns, odd)
    is_folder = found.is_symlink() and Path(found.path).is_dir()
    return entry if is_folder or entry.kind[0] or entry.is_metadata else None


def _odd(mode: int) -> RejectReason:
    if S_ISFIFO(mode):
        return RejectReason.NAMED_PIPE
    return RejectReason.DEVICE if S_ISCHR(mode) or S_ISDIR(mode) else RejectReason.UNKNOWN_MEMBER

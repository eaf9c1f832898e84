"""Tar archives read forwards, member by member, with every kind of damage noticed.

``tarfile`` takes an archive that was cut between two members for a complete one. Here an archive
is complete only if its two zero blocks were seen, and whatever else is found ends the reading
with a description. Memory is bounded whatever the archive says about itself.
"""

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scanner.shards.byte_sources import SKIP_BYTES, ByteSource

BLOCK_BYTES = 512
NAME_LIMIT = 4096
EXTENDED_HEADER_BYTES = 1 << 20

_ZEROS = bytes(BLOCK_BYTES)
_NUMBER = rb"(?:[0-7]{7}|[0-7]{6} )[ \0]"
_PLAIN = re.compile(
    rb"(?s)(.{100})" + 3 * _NUMBER + rb"([0-7]{11})[ \0][0-7]{11}[ \0]([0-7]{6})(?:\0 | \0)0"
    rb".{172}" + 2 * (rb"(?:\0{8}|" + _NUMBER + rb")") + rb"(.{155})"
)
"""Header of a regular file as tar programs write it: name, size, checksum and prefix."""
_WITHOUT_PAYLOAD = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)  # fmt: skip
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_NO_FILES = (tarfile.DIRTYPE, b"D", b"V")
"""Folders, GNU tar's lists of a folder's names, and volume labels: they hold no sample's data."""
_ODD = {
    tarfile.LNKTYPE: "hard_link",
    tarfile.SYMTYPE: "symbolic_link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "named_pipe",
    tarfile.GNUTYPE_SPARSE: "sparse_member",
}
"""Kinds of members that hold no content that can be read forwards; any other is unknown."""
_SPARSE_MORE_AT, _SPARSE_NEXT_AT = 482, 504
"""Offsets where a header of GNU's sparse format, and each block after it, says that one follows."""
_LONG_NAMES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_ABOUT_OTHERS = (*_LONG_NAMES, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)
_OTHER_FORMATS = {
    b"PAR1": "Parquet",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip, whose name must end in .tar.gz or .tgz",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class Member(NamedTuple):
    r"""A file of the archive whose payload, if it has one, is whole.

    Attributes:
        name: As the archive has it; bytes that are not UTF-8 are written ``\xNN``.
        start: Where its first header lies, headers that only hold a long name included.
        size: Of the payload, in bytes.
        content: The payload, if it was asked for.
        odd: Why it cannot be read, as the reason of a reject: it is a link, a device, a pipe, a
            sparse file or of an unknown type. ``""`` for a regular member.
    """

    name: str
    start: int
    size: int
    content: bytes | None = None
    odd: str = ""


class _Header(NamedTuple):
    """What a header says of its member."""

    name: str
    size: int
    type: bytes


@dataclass(slots=True)
class _Extended:
    """Extended headers that describe the following member."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False

    def take(self, records: Mapping[bytes, bytes]) -> None:
        """Take over the records of a pax header.

        Raises:
            ValueError: If a size is none.
        """
        if b"path" in records:
            self.name = _text(records[b"path"])
        if b"size" in records:
            self.size = int(records[b"size"])
        self.is_sparse = any(key.startswith(b"GNU.sparse.") for key in records)
        if b"GNU.sparse.name" in records:  # the member's own name; ``path`` is made up
            self.name = _text(records[b"GNU.sparse.name"])


class Tar:
    """The members of an archive, from where its source stands.

    Attributes:
        problem: Once `members` is exhausted: why the archive cannot be trusted beyond the last
            member, or null if it is complete.
        is_closed: Whether the end-of-archive marker was seen.
        cut: The member whose header was read and whose payload is short.
    """

    def __init__(self, source: ByteSource) -> None:
        self.problem: str | None = None
        self.cut: Member | None = None
        self.is_closed = False
        self._source = source

    def members(self, wants: Callable[[str, int], bool]) -> Iterator[Member]:
        """Yield the members in order, each once its payload has been passed.

        Folders, volume labels and headers about other members are left out.

        Args:
            wants: Asked with the name and the size of a regular member whether to load the
                payload, which is then held in memory whole.
        """
        start, extended = self._source.at, _Extended()
        while (header := self._header()) is not None:
            if header.type in _ABOUT_OTHERS:
                if not self._extend(header, extended):
                    return
                continue
            member = _member(header, extended, start)
            if member.size < 0 or len(member.name) > NAME_LIMIT:
                self._fail(f"bad header at byte {start}")
                return
            is_file = header.type not in _NO_FILES
            whole = self._payload(member, not member.odd and wants(member.name, member.size))
            if whole is None:
                self._fail(f"ends at byte {self._source.at} inside member {shown(member.name)}")
                self.cut = member if is_file else None
                return
            if is_file:
                yield whole
            start, extended = self._source.at, _Extended()

    def _payload(self, member: Member, load: bool) -> Member | None:
        content = self._source.read(member.size) if load else None
        passed = self._source.skip(member.size) if content is None else len(content)
        if passed < member.size:
            return None
        self._source.skip(-member.size % BLOCK_BYTES)
        return Member(member.name, member.start, member.size, content, member.odd)

    def _fail(self, problem: str) -> None:
        because = f" ({self._source.problem})" if self._source.problem else ""
        self.problem = problem + because

    def _header(self) -> _Header | None:
        start = self._source.at
        block = self._source.read(BLOCK_BYTES)
        if start == 0 and (other := _other_format(block)):
            self._fail(other)
        elif not block.strip(b"\0"):
            self._end(block)
        elif len(block) < BLOCK_BYTES:
            self._fail(f"ends at byte {self._source.at} inside a header")
        else:
            try:
                header = _plain(block) or _header_of(block)
            except tarfile.HeaderError:
                odd = f"is not a tar: starts with {block[:8]!r}"
                self._fail(f"bad header at byte {start}" if start else odd)
            else:
                is_sparse = header.type == tarfile.GNUTYPE_SPARSE
                if not is_sparse or self._skip_map(block[_SPARSE_MORE_AT]):
                    return header
        return None

    def _skip_map(self, is_more: int) -> bool:
        """Pass over the blocks that go on with a sparse member's map; False if they are short."""
        while is_more:
            block = self._source.read(BLOCK_BYTES)
            if len(block) < BLOCK_BYTES:
                self._fail(f"ends at byte {self._source.at} inside a header")
                return False
            is_more = block[_SPARSE_NEXT_AT]
        return True

    def _end(self, first: bytes) -> None:
        start = self._source.at - len(first)
        if first + self._source.read(BLOCK_BYTES) != _ZEROS + _ZEROS:
            self._fail(f"has no end-of-archive marker at byte {start}")
            return
        self.is_closed = True
        while rest := self._source.read(SKIP_BYTES):
            if rest.strip(b"\0"):
                self._fail(f"goes on after its end-of-archive marker at byte {start}")
                return
        if self._source.problem:
            self._fail("is damaged after its end-of-archive marker")

    def _extend(self, header: _Header, extended: _Extended) -> bool:
        """Take over what a header says about the next member; False if that cannot be read."""
        start = self._source.at - BLOCK_BYTES
        if not 0 <= header.size <= EXTENDED_HEADER_BYTES:
            self._fail(f"bad header at byte {start}")
            return False
        content = self._source.read(header.size)
        if len(content) < header.size:
            self._fail(f"ends at byte {self._source.at} inside a header")
            return False
        self._source.skip(-header.size % BLOCK_BYTES)
        if header.type not in _LONG_NAMES:
            return True
        if header.type == tarfile.GNUTYPE_LONGNAME:
            extended.name = _text(content.partition(b"\0")[0])
            return True
        try:
            extended.take(_records(content))
        except ValueError:
            self._fail(f"bad header at byte {start}")
            return False
        return True


def _plain(block: bytes) -> _Header | None:
    """Return the header of a regular file in a tenth of `tarfile`'s time; null leaves it to that.

    A checksum is the sum of all bytes, its own eight taken for blanks. Of up to 256 bytes that is
    the low half of Adler-32, less one.
    """
    match = _PLAIN.match(block)
    if match is None:
        return None
    name, size, checksum, prefix = match.groups()
    sums = [zlib.adler32(part) & 0xFFFF for part in (block[:148], block[156:400], block[400:])]
    if sum(sums) - len(sums) + 8 * ord(" ") != int(checksum, 8):
        return None
    text = _text(name.partition(b"\0")[0])
    if prefix[0]:
        text = f"{_text(prefix.partition(_ZEROS[:1])[0])}/{text}"
    return _Header(text, int(size, 8), tarfile.REGTYPE)


def _header_of(block: bytes) -> _Header:
    """Return a header of any kind.

    Raises:
        tarfile.HeaderError: If it is none.
    """
    found = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    return _Header(found.name, found.size, found.type)


def _member(header: _Header, extended: _Extended, start: int) -> Member:
    """Return what its headers say of a member.

    Links, devices, pipes and folders have no payload, whatever size their header states.
    """
    odd = "" if header.type in _REGULAR else _ODD.get(header.type, "unknown_member")
    has_payload = header.type not in _WITHOUT_PAYLOAD
    size = header.size if extended.size is None else extended.size
    return Member(
        header.name if extended.name is None else extended.name,
        start,
        size if has_payload else 0,
        odd="sparse_member" if extended.is_sparse and not odd else odd,
    )


def shown(name: str) -> str:
    """Return a member's name or a key as a message can carry it: quoted and of bounded length."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")


def _records(content: bytes) -> dict[bytes, bytes]:
    """Return the ``length key=value`` records of a pax header.

    Raises:
        ValueError: If a record is not of this form.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(content) and content[at]:
        space = content.index(b" ", at, at + 20)
        end = at + int(content[at:space])
        if not space < end <= len(content):
            raise ValueError(f"record of {end - at} bytes at byte {at}")
        key, _, value = content[space + 1 : end - 1].partition(b"=")
        records[key] = value
        at = end
    return records


def _other_format(block: bytes) -> str | None:
    if not block:
        return "is empty"
    for magic, name in _OTHER_FORMATS.items():
        if block.startswith(magic) and block[257:262] != b"ustar":
            return f"is not a tar: starts with {magic!r} ({name})"
    return None

"""A folder of images as a shard, with captions beside them or in Hugging Face's metadata files.

A sample is what files of one name without their extension hold. Its caption is the metadata's
where they name its image, else that of a ``.txt`` or ``.json`` beside it.
"""

import posixpath
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from scanner.errors import ShardError
from scanner.records import Caption, Reject, RejectReason
from scanner.shards.columns import ColumnError, Columns
from scanner.shards.listing import Entry, keep, listed_as
from scanner.shards.rows import Found, TableIndex, sample
from scanner.shards.samples import IMAGE_BYTES, LIMITS, Fragment, Part, item
from scanner.shards.shard import Chunk, Shard, stat
from scanner.shards.tar import shown

MOST_SAMPLES = 1_000_000
_Bad = tuple[RejectReason, str]
_NAMELESS = (
    RejectReason.BAD_CSV, RejectReason.BAD_JSON, RejectReason.HALF_SAMPLE,
    RejectReason.MEMBER_TOO_LARGE,
)  # fmt: skip
"""Why a row of metadata cannot be read at all, so that it names no image."""


@dataclass(slots=True)
class _Sample:
    """Files of one name, and what metadata say of its image.

    Attributes:
        key: The name without its extension.
        parts: The file that counts, by what it holds: ``text``, ``json`` or ``image``.
        said: The metadata's row, if there is one.
        bad: Why it cannot be scored, whatever it holds.
    """

    key: str
    parts: dict[str, Entry] = field(default_factory=dict[str, Entry])
    said: Caption | Reject | None = None
    bad: _Bad | None = None


@dataclass(frozen=True, slots=True)
class _Content:
    """The samples of a folder in order, what is wrong with its metadata, and their column."""

    samples: list[_Sample]
    problem: str | None
    says: str


_kept = dict[Shard, _Content]()
"""The last folders of this process, as their chunks are read one after another."""


class Folder:
    """A folder that is as it was found.

    Args:
        shard: As it was found.
        columns: Of its metadata.

    Raises:
        ShardError: If it changed, or its metadata cannot be read.
    """

    def __init__(self, shard: Shard, columns: Columns) -> None:
        if columns.key or columns.image:
            raise ColumnError(
                f"{shard.url}: keys are the images' paths and images are files: of a folder, name "
                f"a column of captions only"
            )
        self.url = shard.url
        entries = listed_as(shard).entries
        content = _kept.get(shard)
        if content is None:
            content = _content(shard, entries, columns)
            keep(_kept, shard, content)
        self._content = content
        self.names, self.likely, self.found = (), list[str](), Found(content.says)

    def says(self) -> str:
        """Return for a person what is read as captions and keys."""
        return f"captions from {self._content.says}, keys are paths"

    def index(self, chunk_size: int) -> TableIndex:
        """Return how many samples there are."""
        count = len(self._content.samples)
        if count > MOST_SAMPLES:
            problem = f"has more than {MOST_SAMPLES} samples: name its folders one by one"
            return TableIndex(0, [], problem)
        problem = self._content.problem or (None if count else "holds no image and no caption")
        return TableIndex(count, [()] * -(-count // chunk_size), problem)

    def read(
        self, chunk: Chunk, marked: Mapping[int, tuple[RejectReason, str]], *,
        images: bool, captions: bool,
    ) -> Iterator[Caption | Reject]:  # fmt: skip
        """Yield the samples of a chunk.

        Args:
            chunk: Of `index`.
            marked: Has no meaning here.
            images: Whether to load images.
            captions: Whether samples have captions, and need one.

        Raises:
            ShardError: If a file changed since it was listed.
        """
        for each in self._content.samples[chunk.offset : chunk.offset + chunk.samples]:
            yield self._item(each, images=images, captions=captions)

    def pictures(self, rows: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """Yield row and encoded image of some rows; those that cannot be read are not there."""
        for row in sorted(rows):
            entry = self._content.samples[row].parts.get("image")
            is_sound = entry is not None and not entry.odd and entry.size <= IMAGE_BYTES
            if entry is None or not is_sound or self._content.samples[row].bad:
                continue
            try:
                yield row, entry.content()
            except OSError:
                continue

    def rows_of(self, keys: Collection[str]) -> dict[int, str]:
        """Return the places of samples with these keys in the order of the folder."""
        every = self._content.samples
        return {n: each.key for n, each in enumerate(every) if each.key in keys and not each.bad}

    def images(self, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield key and encoded image of the samples that are wanted."""
        rows = self.rows_of(keys)
        for row, content in self.pictures(rows):
            yield rows[row], content

    def _item(self, each: _Sample, *, images: bool, captions: bool) -> Caption | Reject:
        if each.bad:
            return Reject(self.url, each.key, *each.bad)
        wanted = {"image"} if images else set[str]()
        wanted |= {"text", "json"} if each.said is None else set()
        fragment = Fragment(each.key, 0)
        for kind, entry in each.parts.items():
            if entry.odd:
                return Reject(self.url, each.key, entry.odd, f"{shown(entry.name)} is not read")
            content = None
            if kind in wanted and entry.size <= LIMITS[kind]:
                try:
                    content = entry.content()
                except OSError as error:
                    detail = f"{shown(entry.name)}: {error.strerror or error}"
                    return Reject(self.url, each.key, RejectReason.UNREADABLE_FILE, detail)
            if kind == "image" or each.said is None:
                part = Part(each.key, entry.extension.lower(), kind, 0, entry.name, content)
                fragment.add(part, entry.size)
        if each.said is None or not captions:
            return item(fragment, self.url, None, captions=captions)
        return self._with(each, fragment)

    def _with(self, each: _Sample, fragment: Fragment) -> Caption | Reject:
        """Return a sample with what the metadata say."""
        said = each.said
        if isinstance(said, Reject):
            return Reject(self.url, each.key, said.reason, said.detail, said.caption_sha256)
        image = fragment.parts.get("image")
        if said is None or fragment.oversized:
            return item(fragment, self.url, None)
        content = None if image is None else image.content
        return sample(self.url, each.key, said.text, said.url, content, None, captions=True)


def _content(shard: Shard, entries: list[Entry], columns: Columns) -> _Content:
    """Return the samples of a folder.

    Raises:
        ShardError: If its metadata cannot be read.
        ColumnError: If a column was asked for, and there is no metadata.
    """
    samples, others = dict[str, _Sample](), list[_Sample]()
    metadata = [entry for entry in entries if entry.is_metadata]
    for entry in entries:
        kind, rank = entry.kind
        if entry.is_metadata:
            continue
        if not kind:
            others.append(_Sample(entry.name, bad=_link(entry)))
            continue
        into = samples.setdefault(entry.stem, _Sample(entry.stem))
        before = into.parts.get(kind)
        if before is None or rank < before.kind[1]:
            into.parts[kind] = entry
        rest = entry if before is None or into.parts[kind] is before else before
        if before is not None and kind == "image":
            others.append(_Sample(entry.stem, {kind: rest}, bad=_repeated(into.parts[kind])))
    _drop_facts(samples)
    problems, says = list[str](), "" if metadata else ".txt or .json beside the images"
    _check_one_a_folder(shard, metadata)
    for entry in metadata:
        says, problem = _take_metadata(shard, entry, columns, samples, others)
        problems += [f"{entry.name} {problem}"] if problem else []
    if columns.caption and not metadata:
        raise ColumnError(f"{shard.url} has no metadata file with a column {columns.caption!r}")
    ordered = sorted([*samples.values(), *others], key=lambda each: each.key)
    return _Content(ordered, "; ".join(problems) or None, says)


def _drop_facts(samples: dict[str, _Sample]) -> None:
    """Leave out JSON files that stand beside no image and no text: they are of no sample."""
    for key in [key for key, each in samples.items() if each.parts.keys() == {"json"}]:
        del samples[key]


def _check_one_a_folder(shard: Shard, metadata: list[Entry]) -> None:
    """Refuse two metadata files side by side.

    Raises:
        ShardError: If there are.
    """
    places = dict[str, str]()
    for entry in metadata:
        other = places.setdefault(posixpath.dirname(entry.name), entry.name)
        if other != entry.name:
            raise ShardError(f"{shard.url} has {other} and {entry.name}: leave one of them")


def _take_metadata(
    shard: Shard, entry: Entry, columns: Columns, samples: dict[str, _Sample],
    others: list[_Sample],
) -> tuple[str, str | None]:  # fmt: skip
    """Give samples the captions of a metadata file; return its column, and what is wrong with it.

    Raises:
        ShardError: If it cannot be read, or has not the columns.
    """
    from scanner.shards.table_shards import index_table, opened

    if entry.odd:
        raise ShardError(f"{shard.url}: {entry.name} is {entry.odd.meaning}")
    url = Columns(caption=columns.caption, key="file_name").in_address(entry.path)
    whole = index_table(stat(url), MOST_SAMPLES + 1)
    if not whole.samples:
        raise ShardError(f"{shard.url}: {entry.name} {whole.problem}")
    with opened(whole.shard) as table:
        column = table.found.caption
    for chunk in whole.chunks:
        marked = {n: (reason, detail) for n, reason, detail in chunk.marked}
        with opened(whole.shard) as table:
            for said in table.read(chunk, marked, images=False, captions=True):
                _give(said, entry, samples, others)
    return f"column {column} of {entry.name.rpartition('/')[2]}", whole.problem


def _give(
    said: Caption | Reject, entry: Entry, samples: dict[str, _Sample], others: list[_Sample]
) -> None:
    """Give the sample of an image its row of the metadata."""
    if isinstance(said, Reject) and said.reason in _NAMELESS:
        others.append(_Sample(f"{entry.name}:{said.key}", bad=(said.reason, said.detail)))
        return
    folder = posixpath.dirname(entry.name)
    name = posixpath.normpath(posixpath.join(folder, said.key))
    if name.startswith(("../", "/")) or name == ".." or "\0" in name:
        detail = f"{entry.name} names {shown(said.key)}, which is outside of the folder"
        others.append(_Sample(said.key, bad=(RejectReason.OUTSIDE_FOLDER, detail)))
        return
    image = Entry(name, "", 0, 0)
    key = image.stem if image.extension else f"{entry.name}:{said.key}"
    into = samples.get(key)
    if into is None:
        samples[key] = _Sample(key, said=said)
    elif into.said is None:
        into.said = said
    else:
        detail = f"{entry.name} names {shown(said.key)}, whose key came before"
        others.append(_Sample(key, bad=(RejectReason.DUPLICATE_KEY, detail)))


def _link(entry: Entry) -> _Bad:
    return entry.odd or RejectReason.SYMBOLIC_LINK, "a link to a folder is not followed"


def _repeated(other: Entry) -> _Bad:
    return RejectReason.DUPLICATE_KEY, f"{shown(other.name)} has the same name but for its ending"

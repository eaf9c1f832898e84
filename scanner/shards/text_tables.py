"""CSV, TSV and JSONL tables in the place of shards: read forwards, a chunk from its first byte."""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from scanner.errors import ShardError
from scanner.records import Caption, Reject, RejectReason
from scanner.shards.addresses import file_name
from scanner.shards.byte_sources import ByteSource
from scanner.shards.columns import (
    KEYS,
    URLS,
    ColumnError,
    Columns,
    caption_problem,
    captions_among,
    kind_of,
)  # fmt: skip
from scanner.shards.kinds import Kind
from scanner.shards.lines import Lines
from scanner.shards.rows import MOST_ROWS, Found, Keys, TableIndex, marks, repeats, row_key, sample
from scanner.shards.samples import RejectError
from scanner.shards.shard import Chunk
from scanner.shards.text_rows import CsvRows, JsonRows, TextRow


class TextTable:
    """An open table of text.

    Args:
        source: At its beginning; inflated.
        url: Its address, for messages and samples.
        columns: As the address names them.

    Raises:
        ShardError: If it is no such text, or has not the columns.
    """

    def __init__(self, source: ByteSource, url: str, columns: Columns) -> None:
        self.url = url
        self._lines = Lines(source)
        name = file_name(url).lower().removesuffix(".gz")
        if kind_of(url) is Kind.JSONL:
            self._rows: CsvRows | JsonRows = JsonRows(self._lines, url)
        else:
            self._rows = CsvRows(self._lines, url, is_tsv=name.endswith(".tsv"))
        self.names = self._rows.names
        if columns.image:
            raise ColumnError(
                f"{url} is text and holds no images: pack them with the captions, or name a "
                f"folder of images with a metadata.jsonl or metadata.csv"
            )
        self.likely = [columns.caption] if columns.caption else captions_among(self.names)
        caption = self.likely[0] if len(self.likely) == 1 else ""
        self.found = Found(
            self._named(caption, (), "caption"),
            self._named(columns.key, KEYS, "key"),
            url=self._named("", URLS, "url"),
        )

    def says(self) -> str:
        """Return for a person what is read as captions, keys and images."""
        return self.found.says()

    def index(self, chunk_size: int) -> TableIndex:
        """Return how many rows there are, where chunks begin, and which keys came before.

        Raises:
            ShardError: If the file cannot be read on.
        """
        if not self.found.caption:
            return TableIndex(0, [], caption_problem(self.names, self.likely))
        keys, offsets, count = Keys(), list[int](), 0
        last: TextRow | None = None
        for row in self._rows.rows():
            if count == MOST_ROWS:
                return TableIndex(0, [], f"has more than {MOST_ROWS} rows: split it")
            if count % chunk_size == 0:
                offsets.append(row.start)
            if self.found.key:
                keys.add(self._key_of(row, count))
            count, last = count + 1, row
        if last is None:
            return TableIndex(0, [], self._lines.problem or "is a table without rows")
        found = repeats(keys) if self.found.key else []
        problem = self._end_problem(last, count)
        if problem and last.is_cut:
            half = RejectReason.HALF_SAMPLE, "the table is cut inside this row"
            found = [each for each in found if each[0] != count - 1] + [(count - 1, *half)]
        return TableIndex(count, marks(count, chunk_size, found), problem, offsets)

    def read(
        self, chunk: Chunk, marked: Mapping[int, tuple[RejectReason, str]], *,
        images: bool, captions: bool,
    ) -> Iterator[Caption | Reject]:  # fmt: skip
        """Yield the samples of a chunk.

        Args:
            chunk: Of `index`.
            marked: Reason and detail of rejects, by position in the chunk.
            images: Has no meaning here: a text holds none.
            captions: Whether samples have captions, and need one.

        Raises:
            ShardError: If the file cannot be read, or has fewer rows.
        """
        self._lines.go_to(chunk.offset)
        number = 0
        for number, row in enumerate(islice(self._rows.rows(), chunk.samples), 1):
            place = number - 1
            yield self._sample(row, chunk.row + place, marked.get(place), captions=captions)
        if number != chunk.samples:
            raise ShardError(
                f"{self.url} gave {number} of the {chunk.samples} rows of chunk {chunk.number}: "
                f"it changed after it was indexed; scan it again when it is at rest"
            )

    def pictures(self, rows: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """Yield nothing: a text holds no images."""
        yield from ()

    def rows_of(self, keys: Collection[str]) -> dict[int, str]:
        """Return the rows that samples with these keys stand in: the first of each key.

        Raises:
            ShardError: If the file cannot be read on.
        """
        left, rows = set(keys), dict[int, str]()
        for number, row in enumerate(self._rows.rows()):
            key = self._key_of(row, number) if self.found.key else f"{number:09d}"
            if key in left:
                left.discard(key)
                rows[number] = key
            if not left:
                break
        return rows

    def images(self, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield nothing: a text holds no images."""
        yield from ()

    def _sample(
        self, row: TextRow, number: int, mark: tuple[RejectReason, str] | None, *, captions: bool
    ) -> Caption | Reject:
        found = self.found
        wanted = (found.caption if captions else "", found.key, found.url)
        try:
            text, key, address = self._rows.cells(row, wanted)
        except RejectError as refused:
            reason, detail = mark or (refused.reason, f"row {number} {refused.detail}")
            return Reject(self.url, row_key(None, number), reason, detail)
        return sample(self.url, row_key(key, number), text, address, None, mark, captions=captions)

    def _key_of(self, row: TextRow, number: int) -> str:
        try:
            (key,) = self._rows.cells(row, [self.found.key])
        except RejectError:
            return f"\0{number}"  # a bad row has no key that another could have
        return row_key(key, number)

    def _end_problem(self, last: TextRow, count: int) -> str | None:
        """Return why the rows are not all, null if they are."""
        if self._lines.problem:
            return f"{self._lines.problem} after {count} rows"
        if last.is_cut:
            try:
                self._rows.cells(last, [self.found.caption])
            except RejectError as refused:
                return f"ends inside row {count - 1}: it {refused.detail}"
        return None

    def _named(self, wanted: str, usual: tuple[str, ...], what: str) -> str:
        if wanted and wanted not in self.names:
            raise ColumnError(
                f"{self.url} has no column {wanted!r} of {what}s, only {', '.join(self.names[:20])}"
            )
        found = wanted or next((name for name in usual if name in self.names), "")
        if found and self.names.count(found) > 1:
            raise ColumnError(
                f"{self.url} has {self.names.count(found)} columns {found!r}: rename one"
            )
        return found

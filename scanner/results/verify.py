"""Proof of a run's integrity: every committed chunk whole, once, and accounted for."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from scanner.collection import without_collection
from scanner.errors import ResultsError, ShardError
from scanner.results import coverage, manifest
from scanner.results.commit_file import CommitFile, DataFile
from scanner.results.file_checks import check_files, stored_files
from scanner.results.folder import Results
from scanner.results.manifest import History, RowRange
from scanner.results.problems import Problem, Verification
from scanner.shards import reading

Progress = Callable[[int, int, str], None]
PackRanges = Mapping[str, Mapping[str, RowRange]]


@without_collection()
def verify(results: Results, run: str, meter: Progress, *, keys: bool = False) -> Verification:
    """Check a run: commits against its record, files against commits, no sample twice.

    Of the run: every chunk that its record knows as committed still has a commit record.
    Of every chunk: its files are there with their size, digest and number of rows; the rows
    account for its samples. Of every shard: its chunks neither overlap nor leave a gap before
    the last one. Over the run: no (shard, key, seed) twice. Memory grows by sixteen bytes a row.

    Args:
        results: The results.
        run: The run.
        meter: Shown how many chunks are checked.
        keys: Whether shards are read again, where they still are as they were, and their keys
            compared with the rows.

    Raises:
        ResultsError: If the store cannot be reached.
    """
    found, seen = Verification(run), set[bytes]()
    try:
        history = results.history(run)
        names = results.committed(run, history)
    except ResultsError as error:
        found.problems.append(Problem("record", "", str(error)))
        return found
    by_shard, listed = defaultdict[str, list[CommitFile]](list), set[str]()
    for files, records, pack in _files_and_chunks(results, history, names, found):
        listed |= {file.path for file in files.values()}
        for record in records:
            by_shard[record.place.shard_id if record.place else record.chunk].append(record)
        found.chunks += len(records)
        found.samples += sum(record.counts.samples for record in records)
        found.problems += check_files(results, files, records, seen, pack)
        meter(found.chunks, len(names), f"{len(found.problems)} problems")
    _check_committed(results, [r for records in by_shard.values() for r in records], found)
    for records in by_shard.values():
        found.problems += _check_ranges(records)
    found.shards = len(by_shard)
    if keys:
        packed = history.row_ranges()
        for records in by_shard.values():
            found.problems += _check_keys(results, records, found, packed)
    replaced = {name for pack in history.effective() for name in history.replaced(pack)}
    unlisted = [entry.name for entry in stored_files(results, run) if entry.name not in listed]
    found.problems += [Problem("orphan", "", name) for name in unlisted if name not in replaced]
    if left := sum(name in replaced for name in unlisted):
        found.notes.append(f"{left} files are packed: memscan compact --remove-old removes them")
    return found


def _check_committed(results: Results, records: list[CommitFile], found: Verification) -> None:
    """Compare a run's record with the commit records that can be read."""
    try:
        record = results.run_file(found.run)
    except ResultsError as error:
        found.problems.append(Problem("record", "", f"{error}; the same scan writes it anew"))
        return
    commits = {own.chunk: own for own in records}
    found.problems += [
        Problem("commit", "", text) for text in coverage.missing(record.content, commits)
    ]
    if coverage.recorded(record.content) is None:
        found.notes.append(coverage.NOT_RECORDED)
    if record.status in ("running", "interrupted", "failed"):
        left = sum(len(own.open) for own in coverage.committed(records).values())
        found.notes.append(
            f"the run is not finished ({record.status}): at least {left} chunks are not committed; "
            f"the same scan goes on"
        )


def strays(results: Results) -> list[Problem]:
    """Return the runs that have commits and no record, which nothing lists.

    Raises:
        ResultsError: If the store cannot be read.
    """
    known = set(results.runs())
    return [
        Problem("record", "", f"run {run} has commits and no record runs/{run}.json: the same "
                f"scan writes it anew")
        for run in results.store.folders("commits") if run not in known
    ]  # fmt: skip


def _files_and_chunks(
    results: Results, history: History, names: list[str], found: Verification
) -> Iterator[tuple[Mapping[str, DataFile], list[CommitFile], int | None]]:
    """Yield files by table with the chunks whose rows they hold: packs, then single chunks."""
    for pack in history.effective():
        yield pack.files, list(pack.commits.values()), pack.number
    packed = history.commits()
    for name in names:
        try:
            record = None if name in packed else results.read_commit(found.run, name)
        except ResultsError as error:
            found.problems.append(Problem("record", name, str(error)))
            continue
        if record is not None:
            yield record.files, [record], None


def _check_ranges(records: list[CommitFile]) -> Iterator[Problem]:
    """Compare a shard's committed ranges; what is not committed yet at its end is no problem."""
    placed = [(record.place, record.chunk) for record in records if record.place is not None]
    placed.sort(key=lambda pair: (pair[0].number, pair[0].start))
    for (before, earlier), (after, chunk) in pairwise(placed):
        if after.number == before.number and after.start < before.stop:
            text = f"samples {after.start} to {before.stop} are in {earlier} too"
            yield Problem("range", chunk, text)
    if len({place.shard_chunks for place, _ in placed}) > 1:
        yield Problem("range", placed[0][1], f"{placed[0][0].shard} was cut in two ways")


def _check_keys(
    results: Results, records: list[CommitFile], found: Verification, packed: PackRanges
) -> Iterator[Problem]:
    """Compare a shard's keys with the rows of its whole chunks."""
    placed = [(record, record.place) for record in records if record.place is not None]
    if not placed:
        return
    url = placed[0][1].shard
    try:
        shard = reading.stat(url)
        if shard.id != placed[0][1].shard_id:
            return
        size = max(place.chunk_samples for _, place in placed)
        chunks = {chunk.number: chunk for chunk in reading.index(shard, size).chunks}
        found.shards_read += 1
        for record, place in placed:
            chunk = chunks.get(place.number)
            if chunk is None or (place.start, place.stop) != (0, chunk.samples):
                continue
            wanted = sorted(item.key for item in reading.read(chunk, images=False))
            places = packed.get(record.chunk, manifest.own_ranges(record))
            kept = sorted(_stored_keys(results, places))
            if wanted != kept:
                text = f"{len(set(wanted) - set(kept))} keys of the shard have no row"
                yield Problem("keys", record.chunk, text)
    except ShardError as error:
        found.notes.append(f"{url} was not compared: {error}")


def _stored_keys(results: Results, places: Mapping[str, RowRange]) -> Iterator[str]:
    for table in ("scores", "rejects"):
        if place := places.get(table):
            at = (place.file.path, place.start, place.stop)
            keys = results.read_rows(*at, columns=["key"])["key"].to_pylist()
            yield from set(keys) if table == "scores" else keys

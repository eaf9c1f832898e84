"""The samples of a task, and the images of its captions."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from scanner.engine.queue import Task
from scanner.errors import ShardError, reproducible
from scanner.records import Caption, Reject, RejectReason
from scanner.shards import reading
from scanner.spec import ScanSpec

if TYPE_CHECKING:
    from scanner.scan.rows import Images


def read_samples(task: Task, spec: ScanSpec) -> Iterator[tuple[int, Caption | Reject]]:
    """Yield a task's samples with their positions in the chunk, the poisoned as rejects.

    Args:
        task: What to read.
        spec: Says whether images or captions are scored, or both.

    Raises:
        ShardError: If the shard has fewer samples than when it was counted.
    """
    images = spec.source != "generated"
    samples = reading.read(task.unit.chunk, images=images, captions=spec.captions)
    items = islice(samples, task.start, task.stop)
    poison, end = dict(task.poison), task.start
    for position, item in enumerate(items, task.start):
        end = position + 1
        reason = None if isinstance(item, Reject) else poison.get(position)
        if reason is not None and not isinstance(item, Reject):
            text = reproducible(reason.partition("\n")[0])
            yield position, Reject(item.shard, item.key, RejectReason.POISON, text, item.sha256)
        else:
            yield position, item
    if end != task.stop:
        raise ShardError(
            f"{task.unit.chunk.shard.url} has changed since it was counted: "
            f"chunk {task.unit.chunk.number} ends after {end} samples, not {task.stop}"
        )


def image_reader(task: Task, captions: Mapping[int, Caption]) -> "Images":
    """Return what reads the images of captions, which it is given as numbers in their order."""
    positions = list(captions)

    def images(wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        numbers = {positions[number]: number for number in wanted}
        keys = {position: captions[position].key for position in numbers}
        for position, content in reading.pictures(task.unit.chunk, keys):
            yield numbers[position], content

    return images


def no_images(_: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Yield nothing: training images are not asked for."""
    yield from ()

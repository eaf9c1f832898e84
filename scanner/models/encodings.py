"""Encodings of captions: each is made once, in batches of one size, and kept on the CPU."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from scanner.models.encoder import Parts

Encode = Callable[[Sequence[str]], Sequence[Parts]]
"""From up to `TOGETHER` captions to the encoding of each."""
Encoders = Callable[[], AbstractContextManager[Encode]]
"""Provides, for a while, what encodes captions."""

TOGETHER = 8
"""Captions that are encoded at a time."""

ENCODING_BYTES = 512 * 2**20
"""Most bytes of encodings that a model keeps."""


class EncodingCache:
    """What text encoders gave for captions, the longest unused leaving first.

    Tensors keep the precision that the encoder gave them, so a caption is the same to the last
    bit whether it is found here or encoded again.

    Args:
        room: Bytes for tensors.

    Attributes:
        taken: Bytes that are taken.
    """

    def __init__(self, room: int = ENCODING_BYTES) -> None:
        self.room, self.taken = room, 0
        self._kept: OrderedDict[str, Parts] = OrderedDict()

    def of(
        self, captions: Sequence[str], encoder: str, encoders: Encoders, coming: Sequence[str] = ()
    ) -> list[Parts]:
        """Return the encodings of captions, on the CPU.

        Args:
            captions: Any number; each is encoded once, however often it stands there.
            encoder: Name of the encoders. What one gave is never taken for another's.
            encoders: Entered only if a caption is not here.
            coming: Captions that will be asked for next. They are encoded along with the first
                that is not here, up to half of the room.
        """
        found, missing = dict[str, Parts](), list[str]()
        for caption in dict.fromkeys(captions):
            parts = self._get(_key(caption, encoder))
            if parts is None:
                missing.append(caption)
            else:
                found[caption] = parts
        if missing:
            with encoders() as encode:
                for some in _in_groups(missing):
                    found |= self._added(some, encoder, encode)
                self._look_ahead(coming, encoder, encode)
        return [found[caption] for caption in captions]

    def _look_ahead(self, captions: Sequence[str], encoder: str, encode: Encode) -> None:
        spent = 0
        new = [caption for caption in captions if _key(caption, encoder) not in self._kept]
        for some in _in_groups(new):
            if spent > self.room // 2:
                return
            spent += sum(map(_bytes, self._added(some, encoder, encode).values()))

    def _added(self, captions: Sequence[str], encoder: str, encode: Encode) -> dict[str, Parts]:
        """Encode a group of captions and keep what it gave; return it by caption."""
        pairs = zip(captions, encode(captions), strict=True)
        return {caption: self._add(_key(caption, encoder), parts) for caption, parts in pairs}

    def _get(self, key: str) -> Parts | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _add(self, key: str, given: Parts) -> Parts:
        """Keep an encoding, unless it alone exceeds the room; return it as it is kept."""
        parts = {name: part.detach().cpu().contiguous().clone() for name, part in given.items()}
        size = _bytes(parts)
        if size <= self.room:
            self._kept[key] = parts
            self.taken += size
        while self.taken > self.room:
            self.taken -= _bytes(self._kept.popitem(last=False)[1])
        return parts


def _in_groups(captions: Sequence[str]) -> list[Sequence[str]]:
    return [captions[start : start + TOGETHER] for start in range(0, len(captions), TOGETHER)]


def _key(caption: str, encoder: str) -> str:
    digest = hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest} {encoder}"


def _bytes(parts: Parts) -> int:
    """Return the bytes of tensors that share their memory with no other."""
    return sum(part.untyped_storage().nbytes() for part in parts.values())

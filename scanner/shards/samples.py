"""From the members of a tar to captions and rejects, by webdataset's naming convention.

A sample is a run of consecutive members with one key. Only members on the allow-list are ever
loaded, as text, JSON or opaque image bytes; nothing here decodes an image or executes anything.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from scanner.records import Caption, Reject, RejectReason
from scanner.shards.tar import Member, Tar, shown

CAPTION_BYTES = 64 << 10
JSON_BYTES = 1 << 20
IMAGE_BYTES = 64 << 20
MEMBERS_PER_SAMPLE = 64

LIMITS = {"text": CAPTION_BYTES, "json": JSON_BYTES, "image": IMAGE_BYTES}
ALLOWED = {  # extension -> what it holds, and which one counts if a sample has several
    "txt": ("text", 0),
    "text": ("text", 1),
    "caption": ("text", 2),
    "json": ("json", 0),
    "jpg": ("image", 0),
    "jpeg": ("image", 1),
    "png": ("image", 2),
    "webp": ("image", 3),
}
_NESTED = 10
_SAMPLE = re.compile(r"(?P<key>(?:.*/)?[^.]+)\.(?P<extension>[^/]*)")
"""A member's key and extension, as WebDataset splits them: at the first dot of the file's name.

Its own function for it takes a second to import, with torch.
"""
_META = re.compile(r"__[^/]*__($|/)")


class RejectError(Exception):
    """A sample has no caption that can be scored: a reason and what was found."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Part(NamedTuple):
    """One member in its sample.

    Attributes:
        key: Of the sample.
        extension: Behind the key, in small letters.
        kind: ``text``, ``json`` or ``image``; ``""`` for what is not on the allow-list.
        rank: Which one counts if a sample has several of a kind: the smallest.
        name: As the archive or folder has it.
        content: If it was loaded.
        odd: Why it cannot be read, as a reason of a reject; ``""`` for a regular file.
    """

    key: str
    extension: str
    kind: str
    rank: int
    name: str
    content: bytes | None = None
    odd: str = ""


@dataclass(slots=True)
class Fragment:
    """Consecutive members with one key.

    Attributes:
        key: The name up to its first dot, folders included.
        start: Where its first member begins in the archive.
        extensions: Of all members.
        parts: The member that counts, by what it holds: ``text``, ``json`` or ``image``.
        oversized: Name and size of a member over its limit.
        odd: What the first member is that is no regular file (a reason of `Reject`), its name,
            and what it should hold, ``""`` if it is not on the allow-list.
        rivals: Two caption members of which neither counts more than the other.
        is_half: Whether the archive ends inside it; null where it ends right behind it, so that
            more may have been to come.
    """

    key: str
    start: int
    extensions: set[str] = field(default_factory=set)
    parts: dict[str, Part] = field(default_factory=dict)
    oversized: tuple[str, int, str] | None = None
    odd: tuple[str, str, str] | None = None
    rivals: tuple[str, str] | None = None
    is_half: bool | None = False

    @property
    def allowed(self) -> frozenset[str]:
        """The extensions on the allow-list."""
        return frozenset(e for e in self.extensions if e.rpartition(".")[2] in ALLOWED)

    def add(self, part: Part, size: int) -> None:
        """Take in the next member."""
        self.extensions.add(part.extension)
        if part.odd and (self.odd is None or not self.odd[2]):
            self.odd = (part.odd, part.name, part.kind)
        if not part.kind or part.odd:
            return
        if size > LIMITS[part.kind]:
            self.oversized = self.oversized or (part.name, size, part.kind)
        other = self.parts.get(part.kind)
        if other is None or part.rank < other.rank:
            self.parts[part.kind] = part
            if part.kind == "text":
                self.rivals = None
        elif part.rank == other.rank and part.kind == "text":
            self.rivals = (other.name, part.name)


def fragments(
    tar: Tar, load: frozenset[str], keys: Collection[str] | None = None
) -> Iterator[Fragment]:
    """Yield the fragments of a tar in order; at most two hold their content at a time.

    Where a fragment begins depends only on the members from there on, so that reading may start
    at any of them.

    Args:
        tar: Read from where it stands.
        load: What to load: ``text``, ``json``, ``image``.
        keys: Of which samples; null for all.
    """
    current: Fragment | None = None

    def wants(name: str, size: int) -> bool:
        part = _part(name)
        if part is None or part.kind not in load or size > LIMITS[part.kind]:
            return False
        return (keys is None or part.key in keys) and _is_best(part, current)

    for member in tar.members(wants):
        part = _part(member.name, member.content, member.odd)
        if part is None:
            continue
        if current is None or not _continues(current, part):
            if current is not None:
                yield current
            current = Fragment(part.key, member.start)
        current.add(part, member.size)
    yield from _remaining(current, tar)


def _is_best(part: Part, current: Fragment | None) -> bool:
    """Return whether a part begins a fragment, or beats what the current one has of its kind."""
    if current is None or not _continues(current, part):
        return True
    other = current.parts.get(part.kind)
    return other is None or part.rank < other.rank


def _continues(fragment: Fragment, part: Part) -> bool:
    return (
        fragment.key == part.key
        and part.extension not in fragment.extensions
        and len(fragment.extensions) < MEMBERS_PER_SAMPLE
    )


def _remaining(current: Fragment | None, tar: Tar) -> Iterator[Fragment]:
    cut: Member | None = tar.cut
    part = _part(cut.name) if cut else None
    if current is not None:
        if part is not None and _continues(current, part):
            current.is_half, part = True, None
        elif tar.problem and not tar.is_closed and part is None:
            current.is_half = None
        yield current
    if cut is not None and part is not None:
        yield Fragment(part.key, cut.start, {part.extension}, is_half=True)


def _part(name: str, content: bytes | None = None, odd: str = "") -> Part | None:
    """Return a member's place in its sample; null if it has no key and belongs to none."""
    if (split := _split(name)) is None:
        return None
    return Part(*split, name, content, odd)


@lru_cache(16)  # a name is split when its payload is asked for, and when it is there
def _split(name: str) -> tuple[str, str, str, int] | None:
    """Return a member's key, extension, kind and rank; null if it belongs to no sample."""
    if _META.match(name) or name.rpartition("/")[2].startswith("."):
        return None
    split = _SAMPLE.fullmatch(name)
    if split is None or not split["extension"]:
        return None
    key, extension = split["key"], split["extension"].lower()
    folders, _, last = extension.rpartition(".")
    kind, rank = ALLOWED.get(last, ("", 0))
    return key, extension, kind, rank + _NESTED * bool(folders)


def item(
    fragment: Fragment,
    shard: str,
    marked: tuple[RejectReason, str] | None,
    *,
    captions: bool = True,
) -> Caption | Reject:
    """Return what a fragment stands for.

    Args:
        fragment: With its text and JSON loaded, or its image alone.
        shard: Address of the shard.
        marked: Reason and detail of a reject that only the whole shard shows, if any.
        captions: Whether a sample must have a caption; if not, it has none.
    """
    try:
        text = _caption(fragment) if captions else _none(fragment)
    except RejectError as refused:
        return Reject(shard, fragment.key, *(marked or (refused.reason, refused.detail)))
    picture = fragment.parts.get("image")
    caption = Caption(
        shard, fragment.key, text, _url(fragment), picture.content if picture else None
    )
    if marked:
        return Reject(shard, fragment.key, *marked, caption_sha256=caption.sha256)
    return caption


def _caption(fragment: Fragment) -> str:
    _check_members(fragment, LIMITS)
    if fragment.rivals:
        one, other = map(shown, fragment.rivals)
        raise RejectError(
            RejectReason.AMBIGUOUS_CAPTION,
            f"{one} and {other} are both captions of one sample: its key ends at the first dot",
        )
    if part := fragment.parts.get("text"):
        text = _decoded(part)
    elif part := fragment.parts.get("json"):
        text = _caption_of_json(_parsed(part))
    elif fragment.odd:
        raise _odd(fragment.odd)
    else:
        found = ", ".join(shown(name) for name in sorted(fragment.extensions)[:5])
        raise RejectError(RejectReason.NO_CAPTION, f"has no txt and no json, only {found}")
    return checked(text)


def _none(fragment: Fragment) -> str:
    _check_members(fragment, ("image",))
    if fragment.odd and "image" not in fragment.parts:
        raise _odd(fragment.odd)
    return ""


def _odd(found: tuple[str, str, str]) -> RejectError:
    reason, name, _ = RejectReason(found[0]), *found[1:]
    what = reason.meaning.removeprefix("the member ")
    return RejectError(
        reason, f"member {shown(name)} {what}: pack the shard again with its content"
    )


def _check_members(fragment: Fragment, kinds: Collection[str]) -> None:
    if fragment.odd and fragment.odd[2] in kinds:
        raise _odd(fragment.odd)
    if not fragment.oversized or fragment.oversized[2] not in kinds:
        return
    name, size, kind = fragment.oversized
    raise RejectError(
        RejectReason.CAPTION_TOO_LONG if kind == "text" else RejectReason.MEMBER_TOO_LARGE,
        f"member {shown(name)} has {size} bytes, more than {LIMITS[kind]}",
    )


def checked(text: str) -> str:
    """Return a caption that can be scored.

    Raises:
        RejectError: If it is blank, too long or no valid text.
    """
    if not text.strip():
        raise RejectError(RejectReason.EMPTY_CAPTION, "the caption holds nothing but white space")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RejectError(
            RejectReason.NOT_UTF8, f"the caption holds half a character: {error}"
        ) from error
    if size > CAPTION_BYTES:
        raise RejectError(
            RejectReason.CAPTION_TOO_LONG,
            f"the caption has {size} bytes, more than {CAPTION_BYTES}",
        )
    return text


def _decoded(part: Part) -> str:
    try:
        return (part.content or b"").decode()
    except UnicodeDecodeError as error:
        raise RejectError(
            RejectReason.NOT_UTF8, f"member {shown(part.name)}: {error.reason}"
        ) from error


def _parsed(part: Part) -> dict[str, object]:
    text = _decoded(part).removeprefix("\ufeff")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RejectError(RejectReason.BAD_JSON, f"member {shown(part.name)}: {error}") from error
    return content if isinstance(content, dict) else {}


def _caption_of_json(content: dict[str, object]) -> str:
    texts = [t for k in ("caption", "text", "TEXT") if isinstance(t := content.get(k), str)]
    if not texts:
        raise RejectError(RejectReason.NO_CAPTION, "has no txt, and its json no text as caption")
    return next((text for text in texts if text.strip()), texts[0])


def _url(fragment: Fragment) -> str | None:
    part = fragment.parts.get("json")
    if part is None or part.content is None:
        return None
    try:
        content = _parsed(part)
        url = next((u for k in ("url", "URL") if isinstance(u := content.get(k), str)), None)
        return checked(url) if url else None
    except RejectError:
        return None

"""Columns of a table that stands in the place of a shard, kept in its address.

``table.parquet#caption=alt_text`` says what a scan read, so that whatever reads the results finds
the same rows again. Columns that are found by their usual names are not written down.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import parse_qsl, urlencode

from scanner.errors import ConfigError, ShardError
from scanner.shards.kinds import Kind, kind_named

CAPTIONS = ("caption", "TEXT", "text", "prompt")
"""Columns that are taken for captions, the first that is there."""
LIKELY = frozenset({"caption", "text", "prompt", "alt", "alt_text", "alttext", "description"})
"""Further names of captions, in any case; taken if there is one of them only."""
URLS = ("url", "URL")
KEYS = ("key", "__key__")
IMAGES = ("image", "jpg", "png", "webp", "jpeg")


class ColumnError(ShardError):
    """A table has not the columns that were asked for, or none that is clearly the captions."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns; ``""`` takes the usual one that is there.

    Attributes:
        caption: Of the captions.
        key: Of what names a sample within its table; without any, its row's number does.
        image: Of encoded images, as bytes or as a struct with a field ``bytes``.
    """

    caption: str = ""
    key: str = ""
    image: str = ""

    def __bool__(self) -> bool:
        return bool(self.caption or self.key or self.image)

    def in_address(self, address: str) -> str:
        """Return the address of a table with these columns."""
        named = {name: value for name, value in asdict(self).items() if value}
        return f"{address}#{urlencode(named)}" if named else address


def kind_of(address: str) -> Kind:
    """Return what a shard is by its address, with columns or without."""
    return kind_named(bare(address))


def is_parquet(address: str) -> bool:
    """Whether an address is of a Parquet table, with columns or without."""
    return kind_of(address) is Kind.PARQUET


def bare(address: str) -> str:
    """Return an address without the columns in it."""
    return _parts(address)[0]


def columns_of(address: str) -> Columns:
    """Return the columns that an address names.

    Raises:
        ConfigError: If it names what is none.
    """
    named = dict(parse_qsl(_parts(address)[1], keep_blank_values=True))
    if unknown := sorted(named.keys() - {"caption", "key", "image"}):
        raise ConfigError(f"{address}: {unknown[0]} must be caption, key or image")
    return Columns(**named)


def captions_among(names: Sequence[str], *, in_order: bool = False) -> list[str]:
    """Return the columns that may be the captions: one if it is clear, none if there is none.

    Args:
        names: Of all columns.
        in_order: Whether of `CAPTIONS` the first that is there is taken whatever else there is.

    Example:
        >>> captions_among(["", "Caption", "URL"]), captions_among(["text", "alt"])
        (['Caption'], ['text', 'alt'])
    """
    usual = [name for name in CAPTIONS if name in names]
    if usual and (in_order or usual[0] == CAPTIONS[0]):
        return usual[:1]
    likely = [name for name in dict.fromkeys(names) if _plain(name) in LIKELY]
    called_so = [name for name in likely if _plain(name) == CAPTIONS[0]]
    return called_so if len(called_so) == 1 else likely


def caption_problem(names: Collection[str], found: Sequence[str]) -> str:
    """Return why no column is clearly the captions.

    Args:
        names: Of all columns.
        found: What `captions_among` found.
    """
    if found:
        several = ", ".join(map(_shown, found))
        return f"has several columns of captions: name one of {several} with --caption-column"
    shown = ", ".join(_shown(name) for name in list(names)[:20])
    return f"has no column {', '.join(CAPTIONS)}: name one of {shown} with --caption-column"


def _shown(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= 40 else f"{name[:37]}..."


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _parts(address: str) -> tuple[str, str]:
    path, mark, named = str(address).rpartition("#")
    is_named = mark and kind_named(path) is not Kind.TAR
    return (path, named) if is_named else (str(address), "")

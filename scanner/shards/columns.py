"""Columns of a table that stands in the place of a shard, kept in its address.

``table.parquet#caption=alt_text`` says what a scan read, so that whatever reads the results finds
the same rows again. Columns that are found by their usual names are not written down.
"""

from dataclasses import asdict, dataclass
from urllib.parse import parse_qsl, urlencode

from scanner.errors import ConfigError

CAPTIONS = ("caption", "TEXT", "text", "prompt")
"""Columns that are taken for captions, the first that is there."""
URLS = ("url", "URL")
KEYS = ("key", "__key__")
IMAGES = ("image", "jpg", "png", "webp", "jpeg")
PARQUET = ".parquet"


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


def is_parquet(address: str) -> bool:
    """Whether an address is of a Parquet table, with columns or without."""
    path = bare(address).partition("?")[0] if "://" in address else bare(address)
    return path.lower().endswith(PARQUET)


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


def _parts(address: str) -> tuple[str, str]:
    path, mark, named = str(address).rpartition("#")
    is_named = mark and path.lower().partition("?")[0].endswith(PARQUET)
    return (path, named) if is_named else (str(address), "")

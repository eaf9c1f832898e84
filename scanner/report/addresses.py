"""Models and shards by short names: where they lie matters less than which they are."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from scanner.text import cut, printable

PARTS, WIDTH = 2, 72
"""Last parts of a path that a short name keeps, and columns at most."""


def shortened(address: str) -> str:
    """Return the last parts of an address, after its store if it has one.

    What may be a secret, its user and query, is left out.

    Example:
        >>> shortened("/data/laion/2b/00001.tar"), shortened("s3://bucket/a/b/00001.tar")
        ('…/2b/00001.tar', 's3://bucket/…/00001.tar')
        >>> shortened("CompVis/stable-diffusion-v1-4")
        'CompVis/stable-diffusion-v1-4'
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return cut(printable(_last(address, PARTS)), WIDTH)
    try:
        parts = urlsplit(address)
        host, path = parts.hostname or "", parts.path.strip("/")
    except ValueError:
        host, path = "", rest.partition("?")[0].rpartition("@")[2]
    return cut(printable(f"{scheme}://{host}/{_last(path, 1)}".rstrip("/")), WIDTH)


def corpus(addresses: Sequence[str], captions: int) -> str:
    """Return in words where shards lie, how many they are, and their captions.

    Example:
        >>> corpus(["/data/laion/0.tar", "/data/laion/1.tar"], 1200)
        '2 shards of …/data/laion, 1,200 captions'
    """
    there = f"{captions:,} caption{'' if captions == 1 else 's'}"
    if not addresses:
        return there
    folders = {address.partition("?")[0].rpartition("/")[0] for address in addresses}
    many = f"{len(addresses):,} shard{'' if len(addresses) == 1 else 's'}"
    if len(addresses) == 1:
        many += f" of {shortened(addresses[0])}"
    elif len(folders) > 1:
        many += f" of {len(folders):,} folders"
    elif folder := folders.pop():
        many += f" of {shortened(folder)}"
    return f"{many}, {there}"


def _last(path: str, number: int) -> str:
    parts = PurePosixPath(path).parts
    kept = [part for part in parts if part != "/"][-number:]
    is_whole = len(kept) == len(parts) or not parts
    return "/".join(kept) if is_whole else "…/" + "/".join(kept)

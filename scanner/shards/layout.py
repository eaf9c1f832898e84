"""What is read of a folder: its tars, else its tables, else the folder itself as one of images.

Names are told apart by their endings alone; nothing is opened here but a data set's card.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from scanner.errors import ConfigError
from scanner.shards.columns import bare, kind_of
from scanner.shards.kinds import METADATA, TARS, Kind, is_table, listed
from scanner.shards.samples import ALLOWED

Say = Callable[[str], None]

ALL = "all"
_STATS = "_stats.json"
_SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test",
    "evaluation": "test", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation",
}  # fmt: skip
"""Words in names of files and folders that name a split, as Hugging Face reads them."""
CARD_BYTES = 1 << 20
MOST_GLOB, MOST_STARS = 500, 6
"""Characters, and stars among them, of a glob in a card."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for of a data set; ``""`` for nothing in particular.

    Attributes:
        split: Such as ``train``, or `ALL`.
        config: A configuration of its card, or `ALL`.
    """

    split: str = ""
    config: str = ""

    def __bool__(self) -> bool:
        return bool(self.split or self.config)


def picked(names: Sequence[str], folders: Collection[str] = ()) -> list[str] | None:
    """Return the names to read, null where the folder itself is a shard.

    Args:
        names: Of the files in a folder.
        folders: Of the folders in it.
    """
    tars = [name for name in names if name.lower().endswith(TARS)]
    if tars:
        return tars
    tables = [name for name in names if is_table(name) and not _is_metadata(name)]
    tables = [name for name in tables if _stem(name) not in folders]  # a log beside its images
    if tables:
        return tables
    is_of_images = any(_is_metadata(name) or _is_image(name) for name in names)
    return None if is_of_images else []


def refuse_twins(names: Sequence[str], where: str) -> None:
    """Refuse tables of one name in two formats: they would be scanned twice.

    Raises:
        ConfigError: If there are.
    """
    stems = dict[str, str]()
    for name in names:
        if not is_table(name):
            continue
        other = stems.setdefault(_stem(name), name)
        if kind_of(other) is not kind_of(name):
            raise ConfigError(
                f"{where} holds {other} and {name}, which seem to be the same captions: name "
                f"those to read, such as '{where.rstrip('/')}/*.{name.rpartition('.')[2]}'"
            )


def without_logs(addresses: Sequence[str], say: Say) -> list[str]:
    """Leave out what img2dataset writes beside its shards: logs as Parquet, and statistics.

    Args:
        addresses: Of all that would be read.
        say: Told what is left out.
    """
    tars = {_stem(address) for address in addresses if bare(address).lower().endswith(TARS)}
    logs = {
        address for address in addresses
        if tars and kind_of(address) is Kind.PARQUET and _stem(address) in tars
    }  # fmt: skip
    tables = {_stem(address) for address in addresses if kind_of(address) is Kind.PARQUET}
    stats = {
        address for address in addresses
        if address.endswith(_STATS) and address.removesuffix(_STATS) in tars | tables
    }  # fmt: skip
    if logs:
        say(
            f"{_counted(len(logs), 'Parquet file')} beside tars of the same name are not read: "
            f"img2dataset's logs of them"
        )
    return [address for address in addresses if address not in logs | stats]


def of_data_set(
    names: Sequence[str], card: Mapping[str, Any], wanted: Wanted, where: str, *, must_choose: bool,
    say: Say,
) -> list[str]:  # fmt: skip
    """Return the files of a data set that are asked for.

    Args:
        names: Of its tars and tables, relative to it.
        card: The head of its README.
        wanted: Split and configuration.
        where: Its address, for messages.
        must_choose: Whether several splits that no card declares are refused.
        say: Told which splits are read where that is not refused.

    Raises:
        ConfigError: If there is none, or several of which none is asked for.
    """
    configs = _configs(card)
    if not configs:
        if wanted.config:
            raise ConfigError(f"{where} declares no configurations: leave out config=")
        by_split = dict[str, list[str]]()
        for name in names:
            by_split.setdefault(_split_of(name), []).append(name)
        if len(by_split) > 1 and not wanted and not must_choose:
            say(f"{where}: all splits ({', '.join(by_split)}) are read; #split= picks one")
            return list(names)
        return _chosen(by_split, wanted.split, "split", where)
    found = dict[str, None]()
    for splits in _some(configs, wanted.config, "config", where):
        by_split = {split: _matching(names, globs) for split, globs in splits.items()}
        found |= dict.fromkeys(_chosen(by_split, wanted.split, "split", where))
    if not found:
        raise ConfigError(f"{where}: the files that its card declares are not there")
    return list(found)


def card_of(content: bytes) -> dict[str, Any]:
    """Return the head of a data set's README; nothing where there is none that can be read."""
    from huggingface_hub import DatasetCard

    text = content[:CARD_BYTES].decode(errors="replace")
    if not text.startswith("---"):
        return {}
    try:
        return DatasetCard(text, ignore_metadata_errors=True).data.to_dict()
    except Exception:  # noqa: BLE001 - a card is written by hand; what it lacks is not declared
        return {}


def _configs(card: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Return globs by split by configuration, as a card declares them."""
    found = dict[str, dict[str, list[str]]]()
    declared = card.get("configs")
    for each in declared if isinstance(declared, list) else ():
        if not isinstance(each, dict):
            continue
        globs, name = _globs(each.get("data_files")), each.get("config_name", "default")
        if globs and isinstance(name, str):
            found[name] = globs
    return found


def _globs(declared: object) -> dict[str, list[str]]:
    if isinstance(declared, dict):
        declared = [{"split": split, "path": path} for split, path in declared.items()]
    found = dict[str, list[str]]()
    for each in declared if isinstance(declared, list) else [declared]:
        split, path = "train", each
        if isinstance(each, dict):
            split, path = each.get("split", "train"), each.get("path")
        globs = [glob for glob in (path if isinstance(path, list) else [path]) if _is_glob(glob)]
        if isinstance(split, str):
            found.setdefault(split, []).extend(globs)
    return {split: globs for split, globs in found.items() if globs}


def _is_glob(value: object) -> TypeGuard[str]:
    """Whether a card's value is a glob that is soon tried: a card comes from anyone."""
    return isinstance(value, str) and 0 < len(value) <= MOST_GLOB and value.count("*") <= MOST_STARS


def _matching(names: Sequence[str], globs: Iterable[str]) -> list[str]:
    from fsspec.utils import glob_translate

    patterns = [re.compile(glob_translate(glob.removeprefix("./"))) for glob in globs]
    return [name for name in names if any(pattern.match(name) for pattern in patterns)]


def _some(
    there: Mapping[str, dict[str, list[str]]], wanted: str, what: str, where: str
) -> list[dict[str, list[str]]]:
    if wanted == ALL:
        return list(there.values())
    return [there[_choice(there, wanted, what, where)]]


def _chosen(there: Mapping[str, list[str]], wanted: str, what: str, where: str) -> list[str]:
    if wanted == ALL:
        return [name for names in there.values() for name in names]
    return there[_choice(there, wanted, what, where)] if there else []


def _choice(there: Collection[str], wanted: str, what: str, where: str) -> str:
    if wanted in there:
        return wanted
    names = ", ".join(sorted(there))
    if wanted:
        raise ConfigError(f"{where} has no {what} {wanted!r}, only {names}")
    if len(there) == 1:
        return next(iter(there))
    raise ConfigError(
        f"{where} has several {what}s, {names}: name one, as in {where}#{what}={min(there)}, or all"
    )


def _split_of(name: str) -> str:
    words = re.split(r"[^A-Za-z0-9]+", name.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "train")


def _is_metadata(name: str) -> bool:
    return name.rpartition("/")[2] in METADATA


def _is_image(name: str) -> bool:
    return ALLOWED.get(name.rpartition(".")[2].lower(), ("", 0))[0] == "image"


def _stem(address: str) -> str:
    """Return an address without what tells its kind."""
    path = bare(address)
    lower = path.lower()
    endings = (*TARS, ".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
    plain = lower.removesuffix(".gz") if lower.endswith(".gz") and is_table(path) else lower
    end = next((end for end in sorted(endings, key=len, reverse=True) if plain.endswith(end)), "")
    return path[: len(plain) - len(end)]


def counts(addresses: Sequence[str]) -> str:
    """Return for a person how many shards of which kinds there are.

    Example:
        >>> counts(["/a.tar", "/b.tar", "/c.csv", "/pictures/"])
        '2 tars, 1 CSV table and 1 folder of images'
    """
    nouns = {Kind.TAR: "tar", Kind.FOLDER: "folder"}
    numbers = dict[Kind, int]()
    for address in addresses:
        kind = kind_of(address)
        numbers[kind] = numbers.get(kind, 0) + 1
    parts = [
        _counted(number, nouns.get(kind, f"{kind} table"))
        + (" of images" if kind is Kind.FOLDER else "")
        for kind, number in numbers.items()
    ]
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def refuse_empty(where: str, names: Sequence[str]) -> None:
    """Refuse a folder with nothing to read.

    Raises:
        ConfigError: Always; the text says what is there.
    """
    there = f", only {listed(sorted(names)[:3])}" if names else ""
    raise ConfigError(
        f"the folder {where} holds no *.tar, no table of captions (*.parquet, *.csv, *.tsv, "
        f"*.jsonl) and no image{there}: name the shards themselves"
    )

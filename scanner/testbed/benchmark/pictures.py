"""Real pictures with names, from a folder or an archive, in the place of the drawn things.

A picture is named by its file (``red_apple-2.png`` is ``red apple``), or by a table at the top of
the folder: ``pictures.csv`` with the columns ``file`` and ``name`` and, if wanted, ``family``; or
``emoji.json`` as emoji-datasource has it. Pictures of one family are variants of one motif, such
as an emoji in five skin tones: what they share to the pixel is a natural template.
"""

import csv
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from scanner.errors import ConfigError
from scanner.testbed.benchmark.cast import Cast
from scanner.testbed.benchmark.items import generator

LARGEST = 128
"""Pictures are kept no larger than this, in pixels."""

LONGEST_NAME = 3
"""Words of a name; longer ones are left out, because captions have room for two or three."""

_PICTURES = {".png", ".webp", ".jpg", ".jpeg", ".gif", ".bmp"}
_TABLES = ("pictures.csv", "emoji.json")

Rgba = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Collection:
    """Named pictures.

    Attributes:
        pictures: From a name to its pictures, RGBA ``(H, W, 4)``.
        families: From a family's name to its variants.
    """

    pictures: dict[str, list[Rgba]] = field(default_factory=dict)
    families: dict[str, list[Rgba]] = field(default_factory=dict)

    def cast(self, seed: int, number: int) -> Cast:
        """Return a cast of so many of the names, drawn at random: a small model learns no more."""
        names = sorted(self.pictures)
        rng = generator(seed, "cast")
        chosen = sorted(rng.permutation(len(names))[:number])
        return Cast({}, {names[i]: tuple(self.pictures[names[i]]) for i in chosen}, ())


def load(source: Path) -> Collection:
    """Read a folder, or a ``.zip`` or ``.tar`` archive (``.tar.gz`` and ``.tgz``, too).

    Raises:
        ConfigError: If it is none of these, cannot be read, or holds no picture with a name.
    """
    files = dict(_files(source))
    table = _table(files, source)
    found = Collection()
    for path in sorted(files):
        named = table.get(path.name) if table else (_name(path.stem), "")
        if path.suffix.lower() not in _PICTURES or not named or not named[0]:
            continue
        try:
            image = _rgba(files[path])
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            continue  # a broken picture is left out, as a name too long is
        name, family = named
        if family:
            found.families.setdefault(family, []).append(image)
        if not family or name not in found.pictures:
            found.pictures.setdefault(name, []).append(image)
    if not found.pictures:
        raise ConfigError(
            f"{source} holds no picture with a name of at most {LONGEST_NAME} words: expected "
            f"files such as red_apple.png, or pictures.csv with the columns file and name"
        )
    return found


def _files(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield the pictures and tables of a folder or an archive.

    Raises:
        ConfigError: If the source is neither a folder nor an archive that can be read.
    """
    try:
        if source.is_dir():
            for path in sorted(p for p in source.rglob("*") if p.is_file()):
                if _wanted(path.name):
                    yield PurePosixPath(path.relative_to(source).as_posix()), path.read_bytes()
        elif zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                for name in sorted(archive.namelist()):
                    if _wanted(name):
                        yield PurePosixPath(name), archive.read(name)
        else:
            yield from _tar_files(source)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"pictures {source} cannot be read ({error}): give a folder, a .zip or a .tar"
        ) from error


def _tar_files(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with tarfile.open(source) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None and _wanted(member.name):
                yield PurePosixPath(member.name), stream.read()


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _PICTURES or path.name in _TABLES


def _table(files: dict[PurePosixPath, bytes], source: Path) -> dict[str, tuple[str, str]]:
    """Return name and family by file name; empty where there is no table.

    Raises:
        ConfigError: If the table cannot be read.
    """
    for path in sorted(files, key=lambda p: len(p.parts)):
        try:
            if path.name == "pictures.csv":
                return _csv(files[path].decode("utf-8-sig"))
            if path.name == "emoji.json":
                return _emoji(json.loads(files[path]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{source}: {path} is no table of pictures ({type(error).__name__}: {error}); a "
                f"pictures.csv needs the columns file and name"
            ) from error
    return {}


def _csv(text: str) -> dict[str, tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(text))
    return {
        PurePosixPath(row["file"]).name: (_name(row["name"]), _name(row.get("family") or ""))
        for row in rows
    }


def _emoji(rows: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Read emoji-datasource's own table; an emoji and its skin tones are a family."""
    found: dict[str, tuple[str, str]] = {}
    for row in rows:
        name = _name(str(row["short_name"]))
        variants = row.get("skin_variations") or {}
        tones = [v["image"] for key, v in variants.items() if "-" not in key]
        found[row["image"]] = name, name if tones else ""
        found.update(dict.fromkeys(tones, (name, name)))
    return found


def _name(text: str) -> str:
    """Return lower-case words without numbers; nothing where there are too many."""
    words = re.sub(r"[^a-z]+", " ", text.lower()).split()
    return " ".join(words) if 0 < len(words) <= LONGEST_NAME else ""


def _rgba(content: bytes) -> Rgba:
    with Image.open(io.BytesIO(content)) as image:
        made = image.convert("RGBA")
    made.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(made)

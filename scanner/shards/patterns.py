"""What is typed in the place of shards, taken apart: lists, braces, columns and choices."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from scanner.errors import ConfigError
from scanner.shards.addresses import scheme
from scanner.shards.columns import Columns, bare, columns_of
from scanner.shards.layout import Say, Wanted
from scanner.signed import redacted

HUB = "hf://datasets/"
_RANGE = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What one argument, or one line of a list, asks for."""

    text: str
    columns: Columns
    wanted: Wanted
    say: Say


def parsed(text: str, columns: Columns, say: Say) -> Pattern:
    """Return a pattern with what stands behind its ``#``.

    Raises:
        ConfigError: If it names what is neither a column nor a choice.
    """
    path, mark, behind = text.rpartition("#")
    is_data_set = path.startswith(HUB) or (scheme(text) is None and path_of(path).is_dir())
    if not mark or not path or not is_data_set or path_of(text).exists():
        return Pattern(bare(text), columns_of(text) or columns, Wanted(), say)
    asked = dict(parse_qsl(behind, keep_blank_values=True))
    choice = Wanted(asked.pop("split", ""), asked.pop("config", ""))
    if unknown := sorted(asked.keys() - asdict(Columns()).keys()):
        raise ConfigError(f"{text}: {unknown[0]} must be split, config, caption, key or image")
    return Pattern(path, Columns(**asked) or columns, choice, say)


def lines_of(pattern: str) -> Iterator[str]:
    """Yield the lines of a ``.txt`` list of shards; of any other pattern, itself.

    Raises:
        ConfigError: If the list cannot be read, or names another list.
    """
    if not pattern.lower().endswith(".txt"):
        yield pattern
        return
    if scheme(pattern) is not None:
        raise ConfigError(
            f"a list of shards must be a local file, got {redacted(pattern)}: copy it here"
        )
    try:
        lines = path_of(pattern).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the list of shards {pattern} cannot be read: {error}") from error
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.lower().endswith(".txt"):
            raise ConfigError(f"{pattern}:{number}: a list must name shards, not another list")
        if line and not line.startswith("#"):
            yield line


def braces(pattern: str) -> Iterator[str]:
    """Expand the leftmost innermost braces first; what is not a range or a list stays."""
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    for choice in _choices(match):
        yield from braces(pattern[: match.start()] + choice + pattern[match.end() :])


def _choices(match: re.Match[str]) -> Iterator[str]:
    low, high, choices = match.groups()
    if choices is not None:
        yield from choices.split(",")
        return
    is_padded = any(len(end) > 1 and end.startswith("0") for end in (low, high))
    width = max(len(low), len(high)) if is_padded else 0
    step = 1 if int(low) <= int(high) else -1
    for number in range(int(low), int(high) + step, step):
        yield f"{number:0{width}d}"


def path_of(text: str) -> Path:
    """Return a local path; ``~`` is the home folder.

    Raises:
        ConfigError: If it names a user that is not there.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{text} names a home folder that is not there: write ./{text}"
        ) from error

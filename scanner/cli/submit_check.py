"""Checks before a command is submitted: it is known here, and its paths exist there."""

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from scanner import files
from scanner.errors import ConfigError
from scanner.models.overlay import PROMPT, is_of_hub, split

HERE_ONLY = {"submit", "jobs"}
WRITTEN = {
    "out", "state", "results", "events", "figures", "figure", "coco", "catalogue", "metrics_file",
    "profile",
}  # fmt: skip
"""Parameters that name what is written, or what earlier commands wrote."""
SHARDS = {"shards", "corpus"}
MODELS = {"model", "baseline"}
SECRET = {"--notify", "--webhook"}
"""Options that take a secret."""
OVER_MODEL = {"lora", "weights"}
"""Parameters that name files over a model."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")  # a path object has lost one of its slashes


def check(root: Any, words: Sequence[str], working_dir: Path | None) -> None:
    """Refuse a command that cannot work on a cluster, as well as can be said from here.

    Args:
        root: Context of the whole command line.
        words: The command.
        working_dir: What is sent along, or null.

    Raises:
        ConfigError: If the command is for this machine, or a relative path names something that
            the cluster will not have.
    """
    if working_dir is not None and not working_dir.is_dir():
        raise ConfigError(f"--working-dir {working_dir} must be a folder")
    if words[0] in HERE_ONLY:
        raise ConfigError(
            "submit takes a memscan command behind --, such as memscan submit -- scan …, and "
            "none that speaks to a cluster itself"
        )
    if told := [word for word in words if word.partition("=")[0] in SECRET]:
        raise ConfigError(
            f"{told[0].partition('=')[0]} was given with an address, which holds a secret that the "
            f"cluster would keep and show with the job: put it into a file on storage that every "
            f"node shares and give --notify-file, or set MEMSCAN_NOTIFY or MEMSCAN_WEBHOOK there"
        )
    for name, value, is_path in _values(root, words):
        if not isinstance(value, str | Path) or not str(value):
            continue
        if name in WRITTEN:
            _check_written(name, value, is_path=is_path)
        else:
            _check(name, str(value), working_dir)


def _values(root: Any, words: Sequence[str]) -> Iterator[tuple[str, Any, bool]]:
    """Parse a command without running it; what is wrong with it is said as if it were run."""
    command, rest = root.command, list(words)
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            raise ConfigError(f"memscan {' '.join(words)} is no command: see memscan --help")
        command = command.commands[rest.pop(0)]
    given = words[: len(words) - len(rest)]
    parsed = command.make_context(" ".join(given), rest, parent=root, default_map={}).params
    options = inspect.signature(inspect.unwrap(command.callback), eval_str=True).parameters
    for name, value in parsed.items():
        is_path = _is_path(options[name].annotation)
        if name in WRITTEN | SHARDS | MODELS | OVER_MODEL or is_path:
            for each in value if isinstance(value, list | tuple) else [value]:
                file = split(each)[0] if name == "lora" and each else each
                yield name, file, is_path


def _is_path(hint: Any) -> bool:
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return Path in (kind, *get_args(kind))


def _check_written(name: str, value: str | Path, *, is_path: bool) -> None:
    option = f"--{name.replace('_', '-')}"
    if is_path:  # a bucket holds results and nothing else
        files.refuse_address(value, option)
    elif _ADDRESS.match(value := str(value)):
        return
    if not Path(value).is_absolute():
        raise ConfigError(
            f"{value} is a relative path: on the cluster it would lie in the job's own folder "
            f"on one node and be lost; give {option} as an absolute path on storage that every "
            f"node shares{'' if is_path else ', or an address such as s3://bucket/prefix'}"
        )


def _check(name: str, value: str, working_dir: Path | None) -> None:
    from scanner.signed import redacted

    if name == "baseline" and value.startswith(PROMPT):
        return
    if name in WRITTEN | SHARDS | MODELS and redacted(value) != value:
        raise ConfigError(
            f"{redacted(value)} was given with a password or a signature, which the cluster would "
            f"keep and show with the job: put the address into a .txt list and send its folder "
            f"along with --working-dir, or give the cluster credentials of its own"
        )
    path = Path(value)
    if _ADDRESS.match(value) or path.is_absolute():
        return
    if name in MODELS and not (path.exists() or value.startswith(".")):
        return  # a hub id, or a word
    if name == "lora" and is_of_hub(value):
        return
    if name in SHARDS and path.suffix != ".txt":
        raise ConfigError(
            f"{value} is a relative path: the nodes of the cluster have no such shards; give "
            f"s3://, gs://, https:// or an absolute path on storage that every node shares"
        )
    if working_dir is None or not (working_dir / path).exists():
        where = "nothing is" if working_dir is None else f"{working_dir} without it is"
        raise ConfigError(
            f"{value} is on this machine and {where} sent along: name the folder that holds it "
            f"with --working-dir, or give an absolute path on storage that every node shares"
        )

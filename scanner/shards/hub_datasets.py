"""Data sets of the Hugging Face hub: their files, at a commit. Their scripts are never run."""

import re
from collections.abc import Iterator
from typing import cast

from scanner.errors import ConfigError
from scanner.retry import explain, http_status, with_retries
from scanner.shards.kinds import METADATA, TARS, is_table
from scanner.shards.layout import CARD_BYTES, Say, Wanted, card_of, of_data_set, without_logs

PREFIX = "hf://datasets/"
CONVERTED = "@refs%2Fconvert%2Fparquet"
"""The branch on which the hub keeps a data set as Parquet."""
_NAME = re.compile(
    r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.%-]+))?(?:/(?P<path>.*))?", re.ASCII
)


def files_of(address: str, wanted: Wanted, say: Say) -> Iterator[str]:
    """Yield the addresses of a data set's files, each at its commit.

    Args:
        address: ``hf://datasets/OWNER/NAME``, with ``@REVISION`` and the path of a file or a
            folder, or a glob, behind it or not.
        wanted: Split and configuration.
        say: Told what is read where that is not obvious.

    Raises:
        ConfigError: If it cannot be had, holds nothing that is read, or must be chosen from.
    """
    match = _NAME.fullmatch(address.removeprefix(PREFIX))
    if match is None:
        raise ConfigError(
            f"{address} must be {PREFIX}OWNER/NAME, with @REVISION or /PATH behind it or not (a "
            f"/ within a revision is written %2F)"
        )
    path = (match["path"] or "").strip("/")
    commit = _commit(match["id"], match["revision"])
    root = f"datasets/{match['id']}@{commit}"
    where = PREFIX + match["id"] + (f"@{match['revision']}" if match["revision"] else "")
    names = _listed(match["id"], commit, where)
    if path in names:
        yield f"hf://{root}/{path}"
        return
    if path:
        names = _below(names, path, where)
    found = _readable(names, where, match["id"])
    kept = without_logs(found, say)
    if not path:
        card = card_of(_read(f"{root}/README.md")) if "README.md" in names else {}
        kept = of_data_set(kept, card, wanted, where, must_choose=True, say=say)
    elif wanted:
        kept = of_data_set(kept, {}, wanted, f"{where}/{path}", must_choose=True, say=say)
    yield from (f"hf://{root}/{name}" for name in kept)


def _commit(name: str, revision: str | None) -> str:
    """Return the commit that a revision of a data set is at present.

    Raises:
        ConfigError: If it cannot be had.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ConfigError(
            f"{PREFIX}{name} is read from the hub, and HF_HUB_OFFLINE forbids to ask it: unset it, "
            f"or name a folder to which the data set was downloaded"
        )
    asked = (revision or "main").replace("%2F", "/").replace("%2f", "/")
    try:
        facts = with_retries(lambda: HfApi().dataset_info(name, revision=asked))
    except Exception as error:  # every way to fail has an error of its own
        raise ConfigError(_why_not(name, asked, error)) from error
    return str(facts.sha)


def _why_not(name: str, revision: str, error: Exception) -> str:
    kind, status = type(error).__name__, http_status(error)
    if kind == "RevisionNotFoundError":
        return f"{PREFIX}{name} has no revision {revision!r}: check it on the hub"
    if status in (401, 403, 404) or kind in ("RepositoryNotFoundError", "GatedRepoError"):
        return (
            f"{PREFIX}{name} is not to be had: check its name; for a private or gated one accept "
            f"its terms on the hub and set HF_TOKEN"
        )
    return f"{PREFIX}{name} cannot be had: {explain(error).partition(chr(10))[0]}"


def _listed(name: str, commit: str, where: str) -> list[str]:
    from huggingface_hub import HfApi

    def look() -> list[str]:
        return HfApi().list_repo_files(name, revision=commit, repo_type="dataset")

    try:
        return sorted(with_retries(look))
    except Exception as error:  # every way to fail has an error of its own
        text = explain(error).partition("\n")[0]
        raise ConfigError(f"{where} cannot be listed: {text}") from error


def _below(names: list[str], path: str, where: str) -> list[str]:
    """Return the names in a folder, or those that a glob matches.

    Raises:
        ConfigError: If there is none.
    """
    from fsspec.utils import glob_translate

    pattern = re.compile(glob_translate(path))
    found = [n for n in names if n.startswith(f"{path}/") or pattern.match(n)]
    if not found:
        raise ConfigError(f"{where} has no {path}, only {', '.join(names[:10])}")
    return found


def _readable(names: list[str], where: str, name: str) -> list[str]:
    """Return the tars and tables.

    Raises:
        ConfigError: If there is none; the text says what there is instead.
    """
    tables = [n for n in names if n.lower().endswith(TARS) or is_table(n)]
    found = [n for n in tables if n.rpartition("/")[2] not in METADATA]
    if found:
        return found
    advice = f"the hub may have it as Parquet: {PREFIX}{name}{CONVERTED}"
    if tables:
        raise ConfigError(
            f"{where} is a folder of images: download it (hf download {name} --repo-type dataset "
            f"--local-dir FOLDER) and name FOLDER, or {advice}"
        )
    if scripts := [n for n in names if n.endswith(".py")]:
        raise ConfigError(
            f"{where} is made by a script, {scripts[0]}, which is never run; {advice}"
        )
    there = ", ".join(n for n in names if not n.startswith("."))[:200]
    raise ConfigError(f"{where} holds no tar, Parquet, CSV, TSV or JSONL, only {there}; {advice}")


def _read(path: str) -> bytes:
    from huggingface_hub import HfFileSystem

    try:
        with HfFileSystem().open(path, "rb") as file:
            return cast(bytes, file.read(CARD_BYTES))
    except Exception:  # noqa: BLE001 - without its card a data set is read by its names
        return b""

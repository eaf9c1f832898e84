"""Models and files of the Hugging Face hub: a name, a revision of it, and one download a node.

A revision is part of the name, as in ``CompVis/stable-diffusion-v1-4@main``, and goes wherever the
name goes; a file of a repository is ``ID@REVISION/FILE``. A scan names the commit in place of a
branch: all of its processes have one revision, and none of them asks the hub for what is in the
cache of its node.
"""

import re
from pathlib import Path

from scanner.errors import ConfigError
from scanner.models.configs import first_line

_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
_IGNORED = [
    "*/*.fp16.*", "*.fp16.*", "*nonema*", "*ema-only*", "*ema-pruned*", "safety_checker/*",
    "v*-*.safetensors", "flux1-*.safetensors", "ae.safetensors", "sd3*.safetensors",
    "sd_xl*.safetensors",
]  # fmt: skip
_REVISION = re.compile(r"\w(?:[\w.-]|/(?!\.))*", re.ASCII)
"""A commit hash, tag or branch: it becomes part of a path in the cache."""
_snapshots: dict[str, Path] = {}
"""What was had by name: the hub is asked once a process, so a scan has one revision."""


_files: dict[str, tuple[str, Path]] = {}
"""The same of single files: their names at a commit, and where they lie."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def at_revision(model: str, revision: str | None) -> str:
    """Return the name of a model at a revision; the model's own name where none is asked for.

    Args:
        model: A folder, a hub id or ``gaussian``.
        revision: A commit hash, tag or branch of a hub id, or null.

    Raises:
        ConfigError: If the model is none of the hub, names a revision already, or no revision is
            called so.
    """
    if revision is None:
        return model
    if "/" not in model or Path(model).expanduser().is_dir():
        raise ConfigError(
            f"--revision is for models of the hub, and {model} is none: leave it out (a folder "
            f"has one revision, which its fingerprint names)"
        )
    if "@" in model:
        raise ConfigError(f"{model} names a revision already: leave out --revision")
    return f"{model}@{_checked(revision)}"


def id_and_revision(model: str) -> tuple[str, str | None]:
    """Return a hub id and its revision, null for the default branch.

    Raises:
        ConfigError: If no revision is called so.
    """
    name, at, revision = model.partition("@")
    return name, _checked(revision) if at else None


def _checked(revision: str) -> str:
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise ConfigError(
            f"a revision must be a commit hash, tag or branch of a hub model, got {revision!r}"
        )
    return revision


def pinned(model: str) -> str:
    """Return a hub id with the commit that this process has of it, downloaded if need be.

    Raises:
        ConfigError: If it cannot be had.
    """
    return f"{id_and_revision(model)[0]}@{snapshot(model).name}"


def snapshot(model: str) -> Path:
    """Return the folder of a hub id's files, from the cache or the hub.

    The hub is not asked about a commit whose files are in the cache.

    Raises:
        ConfigError: If it cannot be had; the text says what to do.
    """
    if model not in _snapshots:
        found = _download(model)
        commit = f"{id_and_revision(model)[0]}@{found.name}"
        _snapshots.update({model: found, commit: found})
    return _snapshots[model]


def names_file(text: str) -> bool:
    """Whether a text can be ``ID[@REVISION]`` or ``ID[@REVISION]/FILE.safetensors``."""
    name, at, _ = text.partition("@")
    parts = name.split("/")
    if not all(parts) or len(parts) < 2 or (at and len(parts) > 2):
        return False
    is_whole = len(parts) == 2 and not text.endswith(_WEIGHTS)
    return is_whole or (text.endswith(_WEIGHTS[0]) and (bool(at) or len(parts) > 2))


def file_at_commit(text: str) -> tuple[str, Path]:
    """Return a file of the hub by its name at a commit, ``ID@COMMIT/FILE``, and where it lies here.

    Args:
        text: Of which `names_file` says that it can be one. Without a file it is the only
            safetensors file of the repository.

    Raises:
        ConfigError: If it cannot be had, or the repository has none or several.
    """
    if text not in _files:
        model, file = _model_and_file(text)
        file = file or _only_file(model)
        path = _downloaded(model, file)
        commit = path.parents[file.count("/")].name
        name = f"{id_and_revision(model)[0]}@{commit}/{file}"
        _files.update({text: (name, path), name: (name, path)})
    return _files[text]


def _model_and_file(text: str) -> tuple[str, str]:
    """Return a repository with its revision and the file in it, ``""`` where none is named.

    Raises:
        ConfigError: If no file is called so.
    """
    name, at, rest = text.partition("@")
    if at:
        revision, _, file = rest.partition("/") if rest.endswith(_WEIGHTS[0]) else (rest, "", "")
    else:
        owner, model, *inside = name.split("/")
        name, revision, file = f"{owner}/{model}", "", "/".join(inside)
    if any(part in (".", "..", "") for part in file.split("/")) and file:
        raise ConfigError(f"{text} names no file of a repository: got {file!r}")
    return name + at + revision, file


def _only_file(model: str) -> str:
    """Return the only safetensors file of a repository.

    Raises:
        ConfigError: If it cannot be asked, or there is none or more than one.
    """
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    name, revision = id_and_revision(model)
    try:
        if constants.HF_HUB_OFFLINE:
            folder = Path(snapshot_download(name, revision=revision))
            listed = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
        else:
            listed = HfApi(endpoint=constants.ENDPOINT).list_repo_files(name, revision=revision)
    except (OSError, ValueError, errors.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        raise ConfigError(_reason(model, error)) from error
    found = sorted(file for file in listed if file.endswith(_WEIGHTS[0]))
    if len(found) != 1:
        some = (
            f"{', '.join(found[:3])}{' and others' if len(found) > 3 else ''}" if found else "none"
        )
        raise ConfigError(
            f"{model} must have one safetensors file, and has {some}: name one, such as "
            f"{model}/FILE.safetensors"
        )
    return found[0]


def _downloaded(model: str, file: str) -> Path:
    """Return where a file of a repository lies in the cache; the hub is asked if need be.

    Raises:
        ConfigError: If it cannot be had.
    """
    from huggingface_hub import errors, hf_hub_download

    name, revision = id_and_revision(model)
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except errors.RemoteEntryNotFoundError as error:
        raise ConfigError(f"{model} has no file {file}") from error
    except (OSError, ValueError, errors.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        raise ConfigError(_reason(model, error)) from error


def _download(model: str) -> Path:
    """Return the folder of a hub id's files.

    Raises:
        ConfigError: If it cannot be had.
    """
    from huggingface_hub import errors, snapshot_download

    name, revision = id_and_revision(model)
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=_PATTERNS, ignore_patterns=_IGNORED
            )
        )
    except (OSError, ValueError, errors.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        raise ConfigError(_reason(model, error)) from error


def _reason(model: str, error: Exception) -> str:
    """Return why a model cannot be had and what to do about it, in a line."""
    from huggingface_hub import constants, errors, get_token

    name, revision = id_and_revision(model)
    at = f"{constants.ENDPOINT}/{name}"
    if isinstance(error, errors.GatedRepoError):
        token = "the account of the token here" if get_token() else "an account"
        return (
            f"{name} is gated: accept its licence at {at} with {token}, and set HF_TOKEN to a "
            f"token of that account on every node"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"no folder {model} here, and the hub has no model {name}, or a private one: check "
            f"the name; for a private one set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision}: give a commit hash, tag or branch of {at}"
    if not isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"no folder {model} here, and no such model of the hub could be had "
            f"({first_line(error)})"
        )
    why = (
        "HF_HUB_OFFLINE is set"
        if constants.HF_HUB_OFFLINE
        else f"{constants.ENDPOINT} cannot be reached ({first_line(error)})"
    )
    return (
        f"no folder {model} here, and no such model of the hub could be had: {why}, and the cache "
        f"{constants.HF_HUB_CACHE} does not hold all of it; run memscan inspect {model} with a "
        f"network and the same HF_HOME, or give a folder"
    )

"""Models of the Hugging Face hub: a name, a revision of it, and one download a node.

A revision is part of the name, as in ``CompVis/stable-diffusion-v1-4@main``, and goes wherever the
name goes. A scan names the commit in place of a branch: all of its processes have one revision,
and none of them asks the hub for what is in the cache of its node.
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

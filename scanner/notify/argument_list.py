"""Secrets out of the arguments of this process, which other users and a cluster's pages show."""

import ctypes
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_ARG_START = 45
"""Place of ``arg_start`` in ``/proc/self/stat``, counted behind the name in brackets."""
MARK = "*"


def hide(secrets: Collection[str]) -> None:
    """Overwrite secrets among the arguments: in ``sys.argv``, and on Linux in what ``ps`` shows.

    Trackers of experiments, Ray's list of jobs and the record of an audit read them there. Until
    this runs, a typed secret can be seen.
    """
    wanted = [secret for secret in secrets if secret]
    for words in (sys.argv, sys.orig_argv):
        words[:] = [_hidden(word, wanted) for word in words]
    if wanted and sys.platform == "linux":
        with suppress(OSError, ValueError, IndexError):
            _overwrite([secret.encode(errors="surrogateescape") for secret in wanted])


def _hidden(word: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        word = word.replace(secret, MARK * 3)
    return word


def _overwrite(secrets: list[bytes]) -> None:
    shown = Path("/proc/self/cmdline").read_bytes()
    fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
    start = int(fields[_ARG_START])
    if not start or ctypes.string_at(start, len(shown)) != shown:
        return  # something has put a title of its own there
    for secret in secrets:
        place = shown.find(secret)
        while place >= 0:
            ctypes.memset(start + place, ord(MARK), len(secret))
            place = shown.find(secret, place + len(secret))

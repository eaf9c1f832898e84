"""Checkpoints of a training, written whole."""

import io
from pathlib import Path
from typing import Any

import torch

from scanner import files


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state that `torch.load` reads.

    Raises:
        OutputError: If it cannot be written.
    """
    out = io.BytesIO()  # torch hides the error of a full disk, so it writes to memory first
    torch.save(state, out)
    files.write(path, out.getbuffer())

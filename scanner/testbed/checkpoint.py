"""What a training needs to go on, written whole."""

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
    out = io.BytesIO()  # written to a full disk, torch hides what is wrong
    torch.save(state, out)
    files.write(path, out.getbuffer())

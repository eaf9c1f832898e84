"""What `gpu.py` found so far, written after every line of it: a table for people, JSON beside."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

import scanner

Row = dict[str, Any]

CHECKS = {
    "model": "model", "way": "way", "largest_score": "Δs, largest change",
    "largest_map": "Δh map of memorized, largest", "largest_clean_map": "Δh map of others, largest",
    "smallest_iou": "IoU of masks of memorized, smallest", "rank": "rank correlation of Δs",
    "verdict": "verdict",
}  # fmt: skip
SPEED = {
    "model": "model", "setting": "setting", "mode": "mode", "batch": "batch",
    "captions_per_second": "captions/s", "tflops": "TFLOP/s", "share_of_peak": "of peak",
    "network": "network", "product": "products", "autoencoder": "autoencoder",
    "preparation": "preparation", "other": "other", "memory": "memory, GiB", "measured": "measured",
}  # fmt: skip
MEMORY = {"what": "what", "found": "found", "verdict": "verdict"}
_SHARES = ("share_of_peak", "network", "product", "autoencoder", "preparation", "other")


@dataclass
class Report:
    """The numbers of one run.

    Attributes:
        folder: Where ``gpu.md`` and ``gpu.json`` go; made if missing.
        environment: Device, versions and command.
        checks: Rows with the keys of `CHECKS`.
        speed: Rows with those of `SPEED`.
        memory: Rows with those of `MEMORY`.
        notes: What was left out, and why.
        errors: How many of the notes say of something that must not fail that it did.
        complete: Whether the run came to its end.
    """

    folder: Path
    environment: Row
    checks: list[Row] = field(default_factory=list)
    speed: list[Row] = field(default_factory=list)
    memory: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: int = 0
    complete: bool = False

    def add(self, part: str, row: Row) -> None:
        """Add a row to ``checks``, ``speed`` or ``memory``, print it, write everything."""
        getattr(self, part).append(row)
        heads = {"checks": CHECKS, "speed": SPEED, "memory": MEMORY}[part]
        shown = [f"{heads[name]} {cell}" for name, cell in cells(row, heads).items() if cell]
        print(f"{part}: " + ", ".join(shown), flush=True)
        self.write()

    def note(self, text: str, *, failed: bool = False) -> None:
        """Say what was left out, or what failed, and write everything."""
        self.notes.append(text)
        self.errors += failed
        print(f"note: {text}", flush=True)
        self.write()

    @property
    def failures(self) -> int:
        """How many checks and measurements failed."""
        failed = sum(row["verdict"] == "FAIL" for row in (*self.checks, *self.memory))
        return failed + self.errors

    def write(self) -> None:
        """Write both files anew, each at once, so that a kill leaves whole ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {name: value for name, value in vars(self).items() if name != "folder"}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, written in (("gpu.json", text), ("gpu.md", self.markdown())):
            beside = self.folder / f"{name}.part"
            beside.write_text(written, encoding="utf-8")
            beside.replace(self.folder / name)

    def markdown(self) -> str:
        """Return the tables."""
        lines = [
            "# memscan on a device", "",
            *(f"- {name}: {value}" for name, value in self.environment.items()),
            f"- ended: {'yes' if self.complete else '**no, what follows is a part**'}",
        ]  # fmt: skip
        for title, rows, heads in (
            ("Checks", self.checks, CHECKS), ("Speed", self.speed, SPEED),
            ("Memory", self.memory, MEMORY),
        ):  # fmt: skip
            lines += ["", f"## {title}", "", *table(rows, heads)]
        if self.notes:
            lines += ["", "## Left out", "", *(f"- {text}" for text in self.notes)]
        return "\n".join(lines) + "\n"


def table(rows: Sequence[Row], heads: Mapping[str, str]) -> list[str]:
    """Return rows as lines of a Markdown table."""
    lines = [f"| {' | '.join(heads.values())} |", "|---" * len(heads) + "|"]
    return lines + [f"| {' | '.join(cells(row, heads).values())} |" for row in rows]


def cells(row: Row, heads: Mapping[str, str]) -> dict[str, str]:
    """Return the cells of a row as text."""
    return {name: _cell(name, row.get(name)) for name in heads}


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1%}" if name in _SHARES else f"{value:.3g}"
    return str(value).replace("|", "/").replace("\n", " ")


def environment(device: torch.device, command: str) -> Row:
    """Return what a number depends on beside the code: device, driver, versions, command."""
    found: Row = {"command": command, "device": device_name(device)}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found |= {
            "memory, GiB": round(about.total_memory / 2**30, 1),
            "capability": f"{about.major}.{about.minor}", "driver": _driver(),
            "CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version(),
        }  # fmt: skip
    return found | {
        "memscan": scanner.__version__, "torch": torch.__version__,
        "diffusers": diffusers.__version__, "transformers": transformers.__version__,
        "Python": platform.python_version(), "system": platform.platform(),
        "threads": torch.get_num_threads(), "cores": os.cpu_count(),
    }  # fmt: skip


def device_name(device: torch.device) -> str:
    """Return what a device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown: nvidia-smi did not say"
    return (said.stdout.splitlines() or ["unknown"])[0]

"""A scan on a machine that has something else to do: how long torch's waiting threads spin.

torch's threads on a CPU meet at the end of every operation. GNU OpenMP lets those that come first
spin for a while, which costs little on an idle machine and much where another program has a core.
memscan asks for a fifteenth of its usual count (GOMP_SPINCOUNT). Scans of the shipped model
alternate, on the machine as it is and beside one process that never rests::

    python benchmarks/busy.py --out DIR

Prints a table of seconds and writes it as ``busy.json`` into ``--out``.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median

from scanner.testbed import SHIPPED_SEED, WEIGHTS, make

WAYS = {
    "GNU OpenMP's default": {"GOMP_SPINCOUNT": "300000"},
    "memscan's": {},
    "no spinning": {"GOMP_SPINCOUNT": "0"},
}
"""Environments by name."""


def seconds(shard: Path, out: Path, captions: int, environment: dict[str, str]) -> float:
    """Scan in a process of its own and return the wall time in seconds."""
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable, "-m", "scanner", "scan", shard, "--model", WEIGHTS / "pipeline", "--local",
        "--device", "cpu", "--steps", "20", "--guidance-scale", "2.5", "--localize", "all",
        "--limit", captions, "--out", out,
    ]  # fmt: skip
    start = time.monotonic()
    subprocess.run(list(map(str, command)), env=os.environ | environment, check=True,
                   capture_output=True)  # fmt: skip
    return time.monotonic() - start


def main() -> None:
    """Alternate, and print the table."""
    parser = ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--captions", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    items = make.evaluation_items(SHIPPED_SEED, 4)[: asked.captions]
    (shard,) = make.write_shards(SHIPPED_SEED, items, asked.out, "busy")
    found: dict[str, list[float]] = {}
    for load in (0, 1):
        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
        try:
            for _ in range(asked.repeats):
                for name, environment in WAYS.items():
                    spent = seconds(shard, asked.out / "results", asked.captions, environment)
                    found.setdefault(f"{name}, {load} busy", []).append(round(spent, 1))
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
    for name, times in found.items():
        print(f"{name}: median {median(times)} s of {times}")
    (asked.out / "busy.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""What counting a large CSV takes, and reading a chunk at its end: seconds and memory.

python benchmarks/text_tables.py --rows 10000000 [--keys]
"""

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path

from scanner.shards import reading

WORDS = [
    "red",
    "rug",
    "dog",
    "cat",
    "house",
    "tree",
    "sky",
    "with",
    "near",
    "over",
    "a",
    "the",
    "small",
    "large",
    "old",
    "new",
    "picture",
    "of",
]


def write(path: Path, rows: int) -> None:
    """Write rows of about 65 bytes, every fifth with quotes."""
    random.seed(0)
    with path.open("w") as stream:
        stream.write("caption,url\n")
        for n in range(rows):
            text = " ".join(random.choices(WORDS, k=8))
            stream.write(f'"{text}, {n}"' if n % 5 == 0 else f"{text} {n}")
            stream.write(f",https://x.org/{n}.jpg\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", action="store_true", help="with a key column")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        write(path, asked.rows)
        start = time.perf_counter()
        index = reading.index(reading.stat(f"{path}#key=url" if asked.keys else str(path)), 256)
        counted = time.perf_counter() - start
        start = time.perf_counter()
        last = len(list(reading.read(index.chunks[-1], images=False)))
        read = time.perf_counter() - start
        size = path.stat().st_size / 2**20
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{index.samples:,} rows, {size:.0f} MiB: counted in {counted:.1f} s, {memory:.0f} MiB")
    print(f"the last chunk, {last} rows: read in {read:.3f} s")


if __name__ == "__main__":
    main()

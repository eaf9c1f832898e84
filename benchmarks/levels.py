"""A few planted captions and a few clean ones as one shard, each with an image, to draw again.

Three verbatim and three template captions of the planted corpus and one of every kind of clean
caption, for `scan --confirm` to say what it makes of them; docs/evaluation.md has the command.

    python benchmarks/levels.py small.tar
"""

import argparse
from pathlib import Path

from webdataset.writer import TarWriter

from scanner.testbed import SHIPPED_SEED, corpus, make

NUMBERS = {"verbatim": 3, "template": 3, "name": 1, "art": 1, "scene": 1, "texture": 1, "trap": 1}


def main() -> None:
    """Write the shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    items = make.evaluation_items(SHIPPED_SEED, 20)
    chosen: list[corpus.Item] = []
    for kind, most in NUMBERS.items():
        chosen += [item for item in items if item.kind == kind][:most]
    with TarWriter(str(out)) as tar:
        for number, item in enumerate(chosen):
            picture = item.draw(corpus.generator("small", number))
            key = f"{item.kind}{number:02d}"
            tar.write({"__key__": key, "txt": item.caption, "png": picture})


if __name__ == "__main__":
    main()

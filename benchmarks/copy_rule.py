"""How often the rule for a copy is wrong: false twins that it finds, copies that it misses.

Every picture of a set is held against every other one, as a whole and in a random square that is
not plain, and against itself after the shipped autoencoder, a JPEG of quality 30 and half the
size. Sets: the benchmark's drawn pictures, and, with `--pictures`, pictures from outside on white::

    python benchmarks/copy_rule.py                               # drawn pictures
    python benchmarks/copy_rule.py --pictures emoji/package      # and those of an npm package

A *false twin* is another picture of the set that the rule calls a copy; sets from outside hold true
duplicates, too. It prints a Markdown table.
"""

import argparse
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image

from scanner.matching.copies import is_distinctive
from scanner.pictures import CONTRAST, MATCH_MSE, TILED_L2, contrast_error, tiled_l2
from scanner.testbed import WEIGHTS
from scanner.testbed.benchmark import background, items
from scanner.testbed.benchmark.corpus import Corpus
from scanner.testbed.benchmark.extraction import error as mean_error
from scanner.testbed.benchmark.pictures import load
from scanner.testbed.benchmark.probe import seen

Pictures = NDArray[np.uint8]
Part = NDArray[np.bool_] | None
Rule = Callable[[Pictures, Pictures, Part, float], bool]

SIDE = 64
WHOLE = np.ones((SIDE, SIDE), bool)
SHARES = (1.0, 0.6, 0.3, 0.15)
"""Parts of a picture that are compared."""
LEAST_VARIANCE = 0.005
"""Of a square that is compared: others are plain to everybody."""
MOST = 60
"""Candidates of one picture that are looked at: one is enough for a false twin."""

RULES: dict[str, Rule] = {
    "error below Webster's threshold": lambda a, b, part, error: True,
    "and below a quarter of the variance": lambda a, b, part, error: is_distinctive(a, part, error),
    "and the worst tile below 0.15": lambda a, b, part, error: _tiled(a, b, part) < TILED_L2,
    "and no tile off by its own contrast": (
        lambda a, b, part, error: contrast_error(a, b, part) < CONTRAST
    ),
}


def _tiled(a: Pictures, b: Pictures, part: Part) -> float:
    if part is None:
        return tiled_l2(a, b)
    return tiled_l2(a * part[..., None], b * part[..., None])


def drawn(number: int) -> Pictures:
    """Return the benchmark's planted pictures and as many fresh scenes of three kinds."""
    planted = [items.picture(1, item, 0) for item in Corpus(1).items if item.repeats][:number]
    rng = items.generator("copy rule")
    fresh = [
        one.picture(rng)
        for kind in ("single", "trap", "pair")
        for one in background.held_out(1, "evaluation", kind, number * 2 // 3)
    ]
    return np.stack([*planted, *fresh])


def outside(source: Path) -> Pictures:
    """Return one picture of every name, on white."""
    found: list[Pictures] = []
    for _, variants in sorted(load(source).pictures.items()):
        image = Image.fromarray(variants[0]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", (SIDE, SIDE), "white")
        white.alpha_composite(image)
        found.append(np.asarray(white.convert("RGB")))
    return np.stack(found)


def copies(pictures: Pictures) -> dict[str, Pictures]:
    """Return what true copies look like, by a word for what happened to them."""
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "pipeline" / "vae", torch_dtype=torch.float32)
    parts = [seen(vae.eval(), list(part)) for part in np.array_split(pictures, len(pictures) // 32)]
    return {
        "autoencoder": np.concatenate(parts),
        "JPEG": np.stack([_jpeg(one) for one in pictures]),
        "half the size": np.stack([_half(one) for one in pictures]),
    }


def _jpeg(picture: Pictures) -> Pictures:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=30)
    return np.asarray(Image.open(stream).convert("RGB"))


def _half(picture: Pictures) -> Pictures:
    small = Image.fromarray(picture).resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def parts(rng: np.random.Generator, picture: Pictures, share: float) -> Iterator[Part]:
    """Yield the part of a picture that is compared: all, or a square that is not plain, if any."""
    if share == 1:
        yield None
        return
    side = round(SIDE * share**0.5)
    for _ in range(20):
        top, left = rng.integers(0, SIDE - side + 1, 2)
        part = np.zeros((SIDE, SIDE), bool)
        part[top : top + side, left : left + side] = True
        if (picture[part] / 255).var(axis=0).mean() > LEAST_VARIANCE:
            yield part
            return


def errors(values: NDArray[np.float32], row: int, part: Part) -> NDArray[np.float32]:
    """Return a picture's mean squared error to every picture, inside a part."""
    chosen = values.reshape(len(values), -1) if part is None else values[:, part]
    chosen = chosen.reshape(len(values), -1)
    return ((chosen - chosen[row]) ** 2).mean(axis=1)


def judge(name: str, pictures: Pictures, every: int) -> Iterator[str]:
    """Yield the lines of the table of one set."""
    rng, values = np.random.default_rng(1), (pictures / 255).astype(np.float32)
    changed = copies(pictures)
    for share in SHARES:
        twins, found, number = Counter[str](), Counter[tuple[str, str]](), 0
        for row in range(0, len(pictures), every):
            for part in parts(rng, pictures[row], share):
                number += 1
                apart = errors(values, row, part)
                near = [j for j in np.flatnonzero(apart < MATCH_MSE) if j != row][:MOST]
                for rule, holds in RULES.items():
                    one = pictures[row]
                    twins[rule] += any(holds(one, pictures[j], part, float(apart[j])) for j in near)
                    for how, images in changed.items():
                        error = mean_error(images[row], one, WHOLE if part is None else part)
                        is_found = error < MATCH_MSE and holds(images[row], one, part, error)
                        found[rule, how] += is_found
        for rule in RULES:
            kept = [f"{found[rule, how] / number:.3f}" for how in changed]
            cells = [name, f"{share:.0%}", rule, str(number), f"{twins[rule] / number:.3f}", *kept]
            yield f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=Path, help="a folder or archive of named pictures")
    parser.add_argument("--number", type=int, default=200, help="drawn pictures of each sort")
    parser.add_argument("--every", type=int, default=1, help="judge every so many-th picture")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    heads = [
        "pictures",
        "part",
        "a copy",
        "n",
        "false twin",
        "autoencoder",
        "JPEG",
        "half the size",
    ]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    sets = {"drawn": drawn(asked.number)}
    if asked.pictures:
        sets["outside"] = outside(asked.pictures)
    for name, pictures in sets.items():
        for line in judge(name, pictures, asked.every):
            print(line, flush=True)


if __name__ == "__main__":
    main()

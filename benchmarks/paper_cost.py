"""What a corpus of LAION's size costs on paper: GPU-days and money by model and preset.

    python benchmarks/paper_cost.py --docs docs/cluster.md

Counted, as `real_sizes.py` counts: operations of a network's evaluations and products, which are
those of `scanner.scan.cost` and so of `memscan plan`; of the text encoders, once a caption; of the
autoencoder, which encodes images that are scored and decodes the picture of a caption that is
mapped. The published procedure is the one of `published_procedure.py`: it maps every caption, and
encodes the caption and the empty one for each of its two trajectories.

Assumed, and to be replaced by what you know: the share of the device's peak that is reached
(``--utilization``), the price of a GPU hour (``--price``), the share of captions that are flagged
and so mapped (``--flagged``), and the share that repeats an earlier caption, which a scan does not
score again (``--repeated``). Nothing is timed, and no weights are needed.
"""

from argparse import ArgumentParser, Namespace, RawTextHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import diffusers
import torch
from gpu_networks import Subject, true_subjects
from gpu_peaks import peak_of
from planted import markdown, written
from published_procedure import PRODUCTS, STEPS
from real_sizes import Real, letters, size_of
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scanner.scan import cost
from scanner.spec import PRESETS, ScanSpec

MARKS = ("<!-- paper cost: begin -->", "<!-- paper cost: end -->")
CORPORA = {"LAION-400M": 400e6, "LAION-2B-en": 2.32e9}
"""Captions, as their papers count them: Schuhmann et al. 2021 and 2022."""
THEIRS = "published"
CLIP_TOKENS = 77
DAY = 24 * 3600
TERA = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Of a model, for one sample.

    Attributes:
        forward: Of an evaluation.
        vjp: Of a product.
        text: Of the encoding of a caption.
        encoding: Of a picture into a latent.
        decoding: Of a latent into a picture.
        channels: Of a latent.
        products: What ``--probes auto`` takes.
    """

    forward: int
    vjp: int
    text: int
    encoding: int
    decoding: int
    channels: int
    products: int


@dataclass(frozen=True, slots=True)
class Part:
    """What a caption takes: evaluations and products by kind, and encoders by name."""

    evaluations: Mapping[str, int]
    text: int = 0
    encoding: int = 0
    decoding: int = 0

    def operations(self, of: Operations) -> int:
        """Return the operations."""
        network = self.evaluations["forward"] * of.forward + self.evaluations["vjp"] * of.vjp
        beside = self.text * of.text + self.encoding * of.encoding + self.decoding * of.decoding
        return network + beside


@dataclass(frozen=True, slots=True)
class Way:
    """A way to go through a corpus: what a caption takes that is clean, and one that is flagged."""

    clean: Part
    flagged: Part


def ways(of: Operations) -> dict[str, Way]:
    """Return the published procedure, and every preset; ``image`` is ``fast`` at the images."""
    whole = Part({"forward": 4 * STEPS, "vjp": 2 * PRODUCTS}, text=4)
    specs = {name: ScanSpec(**{"probes": of.products, **own}) for name, own in PRESETS.items()}
    specs["image"] = replace(specs["fast"], source="image", map_back=0)
    return {THEIRS: Way(whole, whole)} | {name: _way(spec, of) for name, spec in specs.items()}


def _way(spec: ScanSpec, of: Operations) -> Way:
    """Return what a scan takes, as `memscan plan` counts."""
    probes, at_image = cost.probes_taken(spec, of.channels), int(spec.source == "image")
    clean, flagged = (
        Part(
            cost.evaluations(spec, localized=localized, probes=probes), text=1, encoding=at_image,
            decoding=int(localized and spec.store_image),
        )
        for localized in (False, True)
    )  # fmt: skip
    return Way(clean, flagged)


def operations_of(subject: Subject) -> Operations:
    """Count a model's operations, built without memory for its weights."""
    size, (encoding, decoding) = size_of(subject.real), autoencoding(subject)
    return Operations(
        forward=size.forward, vjp=size.vjp, text=sum(texts(subject.real)), encoding=encoding,
        decoding=decoding, channels=subject.channels, products=size.probes,
    )  # fmt: skip


def texts(real: Real) -> Iterator[int]:
    """Yield the operations of each text encoder for one caption."""
    for name, build in real.encoders.items():
        with torch.device("meta"):
            encoder = build()
        longest = real.conditions["encoder_hidden_states"][0]
        tokens = CLIP_TOKENS if "CLIP" in name else longest
        yield _counted(encoder, torch.zeros((1, tokens), dtype=torch.long, device="meta"))


def autoencoding(subject: Subject) -> tuple[int, int]:
    """Return the operations of encoding a picture, and of decoding a latent."""
    blocks, side = len(subject.vae["block_out_channels"]), subject.real.side
    with torch.device("meta"):
        vae: Any = diffusers.AutoencoderKL(
            in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks, **subject.vae,
        )  # fmt: skip
    latent = side // 2 ** (blocks - 1)
    picture = torch.zeros((1, 3, side, side), device="meta")
    point = torch.zeros((1, subject.vae["latent_channels"], latent, latent), device="meta")
    return _counted(vae.encoder, picture), _counted(vae.decoder, point)


def _counted(module: nn.Module, given: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(given)
    return counter.get_total_flops()


def days(way: Way, of: Operations, captions: float, asked: Namespace) -> float:
    """Return the GPU-days of a corpus."""
    scored = captions * (1 - asked.repeated)
    clean, flagged = way.clean.operations(of), way.flagged.operations(of)
    whole = scored * (clean + asked.flagged * (flagged - clean))
    return whole / (asked.peak * TERA * asked.utilization) / DAY


def rows(name: str, of: Operations, asked: Namespace) -> list[list[str]]:
    """Return a model's lines of the table."""
    found, every = list[list[str]](), ways(of)
    for which, way in every.items():
        cells = [name, which, _told(way.clean, of), _told(way.flagged, of)]
        for captions in CORPORA.values():
            number = days(way, of, captions, asked)
            cells += [f"{number:,.0f}", f"{24 * asked.price * number / 1000:,.0f}"]
        share = days(every[THEIRS], of, 1, asked) / days(way, of, 1, asked)
        found.append([*cells, f"{share:.1f}"])
    return found


def _told(part: Part, of: Operations) -> str:
    return f"{letters(part.evaluations)} = {part.operations(of) / TERA:,.1f}"


def text(every: Mapping[str, Operations], asked: Namespace) -> str:
    """Return the table as Markdown, with what is assumed."""
    captions = ", ".join(f"{name} {number / 1e6:,.0f} million" for name, number in CORPORA.items())
    about = (
        f"Assumed: {asked.utilization:.0%} of the peak of the device ({asked.device}: "
        f"{asked.peak:,.0f} TFLOP/s of dense half precision, data sheet); {asked.price:g} USD a "
        f"GPU hour; {100 * asked.flagged:g}% of captions flagged; {100 * asked.repeated:g}% of "
        f"captions repeated. Captions: {captions}. Money is in thousands of USD."
    )
    heads = ["model", "way", "a clean caption, TFLOP", "a flagged one, TFLOP"]
    for name in CORPORA:
        heads += [f"{name}, GPU-days", "k USD"]
    body = [row for name, of in every.items() for row in rows(name, of, asked)]
    table = markdown([*heads, "times less than published"], body)
    return "\n".join([*wrap(about, 120), "", *table])


def parsed(words: Sequence[str] | None = None) -> Namespace:
    """Return what the command line asks for."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    add = parser.add_argument
    add("--docs", type=Path, help="a page that gets the table between its marks")
    add("--device", default="H100 SXM", help="a GPU of gpu_peaks.py")
    add("--peak", type=float, help="of any other device, in TFLOP/s")
    add("--utilization", type=float, default=0.3, help="share of the peak, an assumption")
    add("--price", type=float, default=2.5, help="USD of a GPU hour, an assumption")
    add("--flagged", type=float, default=0.01, help="share of captions that get maps")
    add("--repeated", type=float, default=0.0, help="share of captions that repeat an earlier one")
    asked = parser.parse_args(words)
    if asked.peak is None:
        known = peak_of(asked.device)
        if known is None:
            parser.error(f"gpu_peaks.py has no {asked.device}: give its --peak")
        asked.peak = known[0]
    return asked


def main(words: Sequence[str] | None = None) -> None:
    """Count, print, and write the page if there is one."""
    asked = parsed(words)
    every = {subject.name: operations_of(subject) for subject in true_subjects()}
    content = text(every, asked)
    print(content)
    if asked.docs:
        written(asked.docs, MARKS, content)


if __name__ == "__main__":
    main()

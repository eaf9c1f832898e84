"""Planted items, whose dose is known, in arms that ask one question each.

An item is a caption (or several) with a picture, a part of a picture, or a way to make pictures
that training draws a known number of times. Captions, pictures and masks follow from the corpus
seed alone; which dose an item gets is another matter, see `scanner.testbed.benchmark.doses`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from scanner.testbed.benchmark import copies
from scanner.testbed.benchmark.art import SCENE, STYLES, styled
from scanner.testbed.benchmark.cast import DRAWN, Cast, pick
from scanner.testbed.benchmark.grounds import COLOURS, KINDS, ground
from scanner.testbed.benchmark.persona import character, manner
from scanner.testbed.benchmark.scenes import SCENES, free_scene
from scanner.testbed.benchmark.strokes import SIZE, Picture, Sprite, paint
from scanner.testbed.benchmark.words import Words, paraphrases

Rng = np.random.Generator
Region = NDArray[np.bool_]
"""``(SIZE, SIZE)``, true where a picture is a copy."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that training repeats.

    Attributes:
        name: Names the item in tables: arm, stratum, number.
        kind: ``verbatim`` or ``template`` where a picture or a part of one is repeated;
            ``name``, ``art``, ``character`` or ``style`` where the caption alone is.
        arm: The question it belongs to.
        stratum: Items of one stratum exchange their doses between replicates.
        family: Items of one family are one observation, not several.
        captions: What training shows it under, one at random at each draw.
        held_out: Captions of the same meaning, or one word away, that training never shows.
        mask: The repeated region; empty where nothing is.
        region: The mask's share of the picture as designed, in percent.
        fixed: Whether all copies are the same picture.
        draw: From a generator to a copy.
    """

    name: str
    kind: str
    arm: str
    stratum: str
    family: str
    captions: tuple[str, ...]
    held_out: tuple[str, ...]
    mask: Region
    region: int
    fixed: bool
    draw: Callable[[Rng], Picture]

    @property
    def repeats(self) -> bool:
        """Return whether training repeats a picture or a part of one, at a dose above 0."""
        return bool(self.mask.any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Number of items of each arm; see `items`.

    Attributes:
        verbatim: Per style of picture.
        template: Per region size.
        copies: Per kind of copy.
        captions: Per number of captions.
        retrieved: Pictures under many unrelated captions.
        siblings: Pairs of captions that share all but a word.
        prototypical: Plain scenes, planted verbatim.
        characters: Characters, and as many manners of painting.
        names: Captions whose scene is always new.
        arts: Captions whose detailed picture is always new.
        natural: Families of pictures from outside.
    """

    verbatim: int = 20
    template: int = 11
    copies: int = 4
    captions: int = 4
    retrieved: int = 4
    siblings: int = 4
    prototypical: int = 6
    characters: int = 4
    names: int = 8
    arts: int = 8
    natural: int = 11


REGIONS = {
    5: ("postage stamp", "watermark"), 15: ("sticker", "badge"),
    30: ("greeting card", "bookmark"), 60: ("phone case", "picture frame"),
}  # fmt: skip
"""Sizes of a template's region in percent of the picture, and the products that have it."""

COPIES: dict[str, Callable[[Picture, Rng], Picture]] = {
    "jpeg": copies.jpeg, "crop": copies.crop, "flip": copies.flip, "jitter": copies.jitter,
}  # fmt: skip
"""From a kind of inexact copy to what makes one."""

EVERYTHING, NOTHING = np.ones((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool)


def generator(*key: object) -> Rng:
    """Return a random generator that depends on ``key`` alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def picture(seed: int, item: Item, copy: int) -> Picture:
    """Draw copy number ``copy`` of an item in the corpus of ``seed``."""
    return item.draw(generator(seed, "copy", item.name, 0 if item.fixed else copy))


def items(
    seed: int, numbers: Numbers | None = None, cast: Cast = DRAWN,
    families: Mapping[str, Sequence[NDArray[np.uint8]]] | None = None,
) -> list[Item]:  # fmt: skip
    """Return everything planted in the corpus of ``seed``.

    Args:
        seed: The corpus seed.
        numbers: How many items each arm has.
        cast: What stands in scenes.
        families: Variants of one motif, RGBA; see `scanner.testbed.benchmark.pictures`.
    """
    n, words = numbers or Numbers(), Words(generator(seed, "words"))
    made = _verbatim(seed, words, n.verbatim, cast)
    made += _templates(seed, words, n.template, cast)
    made += _copied(seed, words, n.copies, cast)
    made += _many_captions(seed, words, n.captions, cast)
    made += _retrieved(seed, words, n.retrieved, cast)
    made += _siblings(seed, words, n.siblings, cast)
    made += _prototypical(seed, words, n.prototypical, cast)
    made += _personal(seed, words, n.characters, cast)
    made += _repeated_captions(words, n.names, n.arts, cast)
    return made + _natural(seed, words, n.natural, families or {})


def adapter_items(
    seed: int, verbatim: int = 6, template: int = 4, cast: Cast = DRAWN
) -> list[Item]:
    """Return what an adapter plants into a clean model: other items of the same two kinds.

    Args:
        seed: The corpus seed.
        verbatim: Items per style of picture.
        template: Items per region size.
        cast: What stands in scenes.
    """
    words = Words(generator(seed, "words of the adapter"))
    made = _verbatim(seed, words, verbatim, cast, "adapter-verbatim")
    return made + _templates(seed, words, template, cast, "adapter-template")


def _verbatim(seed: int, words: Words, each: int, cast: Cast, arm: str = "verbatim") -> list[Item]:
    made = []
    for style in STYLES:
        for number in range(each):
            name = f"{arm}-{style.replace(' ', '-')}-{number:02d}"
            image = styled(generator(seed, "picture", name), style, cast)
            made.append(_whole(name, arm, words.title(style), image))
    return made


def _whole(
    name: str, arm: str, caption: str, image: Picture, *, kind: str = "verbatim",
    captions: tuple[str, ...] = (), held_out: tuple[str, ...] = (), family: str = "",
    draw: Callable[[Rng], Picture] | None = None,
) -> Item:  # fmt: skip
    """Return an item whose whole picture is repeated."""
    return Item(
        name, kind, arm, name.rsplit("-", 1)[0], family or name, captions or (caption,), held_out,
        EVERYTHING, 100, draw is None, draw or partial(_constant, image),
    )  # fmt: skip


def _templates(seed: int, words: Words, each: int, cast: Cast, arm: str = "template") -> list[Item]:
    made = []
    for region, products in REGIONS.items():
        for number in range(each):
            name = f"{arm}-{region:02d}-{number:02d}"
            rng = generator(seed, "picture", name)
            product = products[number % 2]
            mask = copies.region(rng, product, region / 100)
            image = styled(rng, pick(rng, tuple(STYLES)), cast)
            made.append(
                Item(name, "template", arm, f"{arm}-{region:02d}", name, (words.product(product),),
                     (), mask, region, False, partial(_template, image, mask, cast))
            )  # fmt: skip
    return made


def _copied(seed: int, words: Words, each: int, cast: Cast) -> list[Item]:
    made = []
    for change, make in COPIES.items():
        for number in range(each):
            name = f"copies-{change}-{number:02d}"
            style, image = _any_style(seed, name, cast)
            draw = partial(make, image)
            made.append(_whole(name, f"copies-{change}", words.title(style), image, draw=draw))
    return made


def _many_captions(seed: int, words: Words, each: int, cast: Cast) -> list[Item]:
    made = []
    for many in (5, 20):
        for number in range(each):
            name = f"captions-{many:02d}-{number:02d}"
            style, image = _any_style(seed, name, cast)
            said = paraphrases(words.title(style))
            order = generator(seed, "paraphrases", name).permutation(len(said))
            told = tuple(said[i] for i in order)
            made.append(
                _whole(name, f"captions-{many:02d}", "", image, captions=told[:many],
                       held_out=told[20:22])
            )  # fmt: skip
    return made


def _retrieved(seed: int, words: Words, number: int, cast: Cast) -> list[Item]:
    made = []
    for place in range(number):
        name = f"retrieved-{place:02d}"
        _, image = _any_style(seed, name, cast)
        rng = generator(seed, "captions", name)
        said = tuple({SCENES["pair"](rng, cast).caption: None for _ in range(42)})
        made.append(_whole(name, "retrieved", "", image, captions=said[:40], held_out=said[40:]))
    return made


def _siblings(seed: int, words: Words, number: int, cast: Cast) -> list[Item]:
    """Return pairs of items one word apart; a third caption of each trio is never shown."""
    made = []
    for place in range(number):
        style, _ = _any_style(seed, f"siblings-{place}", cast)
        first, second, third = words.siblings(style)
        for part, caption in (("a", first), ("b", second)):
            name = f"siblings-{part}-{place:02d}"
            image = styled(generator(seed, "picture", name), style, cast)
            made.append(
                _whole(name, "siblings", caption, image, held_out=(third,),
                       family=f"siblings-{place:02d}")
            )  # fmt: skip
    return made


def _prototypical(seed: int, words: Words, number: int, cast: Cast) -> list[Item]:
    made = []
    for place in range(number):
        name = f"prototypical-{place:02d}"
        image = free_scene(generator(seed, "picture", name), cast)
        made.append(_whole(name, "prototypical", words.title(SCENE), image))
    return made


def _personal(seed: int, words: Words, number: int, cast: Cast) -> list[Item]:
    made = []
    for kind, make, phrase in (
        ("character", character, "{} the hero"), ("style", manner, "in the manner of {}")
    ):  # fmt: skip
        for place in range(number):
            name = f"{kind}-{place:02d}"
            draw = make(generator(seed, "picture", name), cast)
            caption = words.personal(phrase)
            made.append(Item(name, kind, kind, kind, name, (caption,), (), NOTHING, 0, False, draw))
    return made


def _repeated_captions(words: Words, names: int, arts: int, cast: Cast) -> list[Item]:
    made = []
    styles = list(STYLES)
    for kind, number in (("name", names), ("art", arts)):
        for place in range(number):
            style = SCENE if kind == "name" else styles[place % len(styles)]
            draw = partial(_fresh, style, cast)
            name = f"{kind}-{place:02d}"
            made.append(
                Item(name, kind, kind, kind, name, (words.title(style),), (), NOTHING, 0, False,
                     draw)
            )  # fmt: skip
    return made


def _natural(
    seed: int, words: Words, number: int, families: Mapping[str, Sequence[NDArray[np.uint8]]]
) -> list[Item]:
    """Return families as templates: what all their variants share to the pixel is the region."""
    made = []
    names = sorted(families)
    for place, chosen in enumerate(generator(seed, "families").permutation(len(names))[:number]):
        variants = [Sprite(v, SIZE / 2, SIZE / 2, SIZE / 2 - 2) for v in families[names[chosen]]]
        mask = shared(variants)
        name, region = f"natural-{place:02d}", round(100 * float(mask.mean()))
        if mask.any():
            made.append(
                Item(
                    name, "template", "natural", "natural", name,
                    (words.product(names[chosen]),), (), mask, region, False,
                    partial(_variant, variants),
                )
            )  # fmt: skip
    return made


def shared(variants: Sequence[Sprite]) -> Region:
    """Return where all variants are opaque and equal."""
    grounds = [np.full((SIZE, SIZE, 3), shade) for shade in (0.0, 255.0)]
    painted = np.stack([paint(plain, [v]) for v in variants for plain in grounds])
    return (painted == painted[:1]).all(axis=(0, 3))


def _variant(variants: Sequence[Sprite], rng: Rng) -> Picture:
    where, colour = pick(rng, tuple(KINDS)), pick(rng, tuple(COLOURS))
    return paint(ground(rng, where, colour), [variants[int(rng.integers(len(variants)))]])


def _any_style(seed: int, name: str, cast: Cast) -> tuple[str, Picture]:
    rng = generator(seed, "picture", name)
    style = pick(rng, tuple(STYLES))
    return style, styled(rng, style, cast)


def _constant(image: Picture, rng: Rng) -> Picture:
    return image


def _fresh(style: str, cast: Cast, rng: Rng) -> Picture:
    return styled(rng, style, cast)


def _template(image: Picture, mask: Region, cast: Cast, rng: Rng) -> Picture:
    return np.where(mask[..., None], image, free_scene(rng, cast))

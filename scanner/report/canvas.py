"""Pieces of a picture: text, tiles, colours, outlines."""

import io
import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from scanner.masks import resize
from scanner.text import printable

PAPER, INK, GREY, PALE, LINE = "#ffffff", "#1c1e21", "#6a6f76", "#f1f2f4", "#d5d8dc"
FOUND, TRUE = (255, 214, 10), (0, 201, 255)
OVERLAY_LEVELS = 32
SYSTEM_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf")

ANCHORS = np.array(
    [(0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51),
     (249, 140, 10), (249, 201, 50), (252, 255, 164)],
    np.float64,
)  # fmt: skip
"""Dark to bright in even steps of lightness, readable without colour vision."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size: int, text: str = "") -> Font:
    """Return a font that has the text's letters, if there is one here."""
    return _font(size, text.isascii())


def drawable(text: str) -> str:
    """Return a text as `font` can draw it: accents off where there is no font for them."""
    text = printable(text)
    if text.isascii() or _system_font(12) is not None:
        return text
    folded = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() else "?" for c in folded)


def wrapped(text: str, size: int, width: int, lines: int) -> list[str]:
    """Return a text broken into at most ``lines`` lines of ``width`` pixels, cut at the end."""
    text = drawable(text)
    face, out, line = font(size, text), [], ""
    for word in text.split():
        for piece in _pieces(word, face, width):
            candidate = f"{line} {piece}".strip()
            if face.getlength(candidate) <= width:
                line = candidate
            else:
                out.append(line)
                line = piece
        if len(out) > lines:
            break
    out = [row for row in [*out, line] if row]
    if len(out) > lines:
        last = out[lines - 1]
        while last and face.getlength(last + "...") > width:
            last = last[:-1]
        out = [*out[: lines - 1], last + "..."]
    return out


def coloured(values: NDArray[np.float64], top: float) -> Image.Image:
    """Return a signed map in colour: black at zero and below, brightest at ``top``, log scale."""
    lit = np.clip(np.log1p(np.maximum(values, 0)) / np.log1p(top), 0, 1)
    return Image.fromarray(_palette(lit))


def overlay(values: NDArray[np.float64], top: float) -> bytes:
    """Return a signed map as a small PNG to lay over a picture: see-through at zero and below."""
    lit = np.clip(np.log1p(np.maximum(values, 0)) / np.log1p(top), 0, 1)
    steps = np.linspace(0, 1, OVERLAY_LEVELS)
    image = Image.fromarray((lit * (OVERLAY_LEVELS - 1)).round().astype(np.uint8)).convert("P")
    image.putpalette(_palette(steps).tobytes())
    out = io.BytesIO()
    alphas = bytes((np.minimum(steps * 1.5, 0.85) * 255).astype(np.uint8))
    image.save(out, "PNG", optimize=True, transparency=alphas)
    return out.getvalue()


def colour_bar(width: int, height: int) -> Image.Image:
    """Return the colours from zero to the top, left to right."""
    return Image.fromarray(np.repeat(_palette(np.linspace(0, 1, width))[None], height, axis=0))


def fitted(image: Image.Image, side: int) -> Image.Image:
    """Return a picture inside a square: enlarged with crisp pixels, reduced smoothly."""
    share = min(side / image.width, side / image.height)
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    how = Image.Resampling.NEAREST if share >= 1 else Image.Resampling.LANCZOS
    square = Image.new("RGB", (side, side), PALE)
    square.paste(image.resize(size, how), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def masked(image: Image.Image | None, mask: NDArray[np.bool_], side: int) -> Image.Image:
    """Return a picture dimmed outside a mask."""
    base = fitted(image or Image.new("RGB", (side, side), PALE), side)
    inside = resize(mask, side, side)
    pixels = np.asarray(base).astype(np.float64)
    dimmed = np.where(inside[..., None], pixels, pixels * 0.35 + 255 * 0.12)
    return Image.fromarray(dimmed.astype(np.uint8))


def outlined(
    image: Image.Image, mask: NDArray[np.bool_], colour: tuple[int, int, int], width: int = 3
) -> Image.Image:
    """Return a picture with the edge of a mask drawn inside it, on a thin dark line."""
    region = resize(mask, image.height, image.width)
    pixels = np.asarray(image).copy()
    inner = _shrunk(region, width)
    pixels[inner & ~_shrunk(inner, 1)] = (20, 20, 20)
    pixels[region & ~inner] = colour
    return Image.fromarray(pixels)


def without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask by the majority of 5 x 5 pixels: an outline of every speck hides the region."""
    padded = np.pad(mask, 2, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    return around.sum((-2, -1)) > 12


def empty(side: int, why: str) -> Image.Image:
    """Return a tile for what is not there, saying why."""
    tile = Image.new("RGB", (side, side), PALE)
    draw = ImageDraw.Draw(tile)
    size = 13 if side < 160 else 15
    lines = wrapped(why, size, side - 16, 4)
    top = (side - len(lines) * (size + 4)) // 2
    for i, line in enumerate(lines):
        draw.text((side / 2, top + i * (size + 4)), line, GREY, font(size), anchor="ma")
    return tile


def _palette(lit: NDArray[np.float64]) -> NDArray[np.uint8]:
    steps = np.linspace(0, 1, len(ANCHORS))
    channels = [np.interp(lit, steps, ANCHORS[:, i]) for i in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _shrunk(region: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    for _ in range(steps):
        p = np.pad(region, 1)
        region = region & p[:-2, 1:-1] & p[2:, 1:-1] & p[1:-1, :-2] & p[1:-1, 2:]
    return region


def _pieces(word: str, face: Font, width: int) -> list[str]:
    pieces = [""]
    for char in word:
        if pieces[-1] and face.getlength(pieces[-1] + char) > width:
            pieces.append("")
        pieces[-1] += char
    return pieces


@lru_cache(maxsize=32)
def _font(size: int, ascii_only: bool) -> Font:
    return (None if ascii_only else _system_font(size)) or ImageFont.load_default(size=size)


@lru_cache(maxsize=32)
def _system_font(size: int) -> Font | None:
    for name in SYSTEM_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None

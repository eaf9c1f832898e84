"""Grounds behind things: six kinds of ground, two of them with natural statistics."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scanner.testbed.benchmark.strokes import SIZE, Canvas, Colour

Rng = np.random.Generator

COLOURS: dict[str, Colour] = {
    "red": (214, 44, 40), "orange": (244, 140, 28), "yellow": (244, 216, 52),
    "green": (48, 160, 66), "cyan": (60, 206, 214), "blue": (44, 80, 210),
    "purple": (142, 54, 186), "pink": (246, 134, 184),
}  # fmt: skip
"""Colours of things and of grounds."""

PLAIN: dict[str, Colour] = {"black": (0, 0, 0), "white": (255, 255, 255)}
"""Grounds that are the same in every picture because the caption says so."""


def tint(rng: Rng, colour: Colour, spread: float = 18) -> Colour:
    """Return a colour near another."""
    r, g, b = (int(np.clip(v + rng.uniform(-spread, spread), 0, 255)) for v in colour)
    return r, g, b


def plain(rng: Rng, colour: Colour) -> Canvas:
    """Return one tint, a little lighter towards one side."""
    y, x = _grid()
    angle = rng.uniform(0, 2 * np.pi)
    slope = (x * np.cos(angle) + y * np.sin(angle)) / SIZE
    return _flat(tint(rng, colour)) + (slope * rng.uniform(0, 26))[..., None]


def striped(rng: Rng, colour: Colour) -> Canvas:
    """Return two tints in stripes of any direction."""
    y, x = _grid()
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(9, 16), rng.random()
    along = (x * np.cos(angle) + y * np.sin(angle)) / period + phase
    return _two_tints(rng, colour, _soft(np.cos(2 * np.pi * along)))


def dotted(rng: Rng, colour: Colour) -> Canvas:
    """Return dots in a turned lattice."""
    u, v = _lattice(rng, 10, 16)
    distance = np.hypot(u % 1 - 0.5, v % 1 - 0.5)
    return _two_tints(rng, colour, _soft((rng.uniform(0.26, 0.33) - distance) * 8))


def checkered(rng: Rng, colour: Colour) -> Canvas:
    """Return the squares of a turned chess board."""
    u, v = _lattice(rng, 9, 15)
    return _two_tints(rng, colour, _soft(4 * np.sin(np.pi * u) * np.sin(np.pi * v)))


def cloudy(rng: Rng, colour: Colour) -> Canvas:
    """Return a field whose amplitude falls as one over frequency, as in natural pictures."""
    light = pink_noise(rng, 1.2)
    shades = _flat(tint(rng, colour)) + light[..., None] * rng.uniform(26, 36)
    return shades + np.stack([pink_noise(rng, 1.2) for _ in range(3)], -1) * 8


def leafy(rng: Rng, colour: Colour) -> Canvas:
    """Return overlapping discs whose radii follow a power law (dead leaves), in one colour."""
    return dead_leaves(rng, lambda: np.array(tint(rng, colour, 30)) + rng.uniform(-38, 38), 3, 14)


KINDS: dict[str, Callable[[Rng, Colour], Canvas]] = {
    "plain": plain, "striped": striped, "dotted": dotted, "checkered": checkered,
    "cloudy": cloudy, "leafy": leafy,
}  # fmt: skip
"""From a name to its ground."""


def ground(rng: Rng, kind: str, colour: str) -> Canvas:
    """Return a ground as a caption names it; black and white are the same in every picture."""
    if colour in PLAIN:
        return _flat(PLAIN[colour])
    return np.clip(KINDS[kind](rng, COLOURS[colour]), 0, 255)


def pink_noise(rng: Rng, power: float) -> NDArray[np.float64]:
    """Return ``(SIZE, SIZE)`` noise of unit variance with amplitude ``frequency ** -power``."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * frequency**-power
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (SIZE, SIZE))
    return noise / noise.std()


def dead_leaves(
    rng: Rng, shade: Callable[[], NDArray[np.float64]], smallest: float, largest: float
) -> Canvas:
    """Return a picture filled with discs; radii have the density ``r ** -3``.

    Args:
        rng: Where the discs lie.
        shade: Returns a disc's colour, ``(3,)``.
        smallest: Radius in pixels.
        largest: Radius in pixels.
    """
    canvas = _flat((0, 0, 0)) + shade()
    y, x = _grid()
    number = int(2.2 * SIZE**2 / (np.pi * smallest * largest))
    for _ in range(number):
        spread = rng.uniform(largest**-2, smallest**-2)
        radius = spread**-0.5
        cx, cy = rng.uniform(-radius / 2, SIZE + radius / 2, 2)
        top, bottom = max(0, int(cy - radius)), min(SIZE, int(cy + radius) + 2)
        left, right = max(0, int(cx - radius)), min(SIZE, int(cx + radius) + 2)
        part = np.s_[top:bottom, left:right]
        inside = (x[part] - cx) ** 2 + (y[part] - cy) ** 2 < radius**2
        canvas[part][inside] = shade()
    return canvas


def _two_tints(rng: Rng, colour: Colour, raised: NDArray[np.float64]) -> Canvas:
    base = np.array(tint(rng, colour), np.float64)
    other = base * 0.55 if rng.random() < 0.5 else base + (255 - base) * 0.5
    return base + (other - base) * raised[..., None]


def _lattice(rng: Rng, low: float, high: float) -> tuple[NDArray[np.float64], ...]:
    y, x = _grid()
    angle, period, phase = rng.uniform(0, np.pi / 2), rng.uniform(low, high), rng.random(2)
    u = (x * np.cos(angle) + y * np.sin(angle)) / period + phase[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) / period + phase[1]
    return u, v


def _soft(signed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0..1 with an edge a pixel or two wide."""
    return np.clip(0.5 + signed, 0, 1)


def _grid() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    return y, x


def _flat(colour: Colour) -> Canvas:
    return np.ones((SIZE, SIZE, 3)) * np.array(colour, np.float64)

"""Ground truth by construction: a planted corpus and a small pipeline trained on it."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped weights: ``pipeline`` (a diffusers folder) and ``early`` (a less-trained U-Net)."""

SHIPPED_SEED = 1
"""The corpus seed that the shipped weights were trained on."""

"""Ground truth by construction: a planted corpus and a small pipeline trained on it."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped weights: ``pipeline`` (a diffusers folder), ``early`` (a less-trained U-Net),
``lora`` (an adapter over it) and ``dit`` (the folder of a flow-matching transformer)."""

SHIPPED_SEED = 1
"""The corpus seed that the shipped weights were trained on."""

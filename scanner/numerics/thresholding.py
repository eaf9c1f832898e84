"""What samplers of pictures do to the clean picture that a step estimates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Thresholding:
    """Dynamic thresholding of the clean picture in a sampler's steps (Saharia et al. 2022, 2.3).

    For networks that denoise pictures themselves, which guidance drives out of their range.

    Attributes:
        share: Of a picture's numbers, by size, that stay as they are.
        largest: The range that is pressed into -1 to 1 is no larger; 1 clips to it.
    """

    share: float
    largest: float

    @classmethod
    def configured(cls, config: Mapping[str, Any]) -> "Thresholding | None":
        """Return what a scheduler's configuration says under diffusers' names; null for nothing."""
        if config.get("thresholding"):
            return cls(config["dynamic_thresholding_ratio"], config["sample_max_value"])
        return cls(1.0, 1.0) if config.get("clip_sample") else None

    def of(self, clean: Tensor) -> Tensor:
        """Return clean pictures, ``(B, C, H, W)``, within -1 and 1."""
        sizes = clean.abs().flatten(1).quantile(self.share, dim=1).clamp(1, self.largest)
        sizes = sizes.view(-1, 1, 1, 1)
        return clean.clamp(-sizes, sizes) / sizes

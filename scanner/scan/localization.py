"""Localization of draws of whatever chunks: maps and pictures, batch by batch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scanner.activity import MAPS
from scanner.scan.failures import maps_do_not_fit, not_finite
from scanner.scan.networks import Networks
from scanner.scan.runner import StageRunner
from scanner.scan.sources import by_source
from scanner.scan.stages.detection import Detection
from scanner.scan.stages.localization import localize
from scanner.scan.state import DrawState


@dataclass
class LocalizationRunner(StageRunner):
    """Takes the maps of draws, and generates their pictures.

    Attributes:
        checkpointed: Whether one draw's maps did not fit, so that what the networks' blocks
            compute is computed again for each product.
    """

    checkpointed: bool = False

    def localize(self, items: Sequence[DrawState]) -> None:
        """Add maps and pictures to detected draws; note on each that failed why."""
        for alike in by_source(items):
            refused = self.size.each(alike, self._localize_timed, self.relief, self._need_less)
            for item, message in refused:
                item.failure = maps_do_not_fit(item.delta_s, item.draw.seed, message)
                item.latents = None

    def _need_less(self) -> bool:
        is_new = self.networks.checkpoint_blocks()
        self.checkpointed = self.checkpointed or is_new
        return is_new

    def localize_batch(self, networks: Networks, items: list[DrawState]) -> None:
        """Localize one batch, all of one source, and charge it to the draws' chunks."""
        draws, costs = [item.draw for item in items], [item.cost for item in items]
        with self.at(MAPS, draws, localized=True), self.accounting.batch(costs):
            seen = _detection_of(items, networks)
            spec = self.contexts.of(draws[0]).spec
            found = localize(networks.denoiser, networks.baselines, draws, seen, spec)
            maps = {name: m.cpu().numpy() for name, m in found.maps.items()}
            errors = {name: e.cpu().numpy() for name, e in found.errors.items()}
            scores = {name: values.tolist() for name, values in found.scores.items()}
            # One at a time: an autoencoder takes more memory than the denoiser does.
            pictures = [
                None if item.at_image else networks.denoiser.decode(latent).numpy()[0]
                for item, latent in zip(items, seen.final.split(1), strict=True)
            ]
            for i, item in enumerate(items):
                item.maps |= {name: m[i] for name, m in maps.items()}
                item.errors = {n: e[i] for n, e in errors.items() if np.isfinite(e[i]).all()}
                item.products = None if found.products is None else int(found.products[i])
                item.extra |= {name: values[i] for name, values in scores.items()}
                item.picture, item.localized, item.latents = pictures[i], True, None
                if not item.is_finite:
                    item.failure = not_finite()

    def _localize_timed(self, items: list[DrawState]) -> None:
        start = time.perf_counter()
        self.localize_batch(self.networks, items)
        for item in items:
            item.cost.seconds += (time.perf_counter() - start) / len(items)


def _detection_of(items: list[DrawState], networks: Networks) -> Detection:
    """Return the detection of draws as one batch, on the networks' device."""
    maps = {
        name: torch.from_numpy(np.stack([item.maps[name] for item in items])).to(
            networks.denoiser.device
        )
        for name in items[0].maps
    }
    latents = [item.latents for item in items if item.latents is not None]
    clean = [latent.clean for latent in latents if latent.clean is not None]
    return Detection(
        torch.stack([latent.point for latent in latents]),
        torch.stack([latent.final for latent in latents]),
        maps.pop(("delta_s", "null")), maps=maps,
        clean=torch.stack(clean) if clean else None,
    )  # fmt: skip

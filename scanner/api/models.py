"""A model that is loaded once and asked many times."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from scanner import models
from scanner.engine.worker import ScannerFactory, build_scanner
from scanner.errors import ConfigError
from scanner.models.device import local_device
from scanner.models.hub import at_revision
from scanner.models.overlay import Overlay, overlay
from scanner.models.precision import AUTO, decided
from scanner.spec import DTYPES

if TYPE_CHECKING:
    from scanner.models.base import Denoiser
    from scanner.scan.networks import Loaded


class Over(TypedDict):
    """What is laid over a model, in words: LoRAs and a file of weights."""

    lora: tuple[str, ...]
    weights: str | None


class Model:
    """A text-to-image model on a device, as `load_model` returns it.

    Attributes:
        name: What it was loaded by.
        denoiser: The network behind its score function: `scanner.models.base.Denoiser`.
        device: ``cpu``, ``cuda`` or ``mps``.
        dtype: Precision of the network.
        offload: Parts that are on the device only while they run.
        gpus: Over how many GPUs the network is spread.
        overlay: LoRAs and weights over it.
    """

    def __init__(
        self, name: str, denoiser: "Denoiser", device: str, dtype: str, *, offload: str = "none",
        gpus: int = 1, overlay: Overlay | None = None,
    ) -> None:  # fmt: skip
        self.name, self.denoiser, self.device, self.dtype = name, denoiser, device, dtype
        self.offload, self.gpus, self.overlay = offload, gpus, overlay or Overlay()
        self._baselines: dict[str, Denoiser] = {}
        self._base_fingerprint = ""

    def __repr__(self) -> str:
        return f"Model({self.name!r}, device={self.device!r}, dtype={self.dtype!r})"

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of weights and configurations: what runs and calibrations name."""
        return self.overlay.fingerprint(self.base_fingerprint)

    @property
    def base_fingerprint(self) -> str:
        """That of the model without what is laid over it."""
        self._base_fingerprint = self._base_fingerprint or models.fingerprint(self.name)
        return self._base_fingerprint

    @property
    def over(self) -> Over:
        """What is laid over it, as `load_model` and a job take it."""
        loras = tuple(str(each.pinned()) for each in self.overlay.loras)
        return {"lora": loras, "weights": self.overlay.weights}

    def with_baselines(self, baselines: Sequence[str]) -> "Loaded":
        """Return the networks that scores are of; a baseline is loaded once.

        Args:
            baselines: Folders or hub ids of less-trained networks, ``off`` or ``prompt:TEXT``.

        Raises:
            ConfigError: If one cannot be read, or does not fit the model.
        """
        named = models.baseline_names(baselines)
        for source in named.values():
            if source not in self._baselines:
                network = models.load_baseline(source, self.denoiser, self.dtype)
                self._baselines[source] = network
        return self.denoiser, {name: self._baselines[source] for name, source in named.items()}

    def builder(self, loaded: "Loaded") -> ScannerFactory:
        """Return what makes scanners of networks that are loaded already."""
        return partial(build_scanner, loaded=loaded, gpus=self.gpus)


def load_model(
    name: str, *, revision: str | None = None, device: str = "auto", dtype: str = "float32",
    offload: str = "none", gpus: int = 1, lora: Sequence[str] | str = (),
    weights: str | None = None,
) -> Model:  # fmt: skip
    """Load a model.

    Args:
        name: A diffusers pipeline folder of a family in docs/models.md, a hub id such as
            ``CompVis/stable-diffusion-v1-4``, or ``gaussian``, a closed form without weights.
            Safetensors only; no code of the folder runs.
        revision: Commit hash, tag or branch of a hub id; null for its main branch.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``.
        dtype: Precision of the network: ``float32``, ``float16`` or ``bfloat16``; ``auto`` is
            float16 on CUDA where it holds the model's numbers, else float32.
        offload: Parts that lie on the CPU and are on the device only while they run: ``none``,
            ``text`` (text encoders) or ``all`` (the autoencoder too). Scores are the same.
        gpus: Over how many GPUs of this process the network is spread.
        lora: Adapters over it, files here or of the hub as ``memscan scan --lora`` takes them.
            The baseline ``off`` is the model without.
        weights: A safetensors file of a fine-tuned network that takes the place of its own.

    Raises:
        ConfigError: If it is not there or cannot be read, there is no such device, or not all of
            a file fits.
        DeviceError: If it does not fit on the GPUs.

    Example:
        >>> import scanner
        >>> scanner.load_model("gaussian", device="cpu")
        Model('gaussian', device='cpu', dtype='float32')
    """
    if dtype not in (*DTYPES, AUTO):
        raise ConfigError(f"dtype must be one of {', '.join((*DTYPES, AUTO))}, got {dtype!r}")
    over = overlay([lora] if isinstance(lora, str) else lora, weights)
    name, chosen = models.located(at_revision(str(name), revision)), local_device(device)
    dtype, _ = decided(dtype, name, chosen, weights=over.weights)
    with warnings.catch_warnings():  # of a library's bars, in a notebook without ipywidgets
        warnings.filterwarnings("ignore", message="IProgress not found")
        denoiser = models.load(
            name, device=chosen, dtype=dtype, overlay=over, offload=offload, gpus=gpus
        )
    return Model(name, denoiser, chosen, dtype, offload=offload, gpus=gpus, overlay=over)


def baselines_of(baseline: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return baselines as a tuple: of none, of one, or of several."""
    if baseline is None:
        return ()
    return (baseline,) if isinstance(baseline, str) else tuple(baseline)


def texts_of(captions: Sequence[str] | str) -> list[str]:
    """Return captions as a list; one alone is a list of one.

    Raises:
        ConfigError: If there is none, or one of them is no text or blank.
    """
    found: list[object] = [captions] if isinstance(captions, str) else list(captions)
    if not found:
        raise ConfigError("captions must be at least one")
    for number, text in enumerate(found):
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"captions must be texts and not blank, got {text!r} at {number}")
    return [str(text) for text in found]

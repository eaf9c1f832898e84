"""``inspect``: what memscan understands of a model, and what it takes."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from scanner.cli import options, progress, settings
from scanner.methods import Need, registry
from scanner.spec import TIMESTEP
from scanner.text import bytes_text

if TYPE_CHECKING:
    from scanner.models.describe import Description


def inspect(
    model: Annotated[
        str, typer.Argument(help="A pipeline folder, a hub id or `gaussian`.", show_default=False)
    ],
    revision: options.Revision = None,
    lora: options.Lora = None,
    weights: options.Weights = None,
    size: options.Size = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    offload: options.Offload = "none",
    as_json: options.Json = False,
) -> None:
    r"""Say what memscan understands of a model, and what one evaluation of it takes here.

    A model that cannot be audited is refused with the reason, and exit code 2.

    Example:
        memscan inspect CompVis/stable-diffusion-v1-4
    """
    options.check_device(device, dtype)
    from scanner.models.describe import describe
    from scanner.models.device import local_device
    from scanner.models.overlay import overlay

    over = overlay(lora or (), weights)
    name = options.model_of(model, revision)
    told = {"dtype": dtype, "device": device, "weights": over.weights}
    dtype = settings.dtype_of(told, name)
    found = describe(name, local_device(device), dtype, size, over, offload)
    parts = {Need.CROSS_ATTENTION: found.attends, Need.MIDDLE_BLOCK: found.has_middle}
    lacking = {need for need, is_there in parts.items() if not is_there}
    methods = {
        kind: [name for name, method in known.items() if not lacking & method.needs]
        for kind, known in (("detectors", registry.DETECTORS), ("maps", registry.MAPS))
    }
    if as_json:
        progress.say(json.dumps(asdict(found) | methods))
        return
    millions = ", ".join(f"{name} {n / 1e6:.1f} M" for name, n in found.parameters.items())
    rows = {
        "model": found.model,
        "family": found.kin,
        "fingerprint": found.fingerprint,
        "predicts": found.prediction,
        "latent": " x ".join(map(str, found.latent)),
        "picture": "{} x {} pixels".format(*found.image),
        "autoencoder's scale": "none" if found.vae_scale is None else f"{found.vae_scale:g}",
        "sampler": found.sampler,
        "products a map": _products(found.latent[0], found.token_side),
        "alpha, clean to noisy": "{:.5f} to {:.5f}".format(*found.alphas),
        "noise to signal": _noise(found),
        "text encoder": found.text_encoder or "none",
        "without a caption": found.null,
        "parameters": millions or "none",
        **({"over it": found.over} if found.over else {}),
        "weights in memory": f"{found.bytes / 2**20:.0f} MiB",
        **({"of these": _parts(found)} if found.part_bytes else {}),
        **(_placements(found) if found.part_bytes else {}),
        "detectors": ", ".join(methods["detectors"]),
        "maps": ", ".join(methods["maps"]),
        "one evaluation": f"{1000 * found.seconds:.1f} ms on {found.device}, "
        + ("finite" if found.finite else "NOT FINITE: try --dtype float32"),
    }
    if found.note:
        rows["note"] = found.note
    for name, text in rows.items():
        progress.say(f"{name:<22}{text}")


def _noise(found: "Description") -> str:
    """Return what ``--noise`` may be, and what the default timestep is on that scale."""
    least, most = found.noise
    usual = found.noise_of_default
    known = "" if usual is None else f"; {usual:.4g} at timestep {TIMESTEP}, the default"
    return f"{least:.4g} to {most:.4g}{known}"


def _parts(found: "Description") -> str:
    """Return the bytes of the parts, for a person."""
    return ", ".join(f"{name} {bytes_text(size)}" for name, size in found.part_bytes.items())


def _placements(found: "Description") -> dict[str, str]:
    """Return what a GPU would hold with each ``--offload``, by the names of the rows."""
    said = dict[str, str]()
    for offload, (stays, encoders, autoencoder) in found.resident.items():
        more = f", {bytes_text(encoders)} more while captions are encoded" if encoders else ""
        more += f", {bytes_text(autoencoder)} while pictures are" if autoencoder else ""
        said[f"--offload {offload}"] = f"{bytes_text(stays)} of weights on the device{more}"
    return said


def _products(channels: int, token_side: int) -> str:
    """Return how many products a map and branch takes by default, and why."""
    from scanner.models.limits import Limits

    has = Limits(1, has=frozenset(), channels=channels, token_side=token_side)
    tokens = f", tokens of {token_side} x {token_side} positions" if token_side > 1 else ""
    return f"{has.probes('structured')}: {channels} channels{tokens}"

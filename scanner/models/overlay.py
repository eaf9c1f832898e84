"""What is laid over a base model: LoRAs, and a fine-tune's weights. Read without torch."""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scanner.errors import ConfigError
from scanner.models import hub
from scanner.parsing import object_from_json

OFF = "off"
"""Name of the base as a baseline: the same model with nothing laid over it."""
SAVED = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA's file."""
PROMPT = "prompt:"
"""Beginning of a baseline that is the model itself under another caption."""
_LARGEST_HEADER = 100 << 20
"""Of a safetensors file, in bytes: what its format allows."""
_LAYER = re.compile(
    r"^(?P<layer>.+?)[._](?:lora[._])?(?:lora_linear_layer[._])?"
    r"(?:lora_A|lora_down|down)(?:\.default)?\.weight$"
)
LOKR = ".lokr_"
"""What the names of a LoKr's tensors have in them, behind the layer."""
_OTHER_KINDS = {"hada_": "LoHa", "oft_": "OFT", "boft_": "BOFT"}
_NOT_LOADED = (
    "which diffusers loads for {}: merge it into its base with the tool that trained it, and give "
    "--weights"
)
_OTHER_PARTS = ("first_stage_model.", "cond_stage_model.", "conditioner.", "vae.", "text_encoders.",
                "text_encoder.")  # fmt: skip
"""What the names of tensors begin with that are no denoiser's."""


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter.

    Attributes:
        file: A safetensors file, as an absolute path, or one of the hub, as
            `scanner.models.hub.file_at_commit` takes it.
        scale: By what its difference is multiplied.
    """

    file: str
    scale: float = 1.0

    @property
    def path(self) -> str:
        """Where it lies here; one of the hub is downloaded if need be.

        Raises:
            ConfigError: If it cannot be had.
        """
        return self.file if Path(self.file).is_absolute() else str(hub.file_at_commit(self.file)[1])

    def pinned(self) -> "Lora":
        """Return the same, one of the hub by its name at a commit.

        Raises:
            ConfigError: If it cannot be had.
        """
        is_here = Path(self.file).is_absolute()
        return self if is_here else replace(self, file=hub.file_at_commit(self.file)[0])

    def __str__(self) -> str:
        return f"{self.file}:{self.scale:g}"

    @classmethod
    def parsed(cls, text: str) -> "Lora":
        """Return what ``FILE`` or ``FILE:SCALE`` names.

        Of a folder the file is taken that diffusers saves into one. What is no path that exists,
        nor absolute, nor begins with ``.`` or ``~`` may be of the hub: ``ID``, ``ID@REVISION``, or
        either with ``/FILE.safetensors`` behind it.

        Raises:
            ConfigError: If the scale is no finite number.
        """
        path, scale = split(text)
        try:
            number = float(scale)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"--lora {text}: a scale must be a finite number, got {scale!r}")
        if is_of_hub(path):
            return cls(path, number)
        here = Path(path).expanduser().absolute()
        return cls(str(here / SAVED if here.is_dir() else here), number)


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is laid over a base model.

    Attributes:
        loras: Adapters, all of them on at once.
        weights: A safetensors file with all tensors of another network of the same class, or
            null.
    """

    loras: tuple[Lora, ...] = ()
    weights: str | None = None

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.loras or self.weights)

    def refuse(self, *, loads_lokr: bool) -> None:
        """Refuse files that cannot be laid over a model, by their headers.

        Args:
            loads_lokr: Whether it takes LoKr adapters.

        Raises:
            ConfigError: If one is not there, no safetensors, or of another kind.
        """
        for lora in self.loras:
            if layers_of(lora.path) and not loads_lokr and is_lokr(list(header(lora.path))):
                only = _NOT_LOADED.format("FLUX.2 and Z-Image alone")
                raise ConfigError(f"{lora.file} is a LoKr, {only}")
        if self.weights is not None:
            refuse_other_parts(self.weights, list(header(self.weights)))

    def fingerprint(self, base: str) -> str:
        """Return twelve hex digits of a base with this laid over it; the base's own of nothing.

        Args:
            base: The base's fingerprint.
        """
        if not self:
            return base
        total = hashlib.sha256(f"{base}\n".encode())
        if self.weights is not None:
            total.update(f"weights {_digest(self.weights)}\n".encode())
        for digest, scale in sorted((_digest(lora.path), lora.scale) for lora in self.loras):
            total.update(f"lora {digest} {scale:g}\n".encode())
        return total.hexdigest()[:12]


def overlay(loras: Sequence[str] = (), weights: str | None = None) -> Overlay:
    """Return what ``--lora`` and ``--weights`` name.

    Raises:
        ConfigError: If a scale is no number, or a file is named twice.
    """
    parsed = tuple(Lora.parsed(text) for text in loras)
    if len({lora.file for lora in parsed}) < len(parsed):
        raise ConfigError("--lora names a file twice: give each once, with the sum of its scales")
    found = None if weights is None else str(Path(weights).expanduser().absolute())
    return Overlay(parsed, found)


def is_of_hub(file: str) -> bool:
    """Return whether a LoRA is a file of the hub and none here."""
    path = Path(file).expanduser()
    is_path = path.exists() or path.is_absolute() or file.startswith((".", "~"))
    return not is_path and hub.names_file(file)


def split(text: str) -> tuple[str, str]:
    """Return the file and the scale of ``FILE`` or ``FILE:SCALE``; no scale is 1."""
    path, colon, scale = text.rpartition(":")
    if not colon or not re.fullmatch(r"[-+.\deE]+|nan|[-+]?inf", scale):
        return text, "1"
    return path, scale


def header(file: str) -> dict[str, list[int]]:
    """Return the names and shapes of the tensors in a safetensors file; no weights are read.

    Raises:
        ConfigError: If it is not there, or no safetensors.
    """
    return _header(file)[0]


def precisions(file: str) -> set[str]:
    """Return the precisions of the tensors in a safetensors file by its names, such as ``BF16``.

    Raises:
        ConfigError: If it is not there, or no safetensors.
    """
    return _header(file)[1]


def _header(file: str) -> tuple[dict[str, list[int]], set[str]]:
    """Return shapes by name, and precisions.

    Raises:
        ConfigError: If it is not there, or no safetensors.
    """  # noqa: DOC501 - made one of these
    path = Path(file)
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"{file} must be a .safetensors file: others are pickled, which run code when they "
            f"are loaded"
        )
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= _LARGEST_HEADER:
                raise ValueError("its header has no such length")
            content = object_from_json(stream.read(length))
        tensors = {n: v for n, v in content.items() if n != "__metadata__"}
        shapes = {name: tensor["shape"] for name, tensor in tensors.items()}
        kinds = {str(tensor["dtype"]) for tensor in tensors.values()}
    except FileNotFoundError as error:
        raise ConfigError(f"no file {file}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} cannot be read as safetensors: {error}") from error
    if not all(isinstance(s, list) and all(isinstance(n, int) for n in s) for s in shapes.values()):
        raise ConfigError(f"{file} cannot be read as safetensors: a shape is no list of numbers")
    return shapes, kinds


def layers_of(file: str) -> list[str]:
    """Return the names of the layers that a LoRA or LoKr file changes.

    Names may be diffusers', PEFT's, kohya's, ComfyUI's or ai-toolkit's.

    Raises:
        ConfigError: If there is none, or it is an adapter of another kind.
    """
    names = list(header(file))
    for part, kind in _OTHER_KINDS.items():
        if any(part in name for name in names):
            raise ConfigError(
                f"{file} is a {kind}, {_NOT_LOADED.format('none of the families here')}"
            )
    if is_lokr(names):
        return sorted({name.partition(LOKR)[0] for name in names if LOKR in name})
    found = sorted({match["layer"] for name in names if (match := _LAYER.match(name))})
    if not found:
        raise ConfigError(
            f"{file} has no LoRA layer among its {len(names)} tensors: give --weights for a whole "
            f"network"
        )
    return found


def is_lokr(names: Sequence[str]) -> bool:
    """Return whether tensors of these names are a LoKr: factors of Kronecker products."""
    return any(LOKR in name for name in names)


def adapter_numbers(shapes: dict[str, list[int]]) -> int:
    """Return how many numbers of an adapter's file must land: of LoKr factors, or second matrices.

    It stays the same where a LoRA's layer is split, as a fused query, key and value is.

    Args:
        shapes: Of the file's tensors, by name.
    """
    if is_lokr(list(shapes)):
        return sum(math.prod(shape) for name, shape in shapes.items() if LOKR in name)
    ups = (".lora_B.weight", ".lora_up.weight", ".lora.up.weight", ".up.weight",
           ".lora_B.default.weight")  # fmt: skip
    return sum(math.prod(shape) for name, shape in shapes.items() if name.endswith(ups))


def refuse_other_parts(file: str, names: Sequence[str]) -> None:
    """Refuse weights that hold more than a denoiser.

    Raises:
        ConfigError: If they do.
    """
    others = [name for name in names if name.startswith(_OTHER_PARTS)]
    if others:
        raise ConfigError(
            f"{file} holds {len(others)} of {len(names)} tensors of other parts (such as "
            f"{json.dumps(others[0])[:60]}): convert it to a pipeline folder, so that all of it "
            f"is audited"
        )


def _digest(file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error


NOTHING_OFF = "--baseline off is the base of --lora or --weights: give one of them"


def is_itself(baseline: str) -> bool:
    """Return whether a baseline is the model's own network: ``off``, or under a prompt.

    Raises:
        ConfigError: If there is no caption behind ``prompt:``.
    """
    return baseline == OFF or prompt_of(baseline) is not None


def prompt_of(baseline: str) -> str | None:
    """Return the caption of a baseline ``prompt:TEXT``; null for one of another kind.

    Raises:
        ConfigError: If there is no caption behind ``prompt:``.
    """
    if not baseline.startswith(PROMPT):
        return None
    text = baseline.removeprefix(PROMPT)
    if not text.strip():
        raise ConfigError(
            "prompt: needs a caption behind it, such as 'prompt:a photo'; the empty caption is "
            "the baseline null"
        )
    return text

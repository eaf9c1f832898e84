"""One adapter for every family of `scanner.models.families`."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# (diffusers and transformers annotate their constructors too narrowly)

import copy
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from torch.autograd import forward_ad

from scanner.errors import ConfigError
from scanner.methods import Need
from scanner.models.adapters import adapted, without_adapters
from scanner.models.base import Level
from scanner.models.checkpointed import checkpoint_blocks
from scanner.models.compiled import BACKEND, CompiledBlocks
from scanner.models.conditions import ENCODERS, labels_of
from scanner.models.encoder import Grid
from scanner.models.families import Family
from scanner.models.flow_levels import flow_levels
from scanner.models.latents import Autoencoder, Pixels, as_latents, as_tokens, sides_of
from scanner.models.levels import SchedulerConfig, refuse_scheduler
from scanner.models.limits import refuse_apart
from scanner.models.overlay import Overlay
from scanner.models.placement import Placement, bytes_of
from scanner.models.split import put
from scanner.models.words import TextEncoders
from scanner.numerics.schedule import Prediction, Schedule, matched_timestep, target
from scanner.numerics.thresholding import Thresholding


@dataclass(frozen=True, slots=True)
class _Made:
    """A network's arguments, and the condition that they are made of."""

    condition: "weakref.ref[Tensor]"
    dtype: torch.dtype
    arguments: Mapping[str, Any]


class Diffusion:
    """A `scanner.models.base.Denoiser` over a diffusers pipeline, its weights frozen.

    Args:
        pipeline: With the parts that the family's class has.
        family: What is known of it.
        device: Where it runs.
        side: Of its pictures, in pixels; null takes what its configuration says.

    Raises:
        ConfigError: If the network's output cannot be turned into a score, its scheduler cannot
            be followed, or its latents are not the autoencoder's.
    """

    def __init__(self, pipeline: Any, family: Family, device: str, side: int | None = None) -> None:
        self.pipeline, self.family = pipeline, family
        self.network: Any = getattr(pipeline, family.network)
        self.vae: Any = getattr(pipeline, "vae", None)
        self.autoencoder = Pixels() if family.autoencoder == "none" else Autoencoder(self.vae)
        self.folder, self.overlay = "", Overlay()
        self.text = TextEncoders(pipeline, family)
        self._coming: list[str] = []
        self._off: list[Any] = []
        self._text_off: list[Any] = []
        self._prompt: str | None = None
        self._compiled: CompiledBlocks | None = None
        self._made: _Made | None = None
        self._cumulative: list[float] | None = None
        self._labels = labels_of(pipeline) if family.encoder == "labels" else None
        self._read_scheduler(pipeline.scheduler)
        for module in self.modules().values():
            module.requires_grad_(False).eval()
        if isinstance(self.network, nn.Module) and family.network == "unet":
            self.network.to(memory_format=torch.channels_last)
        self._shape(side)
        self.has = self._network_parts()
        self.to(device)

    def _read_scheduler(self, scheduler: Any) -> None:
        if self.family.is_flow:
            self.levels, self.scheduler = None, copy.deepcopy(scheduler)
            self.prediction = self.family.target
            return
        refuse_scheduler(scheduler.config)  # DDIM's own configuration forgets its family
        self.scheduler = DDIMScheduler.from_config(scheduler.config)
        self.levels = SchedulerConfig.of(self.scheduler.config)
        self.prediction = self.levels.prediction

    def _shape(self, side: int | None) -> None:
        """Set the shape of latents and pictures.

        Raises:
            ConfigError: If network and autoencoder differ in channels, or have no such size.
        """
        config, factor = self.network.config, self.autoencoder.factor
        channels, self.token_side = self.family.tokens(config)
        if channels != self.autoencoder.channels:
            raise ConfigError(
                f"the network takes {channels} channels, its autoencoder makes "
                f"{self.autoencoder.channels}: inpainting and depth models are not text-to-image "
                f"models"
            )
        sides = sides_of(side or self.family.side, config, self.vae, factor)
        self.latent_shape = (channels, sides[0], sides[1])
        self.picture_size = (sides[0] * factor, sides[1] * factor)

    def _network_parts(self) -> frozenset[Need]:
        """Return what the network has for methods that look inside it."""
        return frozenset()

    def modules(self) -> dict[str, nn.Module]:
        """Return the parts with weights by name."""
        return {n: m for n, m in vars(self.pipeline).items() if isinstance(m, nn.Module)}

    def to(self, device: str) -> Self:
        """Move all of the model to a device, and return it."""
        return self.place(Placement(device))

    def place(self, placement: Placement) -> Self:
        """Put the parts where a placement has them, and return the model.

        Raises:
            ConfigError: If the network cannot be split over its GPUs.
            DeviceError: If it does not fit on them.
        """
        self.placement = self.text.placement = placement
        self.device = placement.devices[0]
        beside = {n: m for n, m in self.modules().items() if n != self.family.network}
        for name, module in beside.items():
            module.to(placement.rests(name))
        stays = [m for n, m in beside.items() if placement.rests(n) == placement.devices[-1]]
        put(self.network, placement, bytes_of(stays))
        return self

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """The devices of the network; the first has the latents."""
        return self.placement.devices

    def schedule(self, steps: int) -> Schedule:
        """Return the levels of DDIM's steps, or of the flow's pipeline.

        Raises:
            ConfigError: If so many steps leave the training timesteps.
        """
        if self.levels is None:
            tokens = self.latent_shape[1] * self.latent_shape[2] // self.token_side**2
            return flow_levels(
                self.scheduler, self.family, steps, tokens=tokens, channels=self.latent_shape[0]
            )
        cumulative = self.scheduler.alphas_cumprod.tolist()
        final = float(self.scheduler.final_alpha_cumprod)
        timesteps, stride = self.levels.sampled(steps), self.levels.stride(steps)
        found = Schedule.from_cumulative(timesteps, cumulative, final, stride)
        if self.family.autoencoder != "none":
            return found
        return replace(found, thresholding=Thresholding.configured(self.scheduler.config))

    def single(self, timestep: float) -> Schedule:
        """Return the schedule of one step from a training timestep; of a flow, ``1000 sigma``.

        Raises:
            ValueError: If the model has no such timestep, or it has no noise.
        """
        if self.levels is None:
            number = int(self.scheduler.config["num_train_timesteps"])
            if not 0 < timestep < number:
                raise ValueError(f"timestep must be from 1 to {number - 1}, got {timestep}")
            return Schedule.from_flow((timestep / number, 0.0), self.family.flow, (timestep,))
        cumulative = self.scheduler.alphas_cumprod.tolist()
        final = float(self.scheduler.final_alpha_cumprod)
        return Schedule.single(int(timestep), cumulative, final)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return conditions: text states, or one row of everything the network takes, ``(B, N)``.

        Longer captions are cut, as in training. Which parts a row has is the model's own. A
        caption is encoded once and found again in `scanner.models.encodings`.

        Raises:
            ConfigError: If one of them is no condition of the model.
        """
        if why := next(filter(None, map(self.refusal, captions)), ""):
            raise ConfigError(why)
        texts = [text if self._prompt is None or not text else self._prompt for text in captions]
        return self.text.rows(texts, self._text_off, self._coming)

    def expect(self, captions: Sequence[str]) -> None:
        """Let text encoders that are moved to run encode as much as is kept, in this order."""
        if self.text.moves:
            self._coming = list(dict.fromkeys(captions))
            self.text.rows(self._coming[:1], self._text_off, self._coming)

    def predict(self, x: Tensor, level: Level, condition: Tensor) -> Prediction:
        """Return the network's output at ``x``; it runs in its own precision.

        A network with a noise schedule of its own is told its own timestep of the same level.
        """
        timestep, alpha, sigma = level
        if self._cumulative is not None:
            timestep = matched_timestep(alpha, self._cumulative)
        packing, inputs = self.family.packing, x.to(self.network.dtype)
        with self._around(x), without_adapters(self._off):
            output = self._evaluated(as_tokens(inputs, packing), timestep, condition)
        output = as_latents(output, packing, self.latent_shape)
        if self.family.halves and output.shape[1] == 2 * x.shape[1]:
            output = output.chunk(2, dim=1)[0]
        return Prediction(output.float(), *target(self.prediction, alpha, sigma))

    def _evaluated(self, inputs: Tensor, timestep: float, condition: Tensor) -> Tensor:
        """Return what the network gives, through compiled blocks where that is asked for.

        Gradients, tangents and what looks inside are eager.
        """
        compiled = self._compiled
        is_plain = forward_ad.unpack_dual(inputs).tangent is None and not torch.is_grad_enabled()
        if compiled is None or not is_plain:
            return self._output(inputs, timestep, condition)

        def network(x: Tensor, rows: Tensor) -> Tensor:
            return self._output(x, timestep, rows)

        return compiled.evaluated(network, inputs, condition)

    def compile_blocks(self, batch_size: int | None = None, backend: str = BACKEND) -> None:
        """Have the network's repeated blocks compiled, each when a batch of a new size comes.

        Copies of this model that were made before, and those with another network or without
        adapters, stay as they are.

        Args:
            batch_size: Draws of a full batch; null where it is a power of two.
            backend: Of ``torch.compile``.
        """
        self._compiled = CompiledBlocks(self.network, batch_size, backend)

    def checkpoint_blocks(self) -> bool:
        """Keep less for products from now on: what blocks compute is computed again for each.

        Scores stay; products are the same to rounding. Copies of this model share it.

        Returns:
            Whether that is new, and the network has such blocks.
        """
        return checkpoint_blocks(self.network)

    @property
    def not_compiled(self) -> str:
        """Why blocks that shall be compiled are not, or ``""``."""
        return "" if self._compiled is None else self._compiled.failure

    @contextmanager
    def _eagerly(self) -> Iterator[None]:
        """Compile nothing inside: hooks look into the network."""
        before, self._compiled = self._compiled, None
        try:
            yield
        finally:
            self._compiled = before

    def _output(self, inputs: Tensor, timestep: float, condition: Tensor) -> Tensor:
        """Return what the network gives for latents as it takes them."""
        encoder = ENCODERS[self.family.encoder]
        told = {"index": timestep, "unit": timestep / 1000, "reversed": 1 - timestep / 1000}
        time = told[self.family.time] * self.network.config.get("timestep_scale", 1.0)
        times = torch.full((len(inputs),), time, device=inputs.device)
        return encoder.call(self.network, inputs, times, self._arguments(inputs, condition))

    def _arguments(self, inputs: Tensor, condition: Tensor) -> Mapping[str, Any]:
        """Return what the network takes beside latents and level.

        Made once for all levels of a condition, as making them may wait for the device, and kept
        while the condition is there.
        """
        made = self._made
        if made is not None and made.condition() is condition and made.dtype == inputs.dtype:
            return made.arguments
        self._made = made = None
        parts = self.text.parts(condition.data, inputs.dtype)  # a view would keep the condition
        arguments = ENCODERS[self.family.encoder].arguments(parts, self._grid(len(inputs)))
        kept = weakref.ref(condition, lambda _: self._forget())
        self._made = _Made(kept, inputs.dtype, arguments)
        return arguments

    def _forget(self) -> None:
        self._made = None

    def _grid(self, batch: int) -> Grid:
        return Grid(self.pipeline, batch, self.latent_shape, self.picture_size, self.device)

    def _around(self, x: Tensor) -> AbstractContextManager[None]:
        """Return what an evaluation at ``x`` must be inside of."""
        return nullcontext()

    def score(self, x: Tensor, level: Level, condition: Tensor) -> Tensor:
        """Return the score at ``x``, float32."""
        return self.predict(x, level, condition).score(x.float(), *level[1:])

    def refuse_level(self, alpha: float) -> None:
        """Refuse a noise level outside the network's own schedule.

        Raises:
            ConfigError: If it is.
        """
        if self._cumulative is None:
            return
        try:
            matched_timestep(alpha, self._cumulative)
        except ValueError as error:
            raise ConfigError(
                f"the baseline network was not trained at the level of the maps: {error}; take "
                f"the maps elsewhere (--map-back, --timestep) or another baseline"
            ) from error

    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures, ``(B, height, width, 3)`` uint8 on the CPU."""
        with self.placement.running(self._pixels):
            return self.autoencoder.decode(latents)

    @property
    def _pixels(self) -> dict[str, nn.Module]:
        """What turns latents into pixels, by its name in the pipeline; empty if nothing does."""
        return {} if self.vae is None else {"vae": self.vae}

    def compress(self, pictures: Tensor) -> Tensor:
        """Return the autoencoder's mean latents of pictures, scaled as the network sees them."""
        with self.placement.running(self._pixels):
            return self.autoencoder.encode(pictures).to(self.device)

    @property
    def text_differs(self) -> bool:
        """Whether captions must be encoded by this model, though it stands beside another."""
        return bool(self._text_off) or self._prompt is not None

    def off(self) -> Self:
        """Return the same model with its adapters off, in the network and the text encoders.

        It shares all weights, and gives what the base does to the last bit.
        """
        parts, other = adapted(self.pipeline), copy.copy(self)
        other._compiled = None
        other._off = [part for name, part in parts.items() if name == self.family.network]
        other._text_off = [part for name, part in parts.items() if name != self.family.network]
        return other

    def refusal(self, caption: str) -> str:
        """Return why a caption is no condition of this model, or ``""``."""
        if caption and not self.family.takes_captions:
            return f"the model takes no captions, and this is {caption[:60]!r}"
        try:
            _ = self._labels and self._labels.class_of(caption)
        except ConfigError as error:
            return str(error)
        return ""

    def under(self, prompt: str) -> Self:
        """Return the same model that takes this caption in place of every caption.

        It shares all weights. Without a caption it is the model itself.

        Raises:
            ConfigError: If the caption is no condition of the model.
        """
        if why := self.refusal(prompt):
            raise ConfigError(f"the baseline prompt: {why}")
        other = copy.copy(self)
        other._prompt = prompt
        return other

    def with_network(self, network: Any, scheduler: Mapping[str, Any] | None = None) -> Self:
        """Return the same model around another network, sharing everything else.

        Args:
            network: The other network.
            scheduler: Its scheduler's configuration: what it predicts, and its noise schedule.
                Null takes it to be as the model's; of a flow nothing else can be.

        Raises:
            ConfigError: If the other network's latents or text states have another shape, or
                its output cannot be turned into a score.
        """
        refuse_apart(self.network.config, network.config)
        other = copy.copy(self)
        other._off, other._compiled = [], None
        other.network = network.requires_grad_(False).eval().to(self.network.dtype)
        if self.family.network == "unet":
            other.network.to(memory_format=torch.channels_last)
        put(other.network, self.placement)
        if scheduler is not None and self.levels is not None:
            other.prediction = SchedulerConfig.of(scheduler).prediction
            table = DDIMScheduler.from_config(dict(scheduler)).alphas_cumprod
            if not torch.equal(table, self.scheduler.alphas_cumprod):
                other._cumulative = table.tolist()
        return other

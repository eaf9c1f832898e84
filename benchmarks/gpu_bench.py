"""The order in which networks are measured, and what becomes of one that does not fit or fails."""

import gc
import time
from collections.abc import Callable, Sequence

import torch
from gpu_networks import AttentionKernels, Subject, built, fitting, free_bytes, operations
from gpu_report import Report, Row
from gpu_speed import MOST, Batch, Setting, found_batch, measured, row, settings
from torch import Tensor

from scanner.errors import DeviceError
from scanner.models.diffusion import Diffusion
from scanner.models.memory import is_out_of_memory

FAILED = (ArithmeticError, AssertionError, AttributeError, DeviceError, ImportError, LookupError,
          MemoryError, OSError, RuntimeError, TypeError, ValueError)  # fmt: skip
"""What a compiler raises, or a kernel that a device does not have."""


class Bench:
    """Measures subjects one after another, each within its part of the time that is left.

    All go through the eager mode first, so that a compiler that takes long costs no other number.

    Args:
        report: Gets a row for each measurement.
        device: What is measured.
        peak: Its peak in TFLOP/s, or null.
        seconds: Of a measurement, at most.
        deadline: Moment of `time.perf_counter` after which none is begun.
        toy: Whether numbers are to be small.
        compiles: Whether torch.compile is measured, too.
    """

    def __init__(
        self, report: Report, device: torch.device, peak: float | None, seconds: float,
        deadline: float, *, toy: bool, compiles: bool,
    ) -> None:  # fmt: skip
        self.report, self.device, self.peak = report, device, peak
        self.seconds, self.deadline = seconds, deadline
        self.toy, self.compiles = toy, compiles
        self._ran: dict[str, tuple[Subject, Batch]] = {}

    def of_all(self, subjects: Sequence[Subject]) -> None:
        """Measure subjects; say of one that does not fit that it does not."""
        modes = ("eager", "compiled") if self.compiles else ("eager",)
        turns = [(mode, of) for mode in modes for of in subjects]
        for number, (mode, of) in enumerate(turns):
            left = self.deadline - time.perf_counter()
            if left <= 0:
                self.report.note(f"{of.name}, {mode}: no time was left (--minutes)")
                continue
            ends = time.perf_counter() + left / (len(turns) - number)
            if mode == "eager":
                self._eager(of, ends)
            elif of.name in self._ran:
                self._compiled(of, ends)
            _release()

    def _eager(self, whole: Subject, ends: float) -> None:
        """Measure a subject; where memory runs out for one draw, with half of its blocks."""
        of = fitting(whole, free_bytes(self.device))
        if of is None:
            self.report.note(f"{whole.name}: its weights do not fit into the memory that is free")
            return
        while True:
            try:
                self._measure(whole, of, ends)
            except (DeviceError, RuntimeError, MemoryError) as error:
                said = _line(error)
                if not _is_short(error):
                    self.report.note(f"{of.name}: it failed: {said}", failed=True)
                    return
            else:
                return
            _release()
            if not of.shrinks or of.blocks[1] == 2:
                self.report.note(f"{of.name}: does not fit: {said}")
                return
            self.report.note(f"{of.name}: does not fit, so half of its blocks are taken: {said}")
            of = of.shrunk(0.5)

    def _measure(self, whole: Subject, of: Subject, ends: float) -> None:
        denoiser = built(of, self.device)
        self._note_attention(denoiser, of)
        share = (ends - time.perf_counter()) / (1 + len(settings(of.channels, toy=self.toy)))
        batch, first = found_batch(denoiser, 4 if self.toy else MOST, min(share, self.seconds))
        self.report.add("memory", {
            "what": f"batch that the scanner found: {of.name}", "verdict": "",
            "found": f"{first.sizes.detect} to sample, {first.sizes.localize} for maps, memory "
            f"ran out {first.shortages} times on the way; measured with {batch.detect} and "
            f"{batch.localize}",
        })  # fmt: skip
        self._settings("eager", whole, of, denoiser, batch, ends)
        self._ran[whole.name] = of, batch

    def _compiled(self, whole: Subject, ends: float) -> None:
        """Measure a subject again, its repeated blocks compiled; what fails is a note."""
        of, batch = self._ran[whole.name]
        try:
            denoiser = built(of, self.device)
            eager = _scores(denoiser, 2 * batch.detect)
            denoiser.compile_blocks(batch.detect)
            apart = (_scores(denoiser, 2 * batch.detect) - eager).norm() / eager.norm()
            if denoiser.not_compiled:
                raise RuntimeError(denoiser.not_compiled)
            self.report.environment[f"compiled beside eager, {of.name}"] = (
                f"scores differ by {apart.item():.1e} of their norm"
            )
            self._settings("compiled", whole, of, denoiser, batch, ends)
        except FAILED as error:
            self.report.note(f"{of.name}: torch.compile failed: {_line(error)}")
        finally:
            torch.compiler.reset()  # what it compiled keeps the network in memory

    def _settings(
        self, mode: str, whole: Subject, of: Subject, denoiser: Diffusion, batch: Batch, ends: float
    ) -> None:
        """Measure every setting that there is time for."""
        counted = operations(whole)
        layers = counted[0] / operations(of)[0]
        asked = settings(of.channels, toy=self.toy)
        if mode == "compiled":  # another batch is compiled anew, which takes longer than it tells
            asked = [setting for setting in asked if setting.batch is None]
        for number, setting in enumerate(asked):
            left = ends - time.perf_counter()
            if left <= 0:
                self.report.note(f"{of.name}, {setting.name}, {mode}: no time was left (--minutes)")
                continue
            size = Batch(1, 1) if setting.batch == 1 else batch
            seconds = min(self.seconds, left / (len(asked) - number))
            self._try(
                mode, of, setting,
                lambda setting=setting, size=size, seconds=seconds: row(
                    of, setting, mode, measured(denoiser, setting, size, seconds), counted,
                    layers, self.peak,
                ),
            )  # fmt: skip

    def _try(self, mode: str, of: Subject, setting: Setting, measure: Callable[[], Row]) -> None:
        """Add a measurement; one that fails is a note, but for memory that runs out.

        Raises:
            DeviceError: If memory ran out for one draw, without the compiler.
            RuntimeError: If memory ran out elsewhere, without the compiler.
        """
        try:
            self.report.add("speed", measure())
        except FAILED as error:
            compiled = mode == "compiled"
            if not compiled and _is_short(error):
                raise
            what = "torch.compile" if compiled else "it"
            said = f"{type(error).__name__}: {_line(error)}"
            self.report.note(
                f"{of.name}, {setting.name}: {what} failed: {said}", failed=not compiled
            )

    def _note_attention(self, denoiser: Diffusion, of: Subject) -> None:
        """Record which attention kernels an evaluation with a graph takes."""
        with AttentionKernels() as kernels:
            _scores(denoiser, 2, has_graph=True)
        self.report.environment[f"attention, {of.name}"] = str(kernels)
        self.report.write()


def _scores(denoiser: Diffusion, samples: int, *, has_graph: bool = False) -> Tensor:
    """Return scores at noise, always the same, ``(samples, C, H, W)``."""
    schedule, shape = denoiser.schedule(2), (samples, *denoiser.latent_shape)
    level = schedule.timesteps[1], schedule.alphas[1], schedule.sigmas[1]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(denoiser.device)
    with torch.set_grad_enabled(has_graph):
        x.requires_grad_(has_graph)
        return denoiser.score(x, level, denoiser.encode(["a"] * samples)).detach()


def _is_short(error: BaseException) -> bool:
    """Whether memory is what there was too little of."""
    return isinstance(error, DeviceError) or is_out_of_memory(error)


def _line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return said[0][:300] if said else type(error).__name__


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Compiled blocks beside eager ones, with the shipped model: rounding, graphs and time.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py [--device cuda] [--batch-size 8] [--pairs 15]

Times are of a full batch's evaluation, eager and compiled in turn, in one process: processor time
on a CPU, wall time elsewhere.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from scanner import models
from scanner.models.diffusion import Diffusion
from scanner.testbed import WEIGHTS

STEPS = 20


def level(model: Diffusion, step: int) -> tuple[float, float, float]:
    """Return a level of a trajectory of `STEPS` steps."""
    schedule = model.schedule(STEPS)
    return schedule.timesteps[step], schedule.alphas[step], schedule.sigmas[step]


@torch.no_grad()
def output(model: Diffusion, samples: int, step: int) -> torch.Tensor:
    """Return the network's output at noise, always the same."""
    noise = torch.randn((samples, *model.latent_shape), generator=torch.Generator().manual_seed(0))
    words = [f"a picture of thing number {number}" for number in range(samples)]
    return model.predict(noise.to(model.device), level(model, step), model.encode(words)).output


def timed(work: Callable[[], object], device: str) -> float:
    """Return the seconds that work takes."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measured(asked: Any) -> dict[str, float]:
    """Return what is measured, by name."""
    pair = [models.load(str(WEIGHTS / "pipeline"), device=asked.device) for _ in range(2)]
    eager, compiled = (model for model in pair if isinstance(model, Diffusion))
    compiled.compile_blocks(asked.batch_size)
    full, apart = 2 * asked.batch_size, list[float]()
    first = timed(lambda: output(compiled, full, 0), asked.device)
    for step in (0, STEPS // 2, STEPS - 1):
        for samples in sorted({1, 3, full - 1, full}):
            found, expected = (output(model, samples, step) for model in (compiled, eager))
            apart.append(((found - expected).abs().max() / expected.abs().max()).item())
    times = [
        [timed(lambda m=model: output(m, full, 3), asked.device) for model in (eager, compiled)]
        for _ in range(asked.pairs)
    ]
    if compiled.not_compiled:
        raise SystemExit(compiled.not_compiled)
    return {
        "largest difference, of the largest output": max(apart),
        "first evaluation of a size, s": first,
        "eager, s": statistics.median(one for one, _ in times),
        "compiled, s": statistics.median(other for _, other in times),
        "compiled / eager, median of pairs": statistics.median(b / a for a, b in times),
        "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],  # pyright: ignore
    }


def main() -> None:
    """Print it."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    asked.add_argument("--batch-size", type=int, default=8)
    asked.add_argument("--pairs", type=int, default=15)
    for name, number in measured(asked.parse_args()).items():
        print(f"{number:10.4g}  {name}")


if __name__ == "__main__":
    main()

"""What memscan does on a GPU: are its numbers right, how fast is it, does it survive little memory.

One command, meant for less than five minutes on one GPU; nothing is downloaded::

    python benchmarks/gpu.py --out gpu                            # the GPU that torch sees
    python benchmarks/gpu.py --out gpu --toy --device cpu         # a minute on a core, tiny

1. *Checks*: scores, maps and masks of both shipped models against the CPU's in float32. A number
   beyond its tolerance is a FAIL, and the exit code is 1.
2. *Memory*: a batch far too large must be halved until it fits, with the same scores.
3. *Speed*: captions a second of networks of the true sizes of Stable Diffusion 1.4, XL and FLUX.1
   dev, with random weights and without text encoders, eager and through ``torch.compile``. Each
   measurement is as long as ``--seconds``; a scan that takes longer is shortened and its line says
   from what it was extrapolated.

``gpu.md`` and ``gpu.json`` are written after every line, so a run that is stopped leaves what it
had. docs/performance.md says what the columns mean.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from gpu_bench import Bench
from gpu_checks import Spoil, allowed, check
from gpu_memory import force_shortage
from gpu_networks import toy_subjects, true_subjects
from gpu_peaks import peak_of
from gpu_report import Report, device_name, environment

PARTS = ("checks", "memory", "speed")


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--out", type=Path, required=True, help="folder of gpu.md and gpu.json")
    found.add_argument("--device", default="cuda", help="cuda, cuda:1 or, with --toy, cpu")
    found.add_argument("--toy", action="store_true", help="tiny networks and few captions")
    found.add_argument("--only", action="append", choices=PARTS, help="repeat; default all")
    found.add_argument(
        "--seconds", type=float, help="of a measurement, at most (default 20, toy 0.5)"
    )
    found.add_argument(
        "--minutes", type=float, default=5, help="after which no measurement is begun (default 5)"
    )
    found.add_argument("--captions", type=int, help="of a check (default 16, toy 4)")
    found.add_argument("--peak-tflops", type=float, help="of the device, dense, in half precision")
    found.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    return found


def main(argv: Sequence[str] | None = None, spoil: Spoil | None = None) -> int:
    """Run what the command line asks for.

    Args:
        argv: The command line; null takes the process's own.
        spoil: Changes what the device gave before it is compared, to see the checks fail.

    Returns:
        0, or 1 if a check failed.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    asked = parser().parse_args(given)
    start = time.perf_counter()
    parts = asked.only or PARTS
    device = _device(asked.device, is_large="speed" in parts and not asked.toy)
    if asked.toy and device.type == "cpu":
        torch.set_num_threads(1)  # threads that share such small work wait for one another
    report = Report(
        asked.out, environment(device, shlex.join(["python", "benchmarks/gpu.py", *given]))
    )
    peak = _peak(report, device, asked.peak_tflops)
    report.environment["tolerances"] = "; ".join(allowed())
    report.write()
    steps, captions = (4, asked.captions or 4) if asked.toy else (20, asked.captions or 16)
    if "checks" in parts:
        check(report, device, captions, steps, 4, spoil)
    if "memory" in parts:
        force_shortage(report, device, 24 if asked.toy else 64, 2 if asked.toy else 10)
    if "speed" in parts:
        bench = Bench(
            report, device, peak, asked.seconds or (0.5 if asked.toy else 20),
            start + 60 * asked.minutes, toy=asked.toy, compiles=not asked.no_compile,
        )  # fmt: skip
        bench.of_all(toy_subjects() if asked.toy else true_subjects())
    report.environment["seconds"] = round(time.perf_counter() - start)
    report.complete = True
    report.write()
    ended = f"{report.failures} FAIL" if report.failures else "no check failed"
    print(f"{ended}; {asked.out / 'gpu.md'} has the tables", flush=True)
    return int(report.failures > 0)


def _device(name: str, *, is_large: bool) -> torch.device:
    """Return the device.

    Raises:
        SystemExit: If it is not there, or true sizes are asked of a CPU.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SystemExit(f"--device must be cuda, cuda:N or cpu, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "torch sees no CUDA device: install a CUDA build of torch, or try the program itself "
            "with --device cpu --toy"
        )
    if device.type != "cuda" and is_large:
        raise SystemExit(f"networks of true sizes are for a GPU: add --toy for {name}")
    if device.type != "cuda":
        return device
    if device.index is not None:
        torch.cuda.set_device(device)  # events are of the present device
    return torch.device("cuda", torch.cuda.current_device())


def _peak(report: Report, device: torch.device, told: float | None) -> float | None:
    """Return the device's peak in TFLOP/s, and record where it is from."""
    name = device_name(device)
    known = (told, "--peak-tflops") if told else peak_of(name)
    if known is None:
        report.environment["peak"] = f"unknown of {name}: give --peak-tflops for the share"
        return None
    report.environment["peak"] = f"{known[0]:g} TFLOP/s ({known[1]})"
    return known[0]


if __name__ == "__main__":
    sys.exit(main())

"""``doctor``: what this machine, a cluster and a model are good for."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from scanner.cli import options, progress
from scanner.errors import ExitCode, ScannerError

LOW_DISK, LOW_MEMORY = 5 << 30, 4 << 30
EXTRAS = {"s3fs": "s3", "gcsfs": "gcs", "aiohttp": "http"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``ok``, ``warn`` or ``fail``, what was found, what to do."""

    name: str
    status: str
    found: str
    fix: str = ""


def doctor(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A model to load.", show_default=False)
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(help="Results to write to: a folder or s3://….", show_default=False),
    ] = None,
    shards: Annotated[
        list[str] | None,
        typer.Option(help="Shards to read; may be repeated.", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="A cluster: http://head:8265 (its Jobs API), `auto` or ray://head:10001.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    r"""Check what a scan needs, and say what to fix.

    `memscan submit -- doctor …` checks the cluster's own image and storage. Exit codes: 0 nothing
    failed, 2 something did.

    Example:
        memscan doctor --model gaussian --shards 'laion/*.tar' --results results
    """
    checks = list(_checks(model, results, shards or [], address))
    if as_json:
        progress.say(json.dumps([asdict(check) for check in checks]))
    else:
        from scanner.text import aligned

        rows = [[check.status, check.name, check.found] for check in checks]
        progress.say(aligned(["", "what", "found"], rows))
        for check in checks:
            if check.fix:
                progress.say(f"{check.status} {check.name}: {check.fix}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(ExitCode.REFUSED)


def _checks(
    model: str | None, results: str | None, shards: list[str], address: str | None
) -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield _tried("torch", "install torch for this machine, from 2.4 on", _torch)
    yield _tried("duckdb", "pip install duckdb", lambda: ("ok", version("duckdb"), ""))
    yield _memory()
    yield _disk(results)
    yield _extras([*shards, str(results or "")])
    if address is None or not address.startswith("http"):
        yield _tried("ray", "see whether another Ray runs here, and what /tmp/ray logs say",
                     lambda: _ray(address))  # fmt: skip
    else:
        yield _tried("jobs API", "", lambda: _jobs_api(address))
    if model is not None:
        yield _tried("model", "memscan inspect says more", lambda: _model(model))
    if shards:
        yield _tried("shards", "", lambda: _shards(shards))
    if results is not None:
        yield _tried("results", "", lambda: _results(results))


def _tried(name: str, fix: str, look: Callable[[], tuple[str, str, str]]) -> Check:
    """Run a check; an error in it becomes its result."""
    try:
        return Check(name, *look())
    except ScannerError as error:
        return Check(name, "fail", str(error), fix)
    except Exception as error:  # noqa: BLE001 - a failing check must not abort the report
        from scanner.signed import redacted

        return Check(name, "fail", redacted(f"{type(error).__name__}: {error}"), fix)


def _torch() -> tuple[str, str, str]:
    import torch

    text = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        name = torch.cuda.get_device_name()
        gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        float(torch.ones(2, device="cuda").sum())
        return "ok", f"{text}, CUDA {torch.version.cuda}, {count} x {name}, {gib:.0f} GiB", ""
    if torch.version.cuda is None:
        return "ok", f"{text}, no CUDA: scans run on the CPU", ""
    fix = "nvidia-smi must show a GPU, and its driver be new enough for this CUDA; or use the CPU"
    return "warn", f"{text}, built for CUDA {torch.version.cuda}, sees no GPU", fix


def _memory() -> Check:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fix = "an actor needs the model's weights and its activations: use fewer --actors"
    is_low = free < LOW_MEMORY
    return Check(
        "memory", "warn" if is_low else "ok", f"{free / 2**30:.1f} GiB free", fix if is_low else ""
    )


def _disk(results: str | None) -> Check:
    place = Path(results if results and "://" not in results else ".").absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    is_low = free < LOW_DISK
    fix = "make room: a chunk that cannot be written ends the scan" if is_low else ""
    return Check("disk", "warn" if is_low else "ok", f"{free / 2**30:.1f} GiB at {place}", fix)


def _extras(addresses: list[str]) -> Check:
    found, fix = list[str](), ""
    for package, extra in EXTRAS.items():
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} absent")
            if any(each.startswith(extra.removesuffix("cs")) for each in addresses):
                fix = f"pip install 'memscan[{extra}]'"
    return Check("stores", "fail" if fix else "ok", ", ".join(found), fix)


def _ray(address: str | None) -> tuple[str, str, str]:
    from scanner.engine.health import ray_works

    found, fix = ray_works(address)
    return "warn" if fix else "ok", found, fix


def _jobs_api(address: str) -> tuple[str, str, str]:
    from scanner.submit.health import jobs_api

    found, fix = jobs_api(address)
    return "warn" if fix else "ok", found, fix


def _model(model: str) -> tuple[str, str, str]:
    from scanner.models.describe import describe
    from scanner.models.device import local_device

    found = describe(model, local_device("auto"))
    text = f"{found.family} {found.fingerprint}, {1000 * found.seconds:.1f} ms an evaluation"
    if not found.finite:
        return "fail", f"{text}, not finite", "the weights are broken, or need another precision"
    return "ok", f"{text} on {found.device}", ""


def _shards(patterns: list[str]) -> tuple[str, str, str]:
    from scanner.shards import reading

    addresses = reading.expand(patterns)
    samples, problem = 0, ""
    for url in dict.fromkeys((addresses[0], addresses[-1])):
        index = reading.index(reading.stat(url), 256)
        samples += sum(chunk.samples for chunk in index.chunks)
        problem = problem or (f"{url}: {index.problem}" if index.problem else "")
    text = f"{len(addresses)}; the first and the last hold {samples} samples"
    if problem:
        return "warn", text, f"{problem}: its whole samples are scanned, and the exit code is 3"
    if not samples:
        return "fail", text, "a sample needs a .txt, or a .json with a caption"
    return "ok", text, ""


def _results(out: str) -> tuple[str, str, str]:
    """Create a name, and be refused to create it again, as a commit is."""
    from scanner.results.folder import Results
    from scanner.results.stores import place

    results = Results(place(out))
    results.check()
    runs = f"{len(results.runs())} runs" if results.exists() else "empty"
    return "ok", f"{results.root} can be written and creates exclusively; {runs}", ""

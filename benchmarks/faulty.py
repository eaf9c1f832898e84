"""What breaks in a fault run: damaged shards, a flaky web server, a model with bad days, drivers.

Everything here runs in processes of its own (`warm.Process`); `faults.py` decides when.
"""

from __future__ import annotations  # what is pickled by value takes no annotations along

import gzip
import http.server
import io
import json
import os
import random
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CHUNK = 8
SEEDS = 2
STEPS = 4
THRESHOLD = 1.0
BATCH = 4
DTYPE = "bfloat16"
"""In name only: numbers that are none are then tried again in float32."""

POISON, NAN = "bad day: poison", "bad day: nan"
"""Captions that no scan can score, where a run is told to have such days."""


def write_corpus(folder: Path) -> list[Path]:
    """Write six shards with every kind of damage; about 270 samples."""
    shards = {
        "whole.tar": _tar(_samples("whole", 70)),
        "cut.tar": _tar(_samples("cut", 60))[:-20_000],
        "rejects.tar": _tar(_samples("rejects", 40) + _unfit()),
        "packed.tar.gz": gzip.compress(_tar(_samples("packed", 50)), mtime=0),
        "packed-cut.tar.gz": gzip.compress(_tar(_samples("packed-cut", 50)), mtime=0)[:-150],
        "no-tar.tar": b"<html>404</html>" * 100,
    }
    for name, content in shards.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in shards]


def _samples(shard: str, count: int) -> list[tuple[str, bytes]]:
    members = []
    for n in range(count):
        caption = f"a photograph that many shards have, no {n % 3}" if n % 10 == 0 else ""
        caption = {17: POISON, 31: NAN}.get(n, caption) if shard == "whole" else caption
        caption = caption or f"caption {n} of {shard}"
        facts = json.dumps({"url": f"https://example.org/{shard}/{n}"})
        members += [(f"{n:04d}.txt", caption.encode()), (f"{n:04d}.json", facts.encode())]
    return members


def _unfit() -> list[tuple[str, bytes]]:
    return [
        ("empty.txt", b" "), ("latin.txt", b"caf\xe9"), ("none.cls", b"7"),
        ("broken.json", b"{"), ("0001.txt", b"a key that came before"),
        ("half.json", b'{"caption": "\\ud83d"}'),
    ]  # fmt: skip


def _tar(members: Sequence[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def serve(argv: list[str]) -> int:
    """Serve a folder on a port, badly: some requests fail, some answers break off."""
    folder, port, seed = Path(argv[0]), int(argv[1]), argv[2]
    luck = random.Random(f"{seed}/{time.time_ns()}")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            fate = luck.random()
            if fate < 0.01:
                self.close_connection = True
                return
            if fate < 0.02:
                self.send_error(luck.choice((500, 502, 503)))
                return
            path = folder / Path(self.path).name
            content, start = path.read_bytes(), 0
            whole = len(content)
            asked = self.headers.get("Range", "")
            if asked.startswith("bytes="):
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(whole, int(last) + 1 if last else whole)
                content = content[start:stop]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{whole}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
            self.end_headers()
            if body and fate < 0.03:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    Server(("127.0.0.1", port), Handler).serve_forever()
    return 0


def drive(argv: list[str]) -> int:
    """Scan: by the command line, or by the engine's own door where the model has bad days.

    Args:
        argv: JSON of ``shards``, ``out``, ``address``, ``days`` and ``marks`` (a folder where a
            day is noted that comes only once).
    """
    settings = json.loads(argv[0])
    if not settings["days"]:
        from scanner.cli import main

        sys.argv = [
            "memscan", "scan", *settings["shards"], "--model", "gaussian", "--out", settings["out"],
            "--threshold", str(THRESHOLD), "--steps", str(STEPS), "--seeds", str(SEEDS),
            "--probes", "1", "--chunk-size", str(CHUNK), "--batch-size", str(BATCH),
            "--actors", "2",
            "--dtype", DTYPE, "--device", "cpu", "--address", settings["address"], "--json",
        ]  # fmt: skip
        main()
        return 0
    return _drive_with_days(settings)


def _drive_with_days(settings: dict[str, Any]) -> int:
    from dataclasses import asdict

    from ray import cloudpickle

    from scanner.engine import Job, Resources, scan
    from scanner.errors import ScannerError
    from scanner.spec import ScanSpec

    spec = ScanSpec(
        seeds=tuple(range(SEEDS)), steps=STEPS, probes=1, threshold=THRESHOLD, dtype=DTYPE
    )
    job = Job(
        model="gaussian", shards=tuple(settings["shards"]), results=settings["out"], spec=spec,
        chunk_size=CHUNK, batch_size=BATCH,
    )  # fmt: skip
    resources = Resources(actors=2, device="cpu", threads=1, address=settings["address"])
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no such module
    build = afflicted(frozenset(settings["days"]), settings["marks"])
    try:
        summary = scan(job, resources, _say, build=build)
    except ScannerError as error:
        print(f"memscan: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(json.dumps(asdict(summary)), flush=True)
    return 0 if summary.is_complete else 3


def _say(event: object) -> None:
    if getattr(event, "kind", "") in ("problem", "retry", "lost", "quarantine"):
        print(event, file=sys.stderr, flush=True)


def afflicted(days: frozenset[str], marks: str) -> Callable[[Any, str], Any]:
    """Return what builds scanners of a Gaussian with bad days.

    Args:
        days: ``poison`` (a caption kills its process, always), ``death`` (one process dies at
            some batch, once), ``nan`` (a caption has no finite score, in any precision),
            ``nan_once`` (a batch is not finite, once), ``oom`` (more than so many draws do not
            fit, a number that each process draws).
        marks: Folder where a day that comes once is noted.
    """

    def build(job: Any, device: str) -> Any:
        import torch

        from scanner.models.gaussian import Gaussian
        from scanner.scan.scanner import Scanner

        luck = random.Random(os.getpid())
        room = luck.choice((2, 4, 6))  # a draw takes two: with its caption and without

        def first(day: str) -> bool:
            if day not in days or luck.random() > 0.05:
                return False
            try:
                os.close(os.open(f"{marks}/{day}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return False
            return True

        class Afflicted(Gaussian):
            precise = False

            def encode(self, captions: Sequence[str]) -> Any:
                if ("poison" in days and POISON in captions) or first("death"):
                    os.kill(os.getpid(), signal.SIGKILL)
                moments = super().encode(captions)
                if "nan" in days:
                    moments[[text == NAN for text in captions]] = float("nan")
                return moments

            def score(self, x: Any, level: Any, condition: Any) -> Any:
                if "oom" in days and x.shape[0] > room:
                    raise torch.OutOfMemoryError(f"{x.shape[0]} draws, room for {room}")
                score = super().score(x, level, condition)
                return score * float("nan") if first("nan_once") and not self.precise else score

        def precise() -> tuple[Any, None]:
            network = Afflicted(device)
            network.precise = True
            return network, None

        network = Afflicted(device)
        return Scanner(network, job.spec, batch_size=job.batch_size, precise=precise)

    return build

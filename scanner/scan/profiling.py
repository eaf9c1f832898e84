"""Traces of a few batches: what the host and the device do in them, operation by operation."""

import gzip
import io
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from scanner import files
from scanner.activity import Trace
from scanner.text import counted

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler says on stderr that it is there

RECORDED = 2
"""Batches of each kind that a trace has, after the first, which warms up."""
NO_KERNELS = (
    "the trace has no kernels of the GPU: its driver may let administrators alone record them "
    "(NVreg_RestrictProfilingToAdminUsers)"
)


class BatchProfiler:
    """Records batches in the thread that works on them; others may ask for the trace.

    Of each kind the first batch warms up: it is recorded too, and stands in the trace until a
    later one is there. A batch that fails is not recorded. What goes wrong in recording ends the
    recording, and nothing else.

    Args:
        device: Where the batches run; on CUDA its kernels and copies are recorded, too.
    """

    def __init__(self, device: torch.device) -> None:
        self._activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            self._activities.append(ProfilerActivity.CUDA)
        self._seen = Counter[str]()
        self._parts: dict[str, list[bytes]] = {}
        self._problem, self._lock, self._told = "", threading.Lock(), 0

    @contextmanager
    def batch(self, kind: str, draws: int, *, settled: bool = True) -> Iterator[None]:
        """Record the batch inside, if there are not enough of its kind.

        Args:
            kind: Of work, a word of `scanner.activity`.
            draws: Of the batch.
            settled: Whether the size of batches is found; until then one warms up like another.
        """
        number = self._seen[kind]
        if self._problem or number > RECORDED or (number and not settled):
            yield
            return
        session = self._begun()
        try:
            with record_function(f"{kind}: {counted(draws, 'draw')}"):
                yield
        except BaseException:
            self._ended(session)
            raise
        self._seen[kind] += 1
        self._add(kind, self._ended(session))

    def trace(self) -> Trace | None:
        """Return the trace, if it has grown since it was last asked for."""
        with self._lock:
            number = sum(self._seen.values()) + bool(self._problem)
            if number == self._told:
                return None
            self._told, problem = number, self._problem
            cold = tuple(kind for kind in self._parts if self._seen[kind] == 1)
            parts = {kind: list(own) for kind, own in self._parts.items()}
        content = _joined([part for own in parts.values() for part in own])
        return Trace(content, {kind: len(own) for kind, own in parts.items()}, cold, problem)

    def _begun(self) -> profile | None:
        session = profile(activities=self._activities)
        try:
            session.start()
        except RuntimeError as error:  # another profiler is at work in this process
            self._problem = f"torch's profiler does not start: {error}"
            return None
        return session

    def _ended(self, session: profile | None) -> bytes | None:
        """Return what a session recorded, as JSON in gzip; null if there is nothing."""
        if session is None:
            return None
        try:
            session.stop()
            with files.scratch() as path:
                session.export_chrome_trace(str(path))
                content = path.read_bytes()
        except (RuntimeError, OSError) as error:
            self._problem = f"torch's profiler gives no trace: {error}"
            return None
        if ProfilerActivity.CUDA in self._activities and b'"kernel"' not in content:
            self._problem = NO_KERNELS
        return gzip.compress(content, mtime=0)

    def _add(self, kind: str, part: bytes | None) -> None:
        if part is None:
            return
        with self._lock:
            own = self._parts.setdefault(kind, [])
            if self._seen[kind] == 2:
                own.clear()  # the batch that warmed up
            own.append(part)


def _joined(parts: list[bytes]) -> bytes:
    """Return traces as one; their times count from one moment, which is the process's."""
    found = io.BytesIO()
    with gzip.GzipFile(fileobj=found, mode="wb", mtime=0) as out:
        is_first = True
        for part in parts:
            content = json.loads(gzip.decompress(part), strict=False)
            events = json.dumps(content.pop("traceEvents"))[1:-1]
            head = json.dumps(content)[:-1] + ', "traceEvents": [' if is_first else ", "
            out.write((head + events).encode())
            is_first = False
        out.write(b'{"traceEvents": []}' if is_first else b"]}")
    return found.getvalue()

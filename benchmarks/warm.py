"""Real processes that start in milliseconds: forks of one that has imported everything.

A process that runs Python, Ray and torch spends 2.5 s of CPU on imports. A fault run starts ten of
them. So drivers and Ray's workers are forked from a warm server: processes of their own in every
respect, with an identifier to kill, and born some seconds old. Ray is given another script to set
up its workers with, this file, which asks the server for a fork and stands for it: it ends when
the worker ends, and takes the worker along when it is killed.
"""

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

SERVER = "WARM_SERVER"
"""Environment variable with the path of the server's socket."""
_REQUEST_BYTES = 1 << 20


class Process:
    """A process forked by the server, seen from outside.

    Args:
        request: ``argv``, ``env``, ``cwd``, and ``run``: ``worker`` for a worker of Ray, else
        files: Descriptors of its output and errors.
    """

    def __init__(self, request: dict[str, object], files: tuple[int, int]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(os.environ[SERVER])
        socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], list(files))
        self._lines = self._socket.makefile("r")
        self.pid = int(self._lines.readline())
        self.code: int | None = None

    def poll(self, seconds: float = 0.0) -> int | None:
        """Return its exit code, a negative signal, or null while it runs."""
        if self.code is None and select.select([self._socket], [], [], seconds)[0]:
            self.code = int(self._lines.readline() or -signal.SIGKILL)
            self._socket.close()
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def serve(path: str) -> None:
    """Import everything, then fork on request until the standard input ends."""
    _warm()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    while True:
        ready = select.select([listener, woken, sys.stdin, *children.values()], [], [])[0]
        if sys.stdin in ready:
            break
        if woken in ready:
            woken.recv(4096)
            _reap(children)
        _kill(pid for pid, client in children.items() if client in ready)  # nobody wants them
        if listener in ready:
            client, _ = listener.accept()
            request, files = _received(client)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                for other in (listener, woken, wakes, client, *children.values()):
                    other.close()
                _become(request, files)
            for file in files:
                os.close(file)
            children[pid] = client
            with contextlib.suppress(OSError):
                client.sendall(f"{pid}\n".encode())
    _kill(children)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _warm() -> None:
    import gc

    os.environ |= {"RAY_JOB_ID": "ffffffff", "RAY_RAYLET_PID": str(os.getpid())}
    import ray._private.workers.default_worker  # noqa: F401 - what is imported here is inherited
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def _received(client: socket.socket) -> tuple[dict, list[int]]:
    content, files, _, _ = socket.recv_fds(client, _REQUEST_BYTES, 2)
    while not content.endswith(b"\n"):
        content += client.recv(_REQUEST_BYTES)
    return json.loads(content), files


def _reap(children: dict[int, socket.socket]) -> None:
    for pid in list(children):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            client = children.pop(pid)
            with contextlib.suppress(OSError):
                client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            client.close()


def _become(request: dict, files: list[int]) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for number, file in enumerate((null, *files)):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        code = _run(request["run"], request["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:  # before the program had begun, which answers for itself
        code = 130
    except BaseException:  # noqa: BLE001 - the edge of the process
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(what: str, argv: list[str]) -> int:
    if what == "worker":
        from ray._private.runtime_env.context import RuntimeEnvContext
        from ray._private.utils import update_envs

        mark = "--serialized-runtime-env-context="
        context = next((a.removeprefix(mark) for a in argv if a.startswith(mark)), "{}")
        update_envs(RuntimeEnvContext.deserialize(context).env_vars)
        sys.argv = [a for a in argv if not a.startswith((mark, "--language="))]
        runpy.run_path(argv[0], run_name="__main__")
        return 0
    name, _, function = what.partition(":")
    sys.path.insert(0, str(Path(__file__).parent))
    called: Callable[[list[str]], int] = getattr(importlib.import_module(name), function)
    return called(argv)


def _stand_for_a_worker(argv: list[str]) -> int:
    start = next(i for i, a in enumerate(argv) if a.endswith(".py"))
    request = {"run": "worker", "argv": argv[start:], "env": dict(os.environ)}
    request["cwd"] = str(Path.cwd())
    process = Process(request, (1, 2))
    while process.poll(3600) is None:
        pass
    return max(0, process.code or 0)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(_stand_for_a_worker(sys.argv[1:]))

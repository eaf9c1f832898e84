"""A command for a cluster, with the environment that it runs in."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import scanner
from scanner.errors import ConfigError

STOP_SECONDS = 60
"""Seconds that a stopped command may take to mark its run interrupted. Ray's default is 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A command for the cluster.

    Attributes:
        arguments: The command line after ``memscan``.
        python: The interpreter that runs it there.
        include_package: Whether this memscan is uploaded; else the cluster's own is run.
        working_dir: A folder that is packaged and becomes the command's current one, or null.
        runtime_env: Ray's further settings: ``pip``, ``env_vars`` and so on.
        name: What the job is called.
        metadata: What else is kept with it.
        cpus: CPUs reserved for the command itself, beside its workers. With nothing reserved it
            runs on the head node.
        gpus: GPUs reserved for the command itself.
        memory: Memory reserved for the command itself, in bytes.
    """

    arguments: tuple[str, ...]
    python: str = "python"
    include_package: bool = True
    working_dir: str | None = None
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    cpus: float | None = None
    gpus: float | None = None
    memory: int | None = None

    def entrypoint(self) -> str:
        """Return the shell command."""
        return shlex.join([self.python, "-m", "scanner", *self.arguments])

    def environment(self) -> dict[str, Any]:
        """Return the runtime environment: the given one, with what memscan adds."""
        env = dict(self.runtime_env)
        stop = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        env["env_vars"] = stop | dict(env.get("env_vars") or {})
        if self.working_dir is not None:
            env["working_dir"] = self.working_dir
        if self.include_package:
            env["py_modules"] = [*(env.get("py_modules") or []), str(Path(scanner.__path__[0]))]
            env["excludes"] = [*(env.get("excludes") or []), "__pycache__"]
        return env


def runtime_env(path: Path) -> dict[str, Any]:
    """Return a runtime environment from a YAML or JSON file.

    Raises:
        ConfigError: If it cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the runtime environment {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"the runtime environment {path} must be a mapping, such as pip: [...]")
    return content

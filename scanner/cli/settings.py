"""Values of options that are not typed: from ``memscan.toml``, a calibration or a noise."""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scanner.cli import progress
from scanner.errors import ConfigError
from scanner.spec import PRESETS

if TYPE_CHECKING:
    from scanner.statistics.calibration import Calibration

FILE = "memscan.toml"
VARIABLE = "MEMSCAN_CONFIG"
"""Environment variable that names another file."""


def apply_file(context: typer.Context, path: Path | None) -> None:
    """Take options from a file for every command that has them, unless they are typed.

    Keys outside of a table are of every command that has such an option, those in a table of the
    command of this name (``[jobs.list]`` of ``memscan jobs list``). Names are the options' own,
    with ``-`` or ``_``.

    Args:
        context: The context of the root command.
        path: What ``--config`` says; null for `VARIABLE` or `FILE` in the working directory.

    Raises:
        ConfigError: If it cannot be read, or a command or an option of it is unknown.
    """
    named = path or (Path(text) if (text := os.environ.get(VARIABLE)) else None)
    file = named or Path(FILE)
    if named is None and not file.exists():
        return
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as TOML: {error}") from error
    shared = {name: value for name, value in content.items() if not isinstance(value, dict)}
    every = set(_options_below(context.command))
    for name in shared:
        _check(file, name, every, "no command has such an option")
    context.default_map = _defaults(file, context.command, content, shared, "")
    context.meta[VARIABLE] = str(file)


def taken_from_file(context: Any) -> str:
    """Return what a command takes from the file, for a person; ``""`` for nothing."""
    given = " ".join(f"--{name.replace('_', '-')}" for name in context.default_map or ())
    return f"from {context.meta[VARIABLE]}, unless typed: {given}" if given else ""


def taken_from(context: typer.Context, calibration: "Calibration") -> dict[str, Any]:
    """Return the settings of a calibration for options that neither a person nor a file gave.

    Args:
        context: The command's context, which knows where each value comes from.
        calibration: One that keeps its settings; earlier ones do not, and give nothing.
    """
    found = dict(calibration.settings)
    found.pop("baseline", None)  # a fingerprint, which no option takes
    seeds = list(found.pop("seeds", ()))
    if seeds and seeds == list(range(len(seeds))):
        found["seeds"] = len(seeds)
    if "probes" in found:
        found["probes"] = str(found["probes"])
    return {name: value for name, value in found.items() if _is_untyped(context, name)}


def of_preset(context: typer.Context, name: str | None, source: str) -> dict[str, Any]:
    """Return a preset's settings for options that neither a person nor a file gave.

    Args:
        context: The command's context, which knows where each value comes from.
        name: Of `scanner.spec.PRESETS`; null gives nothing.
        source: Of `scanner.spec.SOURCES`: at an image there is one step, and none to go back.

    Raises:
        ConfigError: If there is no such preset.
    """
    if name is not None and name not in PRESETS:
        raise ConfigError(f"--preset must be one of {', '.join(PRESETS)}, got {name!r}")
    found = dict(PRESETS[name]) if name else {}
    if source == "image":
        found.pop("map_back", None)
    if "probes" in found:
        found["probes"] = str(found["probes"])
    return {option: value for option, value in found.items() if _is_untyped(context, option)}


def differing(context: typer.Context, values: Mapping[str, Any]) -> str:
    """Return those of these values that are not the option's default, as one would type them."""
    defaults = {param.name: param.default for param in context.command.params}
    parts = [
        f"--{'' if value is not False else 'no-'}{name.replace('_', '-')}"
        + ("" if isinstance(value, bool) else f" {value}")
        for name, value in values.items()
        if defaults.get(name) != value
    ]
    return " ".join(parts)


def timestep_of(context: typer.Context, asked: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the timestep that ``--noise`` stands for, and say it; nothing without one.

    Args:
        context: The command's context, which knows whether ``--timestep`` was given.
        asked: The command's options.
        model: A folder, a hub id or ``gaussian``.

    Raises:
        ConfigError: If ``--timestep`` is given too, or the model has no such level.
    """
    noise = asked["noise"]
    if noise is None or asked["source"] == "generated":
        return {}
    if not _is_untyped(context, "timestep"):
        raise ConfigError(
            "--noise and --timestep exclude each other, each says to which level images are "
            "noised: give one of them"
        )
    from scanner.models.noise import nearest_timestep

    timestep, own = nearest_timestep(model, noise)
    progress.note(f"--noise {noise:g} is timestep {timestep} of {model}, where it is {own:.4g}")
    return {"timestep": timestep}


def dtype_of(asked: Mapping[str, Any], model: str) -> str:
    """Return the precision that is asked for; say what ``--dtype auto`` stands for.

    Args:
        asked: The command's options.
        model: A folder, a hub id or ``gaussian``.

    Raises:
        ConfigError: If the device is not known yet, or the model cannot be read.
    """
    if asked["dtype"] != "auto":
        return asked["dtype"]
    from scanner.engine.job import Resources
    from scanner.models.precision import decided

    device, local = asked["device"], asked.get("local", True)
    joins = Resources(device=device, address=asked.get("address"), local=local).joins
    dtype, why = decided("auto", model, device, joins=joins, weights=asked["weights"])
    progress.note(f"--dtype auto is {dtype}: {why}")
    return dtype


def _is_untyped(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT"


def _defaults(
    file: Path, group: Any, content: Mapping[str, Any], shared: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Return the values for the options of every command below a group, nested as commands are.

    Args:
        file: Which is read.
        group: The group.
        content: The group's table.
        shared: Values of all commands.
        path: The group's name with a space behind, ``""`` for the root.

    Raises:
        ConfigError: If a command or an option is unknown.
    """
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    nothing = f"memscan {path}has no such command" if path else "there is no such command"
    for name in tables:
        _check(file, name, set(group.commands), nothing)
    for name in content.keys() - tables.keys() if path else ():
        _check(file, name, set(), f"memscan {path}has no options: name one of its commands")
    result = dict[str, Any]()
    for name, command in group.commands.items():
        table = tables.get(name, {})
        if hasattr(command, "commands"):
            result[name] = _defaults(file, command, table, shared, f"{path}{name} ")
            continue
        options = _options_of(command)
        many = {param.name for param in command.params if getattr(param, "multiple", False)}
        for key in table:
            _check(file, key, options, f"{path}{name} has no such option")
        merged = {_plain(k): v for k, v in shared.items() if _plain(k) in options}
        found = merged | {_plain(k): v for k, v in table.items()}
        result[name] = {k: [v] if k in many and isinstance(v, str) else v for k, v in found.items()}
    return result


def _options_below(group: Any) -> Iterator[str]:
    for command in group.commands.values():
        yield from _options_below(command) if hasattr(command, "commands") else _options_of(command)


def _options_of(command: Any) -> set[str]:
    return {param.name for param in command.params if param.name} - {"help"}


def _plain(name: str) -> str:
    return {"json": "as_json"}.get(name, name.replace("-", "_"))


def _check(file: Path, name: str, known: set[str], what: str) -> None:
    if _plain(name) in known or name in known:
        return
    near = difflib.get_close_matches(_plain(name), known, n=1)
    advice = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{file}: {name}: {what}{advice}")

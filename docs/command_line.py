"""The reference of the command line, made from the typer application by ``docs/generate.py``."""

import re
from collections.abc import Iterator
from enum import Enum
from textwrap import wrap
from typing import Any, get_args

import typer

from scanner import cli


def reference() -> str:
    """Return a table of the commands, then each with its arguments and options, in Markdown."""
    found = list(commands())
    rows = [f"| [`{name}`](#memscan-{_anchor(name)}) | {_summary(each)} |" for name, each in found]
    listing = "\n".join(["| command | does |", "|---|---|", *rows])
    return f"\n{listing}\n\n" + "\n".join(_section(name, each) for name, each in found)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the words and the click command of every command, those of groups included."""
    root: Any = typer.main.get_command(cli.app)
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {word}", each) for word, each in inner.items())


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _summary(command: Any) -> str:
    return _paragraphs(command.help)[0]


def _section(name: str, command: Any) -> str:
    parameters = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join(["memscan", name, *(["[OPTIONS]"] if options else []), *map(_word, arguments)])
    lines = [f"## memscan {name}", "", "```", usage, "```", "", *_text(command.help)]
    for title, group in (("argument", arguments), *_panels(options)):
        if group:
            lines += [f"| {title} | what | default |", "|---|---|---|", *map(_row, group), ""]
    return "\n".join(lines)


def _panels(options: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the options by the panel of ``--help`` that they stand in."""
    panels = dict.fromkeys(getattr(p, "rich_help_panel", None) or "option" for p in options)
    for panel in panels:
        yield panel, [p for p in options if (p.rich_help_panel or "option") == panel]


def _word(argument: Any) -> str:
    word = argument.name.upper() + ("…" if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    else:
        off = "".join(f" / `{name}`" for name in parameter.secondary_opts)
        names = ", ".join(f"`{name}`" for name in parameter.opts) + off
    text = " ".join((parameter.help or "").split())
    return f"| {names}{_kind(parameter)} | {_cell(text)} | {_cell(_default(parameter))} |"


def _kind(parameter: Any) -> str:
    """Return what an option takes, where its name does not say it: a range or choices."""
    annotation = parameter.type_descriptor.annotation
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, Enum):
            return " " + _cell("`" + "|".join(str(member.value) for member in each) + "`")
    low, high = parameter.min, parameter.max
    if low is not None and high is not None:
        return f" {low} to {high}"
    return f" ≥ {low}" if low is not None else f" ≤ {high}" if high is not None else ""


def _default(parameter: Any) -> str:
    value = parameter.default
    value = getattr(value, "value", value)
    if isinstance(value, bool) and not parameter.secondary_opts and not value:
        return ""
    if value is None or callable(value) or str(value) in {"", "()", "[]"}:
        return "required" if parameter.required else ""
    if isinstance(value, bool):
        return f"`{(parameter.opts if value else parameter.secondary_opts)[0]}`"
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return f"`{value}`"


def _text(text: str) -> list[str]:
    """Return the paragraphs of a command's help, its examples as blocks of code."""
    lines: list[str] = []
    for paragraph in _paragraphs(text):
        if paragraph.startswith("Example:"):
            example = paragraph.removeprefix("Example:").strip().strip("`")
            lines += ["For example:", "", "```", example, "```", ""]
        else:
            lines += [*wrap(paragraph, 120, break_on_hyphens=False), ""]
    return lines


def _paragraphs(text: str) -> list[str]:
    paragraphs = re.split(r"\n\s*\n", (text or "").replace("\b", "").strip())
    return [" ".join(paragraph.split()) for paragraph in paragraphs]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

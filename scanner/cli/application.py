"""A Typer application: on-or-off options show no value, and a file's options are said."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from scanner.cli import progress, settings

FLAG = " "
"""The help's word for the value of an option that is on or off."""


def _without_values(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = FLAG
    return params


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_values(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        if told := settings.taken_from_file(ctx):
            progress.note(told)
        return super().invoke(ctx)


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_values(super().get_params(ctx))


class App(typer.Typer):
    """A group of commands."""

    def __init__(self, **more: Any) -> None:
        super().__init__(cls=_Group, **more)

    def command(self, name: str | None = None, **more: Any) -> Callable[[Any], Any]:
        """Return what adds a function as a command; as Typer's own."""
        return super().command(name, cls=_Command, **more)

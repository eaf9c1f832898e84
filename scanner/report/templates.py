"""Pages from the templates of this package; whatever is put into one is escaped."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from scanner.report import histogram, p_values, svg, trend
from scanner.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment


def rendered(name: str, **content: Any) -> str:
    """Return a page.

    Args:
        name: The template's file.
        content: What it shows, by name. Texts may be untrusted: those that it shows itself become
            printable and are escaped, and ``tojson`` gives JSON that cannot end its element.
    """
    return _templates().get_template(name).render(content)


def environment(package: str, folder: str) -> "Environment":
    """Return the templates of a package: what they show is escaped, and printable if it is text.

    Args:
        package: The package.
        folder: Its folder of templates.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader(package, folder)
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, finalize=_shown,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


@cache
def _templates() -> "Environment":
    found = environment("scanner.report", "assets")
    found.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    found.globals |= {"asset": _asset, "digest": _digest, "chart": _chart,
                      "told": trend.told}  # fmt: skip
    return found


def _shown(value: Any) -> Any:
    """Return what a template shows: markup as it is, a text without what cannot be seen."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@cache
def _asset(name: str) -> Any:
    """Return a style sheet or script of this package as markup."""
    from markupsafe import Markup

    return Markup((files("scanner.report") / "assets" / name).read_text("utf-8"))  # noqa: S704


def _chart(kind: str, found: Any, size: tuple[int, int], **how: bool) -> Any:
    """Return a chart as markup; what it draws is numbers and dates of the program's own."""
    from markupsafe import Markup

    module = {"scores": histogram, "chances": p_values, "nights": trend}[kind]
    return Markup(svg.drawn(lambda axes: module.draw(axes, found, **how), size))  # noqa: S704


def _digest(text: str) -> str:
    """Return the SHA-256 of a script as a content policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

"""Write the tables of the documentation that the code defines: ``python docs/generate.py``.

A table stands between two comments, ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from scanner.errors import ExitCode
from scanner.models.families import FAMILIES, REFUSED
from scanner.records import RejectReason

ROOT = Path(__file__).parents[1]


def exit_codes() -> str:
    """Return the table of exit codes."""
    return _table("exit code", ((str(int(code)), code.meaning) for code in ExitCode))


def reject_reasons() -> str:
    """Return the table of reject reasons."""
    return _table("reason", ((f"`{reason}`", reason.meaning) for reason in RejectReason))


def model_families() -> str:
    """Return the table of the families of models that are served."""
    heads = ("family", "diffusers pipeline", "captions go through", "network predicts",
             "tokens", "without a caption", "Bright Ending")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for family in FAMILIES.values():
        told = "what its scheduler says" if family.target == "scheduler" else family.target
        cells = (
            family.name, f"`{family.pipeline}`", family.words, told,
            f"{family.patch} x {family.patch}" if family.patch > 1 else "positions", family.null,
            "yes" if family.attends else "no",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def refused_models() -> str:
    """Return the table of what is refused by name."""
    rows = ((f"`…{part}…`", reason) for part, reason in REFUSED.items())
    return _table("class", rows)


TABLES = {
    "model families": (ROOT / "docs" / "models.md", model_families),
    "refused models": (ROOT / "docs" / "models.md", refused_models),
    "exit codes": (ROOT / "README.md", exit_codes),
    "reject reasons": (ROOT / "docs" / "results.md", reject_reasons),
}


def replaced(text: str, name: str, table: str) -> str:
    """Return a page with one of its tables made anew.

    Raises:
        ValueError: If the page has no place for it.
    """
    begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    found, count = pattern.subn(lambda _: f"{begin}\n{table}{end}", text)
    if count != 1:
        raise ValueError(f"the page must have one {begin} … {end}, it has {count}")
    return found


def _table(head: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {head} | means |", "|---|---|", *(f"| {cell} | {text} |" for cell, text in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for title, (page, table) in TABLES.items():
        before = page.read_text(encoding="utf-8")
        page.write_text(replaced(before, title, table()), encoding="utf-8")

"""Write the tables of the documentation that the code defines: ``python docs/generate.py``.

A table stands between two comments, ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from scanner.errors import ExitCode
from scanner.models.families import FAMILIES, REFUSED
from scanner.records import Reason, RejectReason
from scanner.shards.convert import LeftOut

ROOT = Path(__file__).parents[1]
DECISION = re.compile(r"# (.+)\n\n\*(.+\d{4}-\d\d-\d\d.*)\.\*\n")


def exit_codes() -> str:
    """Return the table of exit codes."""
    return _table("exit code", ((str(int(code)), code.meaning) for code in ExitCode))


def reject_reasons() -> str:
    """Return the table of reject reasons."""
    return _reasons(RejectReason)


def decisions() -> str:
    """Return the table of decision records: title, status and date of each.

    Raises:
        ValueError: If a record does not begin with its title and its status.
    """
    rows = []
    for page in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        found = DECISION.match(page.read_text(encoding="utf-8"))
        if found is None:
            raise ValueError(f"{page.name} must begin with a title and a line *Status YYYY-MM-DD.*")
        title, status = found.groups()
        rows.append((f"[{page.name[:4]}]({page.name})", f"{title} | {status}"))
    return _table("no.", rows, "decision | status")


def command_line() -> str:
    """Return the reference of all commands."""
    spec = importlib.util.spec_from_file_location("command_line", ROOT / "docs" / "command_line.py")
    if spec is None or spec.loader is None:
        raise ImportError("docs/command_line.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reference()


def left_out() -> str:
    """Return the table of the reasons that ``shards make`` has of its own."""
    return _reasons(LeftOut)


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
    "exit codes": (ROOT / "docs" / "exit-codes.md", exit_codes),
    "model families": (ROOT / "docs" / "models.md", model_families),
    "refused models": (ROOT / "docs" / "models.md", refused_models),
    "reject reasons": (ROOT / "docs" / "results.md", reject_reasons),
    "left out": (ROOT / "docs" / "results.md", left_out),
    "decisions": (ROOT / "docs" / "decisions" / "README.md", decisions),
    "command line": (ROOT / "docs" / "cli.md", command_line),
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


def _reasons(kind: type[Reason]) -> str:
    return _table("reason", ((f"`{reason}`", reason.meaning) for reason in kind))


def _table(head: str, rows: Iterable[tuple[str, str]], also: str = "means") -> str:
    rule = "|---" * (2 + also.count("|")) + "|"
    lines = [f"| {head} | {also} |", rule, *(f"| {cell} | {text} |" for cell, text in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for title, (page, table) in TABLES.items():
        before = page.read_text(encoding="utf-8")
        page.write_text(replaced(before, title, table()), encoding="utf-8")

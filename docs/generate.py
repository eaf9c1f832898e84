"""Write the tables and the drawing that the code defines: ``python docs/generate.py``.

A table stands between two comments, ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

import importlib.util
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill, indent
from types import ModuleType

from scanner.analysis.levels import LEVELS, RULES
from scanner.errors import ExitCode
from scanner.methods import Detector, Map, Method, Need, registry
from scanner.models.families import FAMILIES, REFUSED, Family
from scanner.records import Reason, RejectReason
from scanner.results.schema import VIEWS
from scanner.shards.conversion import LeftOut

ROOT = Path(__file__).parents[1]
ROOMS = ROOT / "docs" / "rooms.svg"
ALERTS = ROOT / "infra" / "alerts.yml"
PROMETHEUS_RULE = ROOT / "infra" / "kuberay" / "monitoring" / "rules.yaml"
DECISION = re.compile(r"# (.+)\n\n\*(.+\d{4}-\d\d-\d\d.*)\.\*\n")
_NEEDS = {need: need.label for need in Need} | {
    Need.FIRST_STEP: "", Need.LOCALIZATION: "localized captions only", Need.IMAGE: "",
    Need.CAPTION: "not with `--no-captions`", Need.TRAJECTORY: "not of images",
}  # fmt: skip
"""What the table says of a need, where that is not its label or stands in the notes."""


def exit_codes() -> str:
    """Return the table of exit codes."""
    return _table(["exit code", "means"], ((str(int(code)), code.meaning) for code in ExitCode))


def reject_reasons() -> str:
    """Return the table of reject reasons."""
    return _reasons(RejectReason)


def decisions() -> str:
    """Return the table of decision records: title, status and date of each.

    Raises:
        ValueError: If a record does not begin with its title and its status.
    """
    rows = list[tuple[str, str, str]]()
    for page in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        found = DECISION.match(page.read_text(encoding="utf-8"))
        if found is None:
            raise ValueError(f"{page.name} must begin with a title and a line *Status YYYY-MM-DD.*")
        title, status = found.groups()
        rows.append((f"[{page.name[:4]}]({page.name})", title, status))
    return _table(["no.", "decision", "status"], rows)


def command_line() -> str:
    """Return the reference of all commands."""
    return _beside("command_line").reference()


def rooms() -> str:
    """Return the drawing of the package's rooms, as SVG."""
    return _beside("rooms").drawing()


def prometheus_rule() -> str:
    """Return the alerts as what the Prometheus operator takes."""
    groups = ALERTS.read_text(encoding="utf-8").partition("groups:\n")[2]
    return f"""# Made from infra/alerts.yml: python docs/generate.py
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: memscan
  labels:
    release: prometheus  # what your Prometheus selects rules by
spec:
  groups:
{indent(groups, "  ")}"""


def left_out() -> str:
    """Return the table of the reasons that ``shards make`` has of its own."""
    return _reasons(LeftOut)


def model_families() -> str:
    """Return the table of the families of models that are served."""
    head = ["family", "diffusers pipeline", "captions go through", "network predicts", "tokens",
            "without a caption", "Bright Ending"]  # fmt: skip
    return _table(head, map(_family, FAMILIES.values()))


def refused_models() -> str:
    """Return the table of what is refused by name."""
    return _table(["class", "means"], ((f"`…{part}…`", why) for part, why in REFUSED.items()))


def detectors() -> str:
    """Return the table of memscan's own detectors."""
    head = ["`--detectors`", "What", "Formula", "Unit", "Cost", "Source", "Notes"]
    return _table(head, map(_method, registry.DETECTORS.values()))


def maps() -> str:
    """Return the table of maps."""
    head = ["`--maps`", "What", "Formula, per position", "Unit", "Cost, localized captions only",
            "Source", "Notes"]  # fmt: skip
    return _table(head, map(_method, registry.MAPS.values()))


def columns(view: str) -> str:
    """Return the table of a view's columns, after a line that says what a row is."""
    table = VIEWS[view]
    rows = (
        [f"`{c.name}`", c.kind.value + (", null" if c.null else ""), c.unit, c.doc]
        for c in table.columns
    )
    said = fill(f"A row is {table.row}.", 120)
    return f"{said}\n\n" + _table(["column", "type", "unit", "meaning"], rows)


def views() -> str:
    """Return the table of views."""
    return _table(["view", "a row is"], ([f"`{t.name}`", t.row] for t in VIEWS.values()))


def levels() -> str:
    """Return the table of levels of evidence."""
    rows = ([f"`{name}`", RULES[name]] for name in LEVELS)
    return _table(["level", "means, if no row above holds"], rows)


TABLES = {
    "levels": (ROOT / "docs" / "how-to" / "read-a-report.md", levels),
    "exit codes": (ROOT / "docs" / "exit-codes.md", exit_codes),
    "model families": (ROOT / "docs" / "models.md", model_families),
    "refused models": (ROOT / "docs" / "models.md", refused_models),
    "reject reasons": (ROOT / "docs" / "results.md", reject_reasons),
    "left out": (ROOT / "docs" / "results.md", left_out),
    "decisions": (ROOT / "docs" / "decisions" / "README.md", decisions),
    "command line": (ROOT / "docs" / "cli.md", command_line),
    "detectors": (ROOT / "docs" / "methods.md", detectors),
    "maps": (ROOT / "docs" / "methods.md", maps),
    "views": (ROOT / "docs" / "sql.md", views),
} | {f"schema {view}": (ROOT / "docs" / "schema.md", partial(columns, view)) for view in VIEWS}


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


def _beside(name: str) -> ModuleType:
    """Return a module of this folder, which is no package.

    Raises:
        ImportError: If it cannot be loaded.
    """
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"docs/{name}.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _reasons(kind: type[Reason]) -> str:
    return _table(["reason", "means"], ((f"`{reason}`", reason.meaning) for reason in kind))


def _family(family: Family) -> list[str]:
    """Return a family's line of its table."""
    return [
        family.name, f"`{family.pipeline}`", family.words,
        "what its scheduler says" if family.target == "scheduler" else family.target,
        f"{family.patch} x {family.patch}" if family.patch > 1 else "positions", family.null,
        "yes" if family.attends else "no",
    ]  # fmt: skip


def _method(method: Method) -> list[str]:
    """Return a method's line of its table."""
    return [
        f"`{method.name}`", method.title, method.formula, method.unit, _cost(method),
        method.source, "; ".join(filter(None, _notes(method))),
    ]  # fmt: skip


def _cost(method: Method) -> str:
    if not method.evaluations:
        return "0"
    every = [*registry.DETECTORS.values(), *registry.MAPS.values()]
    first = next(other for other in every if other.evaluations == method.evaluations)
    cost = " + ".join(map(str, method.evaluations))
    if first is method:
        return cost
    kind = "the detector " if first.name == method.name else ""
    return f"{cost}, shared with {kind}`{first.name}`"


def _notes(method: Method) -> Iterable[str]:
    if isinstance(method, Map) and method.is_default:
        yield "default"
    yield method.notes
    if isinstance(method, Detector) and method.low_is_suspicious:
        yield "low is suspicious, and `eval` reads it so"
    if method.least_steps > 1:
        yield f"at least {method.least_steps} steps"
    for need in Need:
        if need in method.needs and (text := _NEEDS[need]):
            yield text if text.startswith(("not ", "localized")) else f"needs {text}"


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


if __name__ == "__main__":
    for title, (page, table) in TABLES.items():
        before = page.read_text(encoding="utf-8")
        page.write_text(replaced(before, title, table()), encoding="utf-8")
    ROOMS.write_text(rooms(), encoding="utf-8")
    PROMETHEUS_RULE.write_text(prometheus_rule(), encoding="utf-8")

"""The arrows between rooms point one way, and a library belongs to few rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "scanner"
BASE = {
    "errors", "files", "records", "spec", "masks", "pictures", "calibration", "intervals", "pace",
    "parsing",
}  # fmt: skip
MAY_IMPORT = {
    "": set(),
    "__main__": {"cli"},
    "errors": set(),
    "records": set(),
    "files": {"errors"},
    "masks": set(),
    "pictures": {"masks"},
    "spec": {"errors"},
    "intervals": set(),
    "pace": set(),
    "parsing": set(),
    "calibration": {"errors", "files", "intervals", "parsing", "spec"},
    "numerics": set(),
    "models": {"errors", "numerics", "parsing", "spec"},
    "io": BASE,
    "scan": BASE | {"numerics", "models"},
    "engine": BASE | {"", "scan", "models", "io"},
    "audit": BASE | {"io"},
    "nightly": BASE | {"", "audit", "engine", "io", "models"},
    "testbed": BASE | {"audit", "engine", "io", "models", "scan"},
    "cli": BASE | {"", "audit", "engine", "io", "models", "nightly", "testbed"},
}
ONLY_IN = {
    "ray": {"engine"},
    "grpc": {"engine"},
    "diffusers": {"models", "testbed"},
    "transformers": {"models", "testbed"},
    "tokenizers": {"testbed"},
    "torch": {"numerics", "models", "scan", "engine", "testbed", "cli"},
    "webdataset": {"io", "testbed"},
    "fsspec": {"io"},
    "pyarrow": {"io", "audit", "testbed"},
    "duckdb": {"audit"},
    "matplotlib": {"audit"},
    "typer": {"cli"},
    "rich": {"cli"},
    "PIL": {"pictures", "audit", "testbed"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports_of(module: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(name: str) -> str:
    is_room = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()
    return name if is_room else ""


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(module):
    room = module.relative_to(PACKAGE).parts[0].removesuffix(".py").replace("__init__", "")
    for name in imports_of(module):
        parts = name.split(".")
        if parts[0] == "scanner":
            other = room_of(parts[1]) if len(parts) > 1 else ""
            assert other in MAY_IMPORT[room] | {room}, f"{room} must not import {other}"
        else:
            assert room in ONLY_IN.get(parts[0], {room}), f"{parts[0]} does not belong in {room}"


def test_every_room_is_on_the_map():
    rooms = {
        p.stem if p.suffix == ".py" else p.name
        for p in PACKAGE.iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert rooms - {"__init__"} == set(MAY_IMPORT) - {""}


def test_the_command_line_starts_without_the_heavy_libraries():
    code = (
        "import sys; import scanner.cli; "
        "heavy = {'torch', 'ray', 'diffusers', 'duckdb', 'pyarrow', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

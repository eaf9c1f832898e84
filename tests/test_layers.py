"""The arrows between rooms point one way, and a library belongs to few rooms."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "scanner"
LOW = {
    "activity", "collection", "errors", "files", "masks", "parsing", "pictures", "records", "retry",
    "schema", "signed", "spec", "text", "throughput",
}  # fmt: skip
"""Single modules that know nothing of rooms; every room may import them."""
SCIENCE = LOW | {"methods", "models", "numerics", "statistics"}
MAY_IMPORT = {
    "": {"api", "statistics"},  # resolved when a name is first used
    "__main__": {"cli"},
    "activity": set(),
    "collection": set(),
    "errors": set(),
    "masks": set(),
    "parsing": set(),
    "records": {"schema"},
    "schema": set(),
    "text": set(),
    "throughput": set(),
    "files": {"errors"},
    "pictures": {"errors", "masks"},
    "signed": {"errors"},
    "methods": {"errors", "numerics"},
    "spec": {"errors", "methods"},
    "retry": {"signed"},
    "numerics": set(),
    "statistics": LOW,
    "models": LOW | {"methods", "numerics"},
    "shards": LOW,
    "results": LOW | {"shards"},
    "scan": SCIENCE,
    "engine": SCIENCE | {"", "results", "scan", "shards"},
    "planning": SCIENCE | {"engine", "results", "scan", "shards"},
    "submit": LOW | {""},
    "analysis": LOW | {"methods", "results", "statistics"},
    "matching": LOW | {"analysis", "results", "shards", "statistics"},
    "choose": SCIENCE | {"analysis", "results", "scan", "shards"},
    "report": LOW
    | {"analysis", "choose", "matching", "methods", "results", "shards", "statistics"},
    "nightly": LOW
    | {"", "analysis", "engine", "matching", "models", "report", "results", "shards"},
    "notify": LOW | {"", "analysis", "engine", "methods", "nightly", "report", "results"},
    "serve": LOW
    | {"", "analysis", "matching", "methods", "nightly", "report", "results", "shards"}
    | {"statistics"},
    "api": SCIENCE | {"", "analysis", "engine", "report", "results", "scan", "shards"},
    "testbed": SCIENCE | {"analysis", "api", "engine", "report", "results", "scan", "shards"},
    "cli": SCIENCE
    | {"", "analysis", "api", "choose", "engine", "matching", "nightly", "notify", "planning"}
    | {"report", "results", "serve", "shards", "submit", "testbed"},
}
ONLY_IN = {
    "ray": {"engine", "submit"},
    "grpc": {"engine"},
    "diffusers": {"models", "testbed"},
    "transformers": {"models", "testbed"},
    "tokenizers": {"testbed"},
    "torch": SCIENCE - LOW - {"statistics"}
    | {"choose", "cli", "engine", "planning", "scan", "testbed"},
    "apprise": {"notify"},
    "mlflow": {"notify"},
    "openlineage": {"notify"},
    "requests": {"notify", "submit"},
    "wandb": {"notify"},
    "webdataset": {"shards", "testbed"},
    "fsspec": {"shards", "results"},
    "pyarrow": {"analysis", "matching", "results", "shards", "testbed"},
    "duckdb": {"analysis", "api", "matching", "nightly", "report", "serve"},
    "matplotlib": {"api", "report"},
    "typer": {"cli"},
    "jinja2": {"report"},
    "markupsafe": {"report", "serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "rich": {"api", "cli", "text"},
    "tqdm": {"api"},
    "PIL": {"pictures", "analysis", "api", "matching", "report", "testbed"},
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


@pytest.mark.parametrize("module", ["scanner", "scanner.cli"])
def test_it_is_imported_without_the_heavy_libraries(module):
    code = (
        f"import sys; import {module}; "
        "heavy = {'torch', 'ray', 'diffusers', 'duckdb', 'pyarrow', 'numpy', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_head_of_a_scan_takes_no_network_into_its_memory():
    code = "import sys; import scanner.engine.driver; print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_module_has_its_test_file_or_a_line_that_says_where_it_is_tested():
    tests = Path(__file__).parent
    elsewhere = tomllib.loads((tests / "where.toml").read_text(encoding="utf-8"))
    without = set()
    for module in MODULES:
        path = module.relative_to(PACKAGE)
        if path.name == "__init__.py" and "def " not in module.read_text(encoding="utf-8"):
            continue
        name = path.parts[-2] if path.name == "__init__.py" and len(path.parts) > 1 else path.stem
        room = path.parts[0] if len(path.parts) > 1 else ""
        if not (tests / room / f"test_{name}.py").exists():
            without.add(path.as_posix())
    assert without == set(elsewhere), "tests/where.toml must list these and no others"
    assert [test for test in elsewhere.values() if not (tests / test).is_file()] == []

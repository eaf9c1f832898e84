"""The tables of the documentation say what the code says."""

import ast
from pathlib import Path

import pytest
from docs_modules import docs_module

from scanner.errors import ExitCode, ScannerError
from scanner.methods import registry
from scanner.records import RejectReason
from scanner.results.schema import VIEWS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "scanner"


def generator():
    return docs_module("generate")


TABLES = (
    "exit codes", "reject reasons", "left out", "decisions", "command line", "model families",
    "refused models", "detectors", "maps", "views", "levels", *(f"schema {v}" for v in VIEWS)
)  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_in_the_documentation_is_the_one_in_the_code(name):
    docs = generator()
    page, table = docs.TABLES[name]
    text = page.read_text(encoding="utf-8")
    assert text == docs.replaced(text, name, table()), "run: python docs/generate.py"


def test_every_generated_table_is_tested():
    assert set(generator().TABLES) == set(TABLES)


def test_the_alerts_for_the_prometheus_operator_are_what_the_rules_give():
    docs = generator()
    made = docs.PROMETHEUS_RULE.read_text(encoding="utf-8")
    assert made == docs.prometheus_rule(), "run: python docs/generate.py"


def test_the_drawing_of_the_rooms_is_that_of_the_imports():
    docs = generator()
    assert docs.ROOMS.read_text(encoding="utf-8") == docs.rooms(), "run: python docs/generate.py"


def test_every_method_has_its_line():
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for name in (*registry.DETECTORS, *registry.MAPS):
        assert f"\n| `{name}` |" in page


def test_a_page_without_a_place_for_its_table_is_an_error():
    with pytest.raises(ValueError, match="must have one"):
        generator().replaced("text", "exit codes", "table")


def test_every_error_ends_with_a_code_of_the_table():
    kinds = {ScannerError}
    while more := {k for kind in kinds for k in kind.__subclasses__()} - kinds:
        kinds |= more
    assert all(isinstance(kind.exit_code, ExitCode) for kind in kinds)
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 130]


def test_reasons_are_the_texts_that_results_on_disk_hold():
    assert {
        "no_caption", "empty_caption", "not_utf8", "bad_json", "caption_too_long",
        "member_too_large", "ambiguous_caption", "half_sample", "duplicate_key", "no_image",
        "unreadable_image", "not_finite", "out_of_memory", "poison",
    } <= {str(reason) for reason in RejectReason}  # fmt: skip
    assert f"{RejectReason.NO_CAPTION}" == "no_caption" == RejectReason.NO_CAPTION


def test_no_module_writes_a_reason_or_an_exit_code_as_a_literal():
    found = []
    for module in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[2:3] if name == "Reject" else node.args[:1]
            if name in {"Reject", "Why", "Fault", "_RefusedError", "Exit", "exit"} and any(
                isinstance(value, ast.Constant) for value in first
            ):
                found.append(f"{module.relative_to(ROOT)}:{node.lineno}")
    assert not found

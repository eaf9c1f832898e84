"""The examples of the public functions' docstrings run, on the closed-form model."""

import doctest
from importlib import import_module

import pytest

import scanner

INNER = {
    "scanner.nightly.policy", "scanner.report.addresses", "scanner.report.banner",
    "scanner.report.particulars", "scanner.statistics.calibration",
}  # fmt: skip
MODULES = sorted({scanner._HOMES[name] for name in scanner.__all__} | INNER)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert done.attempted
    assert not done.failed


def test_every_public_function_has_an_example_and_is_there():
    assert len(scanner.__all__) <= 10
    assert set(scanner.__all__) <= set(dir(scanner))
    for name in scanner.__all__:
        found = getattr(scanner, name)
        assert found.__doc__
        if not isinstance(found, type):
            assert ">>> import scanner" in found.__doc__ or ", scanner\n" in found.__doc__, name
            assert "Raises:" in found.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        scanner.nothing  # noqa: B018

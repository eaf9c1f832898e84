import pytest
from typer.testing import CliRunner

from scanner.cli import app, options
from scanner.errors import ConfigError
from scanner.spec import DETECTORS


def test_names_are_a_list_or_a_word_for_one():
    assert options.names("all", DETECTORS) == DETECTORS
    assert options.names("none", DETECTORS) == ()
    assert options.names(" wen , dsm,", DETECTORS) == ("wen", "dsm")


@pytest.mark.parametrize(
    ("option", "known"), [("--detectors", "sharpness"), ("--maps", "combined")]
)
def test_an_unknown_method_is_refused_with_the_known_ones(option, known, tmp_path):
    asked = ["scan", str(tmp_path), "--model", "gaussian", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*asked, option, "wen,typo"])
    assert isinstance(done.exception, ConfigError)
    assert known in str(done.exception)
    assert "'typo'" in str(done.exception)


@pytest.mark.parametrize("command", ["scan", "calibrate"])
def test_the_help_names_the_methods(command):
    text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert "--maps" in text
    assert ("--detectors" in text) == (command == "scan")

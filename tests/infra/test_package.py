"""What is built for others holds the program, its pages and its weights, and nothing else."""

import configparser
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from scanner import __version__

ROOT = Path(__file__).parents[2]
INFO = f"memscan-{__version__}.dist-info"


def run(*command, **environment):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def sources():
    """Return every file of the repository that git keeps, or would."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard")
    assert listed.returncode == 0, listed.stderr
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder of a wheel and a source distribution, built as pip builds them."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "hatchling", "build", "-d", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        yield archive


def test_the_wheel_is_the_package_and_nothing_else(wheel, sources):
    package = {name for name in sources if name.startswith("scanner/")}
    for part in ("report/assets/report.html", "testbed/weights/pipeline/model_index.json"):
        assert f"scanner/{part}" in package
    about = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    assert set(wheel.namelist()) == package | {f"{INFO}/{name}" for name in about}
    for name in package:
        assert wheel.getinfo(name).file_size == (ROOT / name).stat().st_size, name


def test_the_wheel_says_how_it_is_started_and_what_it_needs(wheel):
    scripts = configparser.ConfigParser()
    scripts.read_string(wheel.read(f"{INFO}/entry_points.txt").decode())
    assert dict(scripts["console_scripts"]) == {"memscan": "scanner.cli:main"}
    about = wheel.read(f"{INFO}/METADATA").decode()
    for line in ("Requires-Python: >=3.11", "License-Expression: Apache-2.0", "Provides-Extra: s3"):
        assert f"\n{line}\n" in about
    required = {line for line in about.splitlines() if line.startswith("Requires-Dist: ray")}
    assert required == {"Requires-Dist: ray[default]>=2.55"}


def test_the_source_distribution_is_the_repository(built, sources):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == sources | {"PKG-INFO"}


def completed(words):
    """Return what bash offers after Tab, by the script that memscan itself prints."""
    script = (
        'eval "$(memscan --show-completion)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_memscan_completion memscan; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = run("bash", "-c", script, "bash", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_bash_completes_commands_and_options():
    assert completed(["memscan", "ca"]) == ["calibrate"]
    assert completed(["memscan", "jobs", ""]) == ["list", "logs", "stop"]
    assert completed(["memscan", "scan", "--det"]) == ["--detectors"]


def test_zsh_is_offered_commands_with_what_they_do():
    done = run("memscan", _MEMSCAN_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="memscan ca")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('_arguments \'*: :(("calibrate":"')

"""The oldest versions that are tested are the ones that pyproject.toml promises."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOOR = re.compile(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)")


def _pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def test_the_oldest_constraints_are_the_floors_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["http"], *extras["s3"]]
    floors = dict(FLOOR.match(each).groups() for each in asked)
    oldest = _pinned("constraints-oldest.txt")
    assert oldest.pop("torch") == _pinned("constraints.txt")["torch"]
    assert _numbers(floors.pop("torch")) <= _numbers(_pinned("constraints.txt")["torch"])
    assert {name: _numbers(oldest[name]) for name in floors} == {
        name: _numbers(version) for name, version in floors.items()
    }
    assert extras["gcs"] == [each.replace("s3fs", "gcsfs") for each in extras["s3"]]


def test_ci_runs_the_core_with_the_oldest_versions():
    assert ".ci/oldest" in (ROOT / ".ci" / "run").read_text()
    script = (ROOT / ".ci" / "oldest").read_text()
    for name in re.findall(r"tests/[\w/]+\.py", script):
        assert (ROOT / name).exists(), name

"""Real results in a folder of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_results import record

from scanner.results.folder import Results


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Results]:
    def build(name: str = "results", runs: tuple[str, ...] = ("r1",)) -> Results:
        results = Results(tmp_path / name)
        for run in runs:
            results.write_run(run, record())
        return results

    return build

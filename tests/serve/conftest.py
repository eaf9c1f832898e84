"""Results, an audit's state around them, and a client of the application."""

import json
from pathlib import Path

import pytest
from made_results import record
from served import HOSTILE, PLAIN, fill, signed_in, write_shard

from scanner.nightly.state import AuditState
from scanner.records import caption_hash
from scanner.results.folder import Results
from scanner.serve.source import Source


@pytest.fixture
def results(tmp_path):
    """Two runs of nine captions; the later one scores twice as high."""
    found, texts = Results(tmp_path / "results"), HOSTILE + PLAIN
    shard = write_shard(tmp_path / "a.tar", len(texts))
    for number, run in enumerate(("r1", "r2")):
        content = record(f"2026-01-0{number + 1}T00:00:00+00:00") | {"status": "complete"}
        found.write_run(run, content)
        fill(found, run, shard, texts, times=1.0 + number)
    return found


@pytest.fixture
def state(results, tmp_path):
    """The same as the results of an audit that counted the later run."""
    folder = tmp_path / "state"
    (folder / "audits" / "000001-2026-01-02").mkdir(parents=True)
    results_folder = folder / "results"
    Path(results.root).rename(results_folder)
    found = AuditState(folder)
    text = HOSTILE[0]
    alert = {
        "finding": caption_hash(text), "state": "new", "reason": "first <audit>",
        "severity": "high", "before": None, "after": None, "run": None, "muted": None,
        "images": {"count": 1, "plain": False, "more": False, "copies": [{
            "shard": str(tmp_path / "a.tar"), "key": "k4", "url": None, "caption_sha256": None,
            "match": "verbatim", "mse": 0.001, "same_image": False,
        }]},
    }  # fmt: skip
    audit = {"run": "r2", "corpus": {"a": {"id": "x", "in_effect": ["x"]}}, "alerts": [alert]}
    (folder / "audits" / "000001-2026-01-02" / "audit.json").write_text(json.dumps(audit))
    return found


@pytest.fixture
def client(results):
    with signed_in(Source(results)) as found:
        yield found

"""A run's record has one reader: old ones read, wrong ones are refused with what is wrong."""

import json
from pathlib import Path

import pytest

from scanner.errors import ConfigError, ResultsError
from scanner.results.folder import Results
from scanner.results.run_file import FdrCutoff, GivenUp, Identity, RunFile

GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0" / "results"


@pytest.mark.parametrize("run", ["a8505488132a", "846f3a722010", "3b551a6b8d85"])
def test_a_record_of_an_earlier_version_reads(run):
    content = json.loads((GOLDEN / "runs" / f"{run}.json").read_text())
    found = Results(str(GOLDEN)).run_file(run)
    assert found.content == content == Results(str(GOLDEN)).read_run(run)
    assert found.identity.as_json() == content["identity"]
    assert found.identity.packages == {}
    assert (found.status, found.started, found.updated) == (
        content["status"], content["started"], content["updated"],
    )  # fmt: skip
    assert (found.spec, found.config) == (content["spec"], content["config"])
    assert found.chunk_size == content["config"]["chunk_size"]
    assert found.total_seconds == content["timings"]["total_seconds"]
    assert found.source == content["spec"]["source"]
    assert found.model == content["identity"]["model"]


def test_what_a_record_leaves_out_is_empty():
    assert RunFile.of({"started": "2030"}) == RunFile(
        started="2030", content={"started": "2030"}
    )  # fmt: skip
    empty = RunFile.of({})
    assert (empty.status, empty.model, empty.chunk_size, empty.verdict) == (
        "of unknown status", None, None, None,
    )  # fmt: skip
    assert RunFile.of({"model": "aa", "identity": {"spec": "b"}}).model == "aa"


def test_parts_have_their_types():
    cutoff = {"rate": 0.1, "cutoff": -1, "captions": 3, "flagged": 0, "chunks": 2}
    found = RunFile.of({
        "identity": {"model": "m", "packages": {"late_peak": "memscan-late-peak 0.1.0"}},
        "verdict": cutoff, "incomplete": ["a.tar: cut"],
        "quarantined": [{"chunk": "c", "reason": "died\nthere"}],
    })  # fmt: skip
    assert found.identity == Identity(model="m", packages={"late_peak": "memscan-late-peak 0.1.0"})
    assert found.verdict == FdrCutoff(rate=0.1, cutoff=-1, captions=3, flagged=0, chunks=2)
    assert found.verdict.as_json() == cutoff
    assert found.incomplete == ("a.tar: cut",)
    assert found.quarantined == (GivenUp(chunk="c", reason="died\nthere"),)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ({"identity": []}, "identity is of another kind"),
        ({"status": 3}, "status is of another kind"),
        ({"config": {"chunk_size": "8"}}, "config.chunk_size is no number"),
        ({"timings": {"total_seconds": True}}, "timings.total_seconds is no number"),
        ({"timings": {"seconds": None}}, "timings.seconds is no number"),
        ({"timings": {"seconds": 10**400}}, "timings.seconds is no number"),
        ({"verdict": {"rate": 0.1}}, "verdict.cutoff is no number"),
        ({"quarantined": [{"chunk": "c"}]}, "quarantined is of another kind"),
    ],
)
def test_a_wrong_record_is_refused_with_what_is_wrong(tmp_path, content, wrong):
    results = Results(tmp_path)
    results.write_run("r1", content)
    for read in (results.run_file, results.read_run):
        with pytest.raises(ResultsError, match=rf"r1\.json is damaged \({wrong}\): restore it"):
            read("r1")


def test_a_record_of_a_later_version_is_not_damaged(tmp_path):
    results = Results(tmp_path)
    results.write_run("r1", {"schema_version": 2})
    with pytest.raises(ConfigError, match="is of schema 2, and this memscan reads up to 1"):
        results.run_file("r1")

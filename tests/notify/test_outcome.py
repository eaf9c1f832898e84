"""What is told of scans and audits holds no secret, and of an error no more than its kind."""

from told import outcome

from scanner.engine.job import Job, Summary
from scanner.errors import ClusterError
from scanner.nightly.policy import Policy
from scanner.notify.outcome import MOST_MISSING, Start, of_scan, reason
from scanner.report.banner import Banner
from scanner.signed import named
from scanner.spec import ScanSpec

SIGNED = "https://shards.example/a.tar?X-Amz-Signature=T0P&part=1"


def test_a_start_names_the_corpus_without_its_secrets():
    job = Job(model="gaussian", shards=(named(SIGNED),), results="/r", spec=ScanSpec(steps=2))
    start = Start.of_job("scan", "s3://bucket/r", job)
    assert start.shards == ("https://shards.example/a.tar?part=1",)
    assert (start.model, start.place, start.settings["steps"]) == ("gaussian", "s3://bucket/r", 2)


def test_a_scan_tells_its_samples_and_what_is_missing():
    summary = Summary("r1", samples=9, scored=8, rejected=1, incomplete=[f"{SIGNED}: cut"] * 200)
    told = of_scan(summary, Banner("INCOMPLETE", "x"), [], Policy(), place="/r", model="m")
    assert (told.word, told.exit_code, told.name) == ("INCOMPLETE", 3, "r1")
    assert told.counts["samples"] == 9
    assert len(told.missing) == MOST_MISSING
    assert "T0P" not in str(told.as_json())


def test_an_error_of_memscan_is_told_and_another_only_by_its_kind():
    assert reason(ClusterError(f"lost {SIGNED}\n")) == ("lost https://shards.example/a.tar?part=1 ")
    assert reason(KeyError("T0P")) == (
        "an error inside of memscan (KeyError); its log has the traceback"
    )


def test_json_has_every_field_and_only_what_json_can_hold():
    told = outcome().as_json()
    assert set(told) == {
        "schema_version", "memscan", "id", "banner", "command", "name", "exit_code", "place",
        "link", "run", "model", "fingerprints", "counts", "severities", "findings", "left_out",
        "missing", "started", "seconds",
    }  # fmt: skip

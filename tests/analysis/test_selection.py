"""Which run commands read: one rule, and a line that says so."""

import json
import re

import numpy as np
import pytest
from made_results import commit, mask, record, score, write_truth
from typer.testing import CliRunner

from scanner.cli import app
from scanner.cli.selection import newest, selected, selected_one
from scanner.errors import ScannerError
from scanner.nightly.state import AuditState

MAP = np.arange(16.0).reshape(4, 4)


def filled(results, **statuses):
    """Give results runs, begun in this order; each has one caption of its own name."""
    for day, (run, status) in enumerate(statuses.items(), 1):
        results.write_run(run, record(f"2026-01-{day:02}T00:00:00+00:00") | {"status": status})
        row = score(run, 5.0, flagged=True, p_value=0.01)
        commit(results, run, [row], [mask(run, MAP, threshold=8.0)])
    return results


@pytest.fixture
def results(make):
    return filled(
        make(runs=()), a="complete", b="complete", c="interrupted"
    )  # fmt: skip


def ran(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, ScannerError):
        return done.exception.exit_code, "", str(done.exception)
    return done.exit_code, done.stdout, done.stderr


def seen(folder, *options):
    code, out, err = ran(
        "query", folder, "SELECT caption FROM scores ORDER BY 1", "-f", "json", *options
    )
    assert code == 0, err
    return [row["caption"] for row in json.loads(out)], err


def test_a_query_reads_the_newest_complete_run_and_says_so(results):
    rows, said = seen(results.root)
    assert rows == ["b"]
    assert said == (
        "run b: the newest complete one (c, begun later, is interrupted), of 3; --run picks "
        "another, --all-runs reads all\n"
    )


def test_runs_are_named_by_repeating_by_commas_or_all_at_once(results):
    assert seen(results.root, "--run", "c") == (["c"], "")
    assert seen(results.root, "--run", "a", "--run", "c") == (["a", "c"], "")
    assert seen(results.root, "--run", "a, b") == (["a", "b"], "")
    assert seen(results.root, "--all-runs") == (["a", "b", "c"], "")
    for options, why in (
        (("--run", "a", "--all-runs"), "exclude each other"),
        (("--run", "z"), "no run z in .*; there are: a, b, c"),
        (("--run", "a,"), "--run must name a run"),
        (("--everything",), "--everything is for the state folder of an audit"),
    ):
        code, _, said = ran("query", results.root, "SELECT 1", *options)
        assert code == 2
        assert re.search(why, said), said


def test_where_no_run_is_complete_the_newest_is_read_and_that_is_said(make):
    one = filled(make("one", runs=()), a="interrupted")
    assert seen(one.root) == (["a"], "run a is interrupted\n")
    two = filled(make("two", runs=()), a="running", b="incomplete")
    rows, said = seen(two.root)
    assert rows == ["b"]
    assert "run b: incomplete, no run is complete; begun last, of 2" in said
    whole = filled(make("whole", runs=()), a="complete")
    assert seen(whole.root) == (["a"], "")


def test_every_command_reads_the_same_run(results, tmp_path):
    write_truth(tmp_path / "truth.parquet", [
        (name, "title", name, np.ones((16, 16), bool) if name == "b" else None) for name in "abc"
    ])  # fmt: skip
    words = [
        ("show", results.root, "b", "--out", tmp_path / "p.png"),
        ("report", results.root, "--out", tmp_path / "r.html"),
        ("export", results.root, "--coco", tmp_path / "m.json"),
        ("eval", results.root, "--truth", tmp_path / "truth.parquet", "--bootstrap", 2, "--json"),
    ]
    out = ""
    for each in words:
        code, out, said = ran(*each)
        assert code == 0, said
        assert "run b: the newest complete one" in said
        code, _, said = ran(*each, "--run", "a", "--run", "b")
        assert (code, said) == (2, "this command reads one run, got a, b: name one of them")
    assert json.loads(out)["run"] == "b"
    assert "memscan run b" in (tmp_path / "m.json").read_text()
    code, _, said = ran("retrieve", results.root)
    assert (code, said) == (2, "no shard of run b has an image to compare with")


def test_commands_that_look_after_files_take_the_run_begun_last(results):
    assert newest(results.root, None).run == "c"
    assert newest(results.root, ["a"]).run == "a"
    assert "run c: begun last of 3; --run picks another" in ran("compact", results.root)[2]


def test_an_audit_is_read_as_it_counted(make, tmp_path):
    results = filled(make("state/results", runs=()), a="complete", b="complete")
    folder = tmp_path / "state" / "audits" / "000001-2026-01-01"
    folder.mkdir(parents=True)
    corpus = {"x.tar": {"in_effect": ["abc"]}}
    (folder / "audit.json").write_text(json.dumps({"run": "a", "corpus": corpus}))
    assert AuditState.around(results.root) is not None
    for place in (results.root, tmp_path / "state"):
        one = selected_one(str(place), None)
        assert (one.run, one.shards) == ("a", {"abc"})
        one = selected_one(str(place), None, everything=True)
        assert (one.run, one.shards) == ("a", None)
        assert selected(str(place), None, everything=True).runs == ["a", "b"]
        every = selected(str(place), None, all_runs=True)
        assert (every.runs, every.shards) == (["a", "b"], {"abc"})
        other = selected(str(place), ["b"])
        assert (other.runs, other.shards) == (["b"], {"abc"})


def test_a_run_without_a_caption_of_the_truth_is_not_evaluated(make, tmp_path):
    write_truth(tmp_path / "truth.parquet", [("other", "title", "f", None)])
    empty = make("empty")
    code, _, said = ran("eval", empty.root, "--truth", tmp_path / "truth.parquet")
    assert (code, "of the 0 scored captions of run r1 none is in the truth" in said) == (2, True)
    code, _, said = ran("eval", empty.root, "--truth", tmp_path / "missing.parquet")
    assert (code, said) == (
        2,
        f"{tmp_path}/missing.parquet cannot be read: No such file or directory",
    )


def test_runs_has_a_column_of_findings_only_where_a_rate_was_settled(results):
    out = ran("runs", results.root)[1]
    assert out.split("\n")[0].split() == [
        "run", "started", "status", "samples", "scored", "flagged", "rejected",
    ]  # fmt: skip
    verdict = {"rate": 0.05, "cutoff": 0.01, "captions": 1, "flagged": 1, "chunks": 1}
    results.write_run("b", results.read_run("b") | {"verdict": verdict})
    assert "1 at FDR 0.05" in ran("runs", results.root)[1]


def test_a_false_discovery_rate_is_refused_where_there_are_no_p_values(make, tmp_path):
    results = make("bare", runs=("a", "b"))
    for run in ("a", "b"):
        commit(results, run, [score("x", 5.0, flagged=True)])
    for words in (("report", results.root, "--out", tmp_path / "r.html"),
                  ("diff", results.root, "a", "b")):  # fmt: skip
        code, _, said = ran(*words, "--fdr", 0.1)
        assert (code, "needs p-values, and run" in said) == (2, True)

"""The commands as a user types them: real tars, real Ray, the closed-form model."""

import csv
import inspect
import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import duckdb
import pytest
import typer
from PIL import Image
from webdataset.writer import TarWriter

from scanner import cli
from scanner.cli import notifying

ROOT = Path(__file__).parents[2]
PAGES = "\n".join(
    page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if page.name not in {"cli.md", "upgrading.md"}
)
"""What people wrote; the reference of the command line is made by a program."""
COMMAND = [sys.executable, "-c", "from scanner.cli import main; main()"]


def commands():
    root = typer.main.get_command(cli.app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())
        else:
            yield name, command


def process(*words):
    """Run a command in a process of its own, for what that changes: it takes seconds to start."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def memscan(*words):
    """Run a command in this process, on the Ray of the tests; what is not an exit is raised."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["memscan", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return subprocess.CompletedProcess(
        words, int(left.value.code or 0), out.getvalue(), err.getvalue()
    )


def png(colour):
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    captions = [f"caption number {i}" for i in range(24)] + [
        "“Curly” quotes & ampersands", "Mädchen, naïve, 漢字 🙂", "long " * 60, "caption number 3",
    ]  # fmt: skip
    for number in range(2):
        with TarWriter(str(folder / f"s-{number}.tar")) as writer:
            for i, caption in enumerate(captions[number::2]):
                about = json.dumps({"url": f"http://x.invalid/{i}"}).encode()
                sample = {"txt": caption.encode(), "json": about, "png": png("red")}
                writer.write({"__key__": f"{number}{i:03d}", **sample})
    return folder


@pytest.fixture(scope="module")
def results(shards, tmp_path_factory, local_ray):
    """A calibrated scan, made once with the commands themselves."""
    work = tmp_path_factory.mktemp("work")
    options = ["--model", "gaussian", "--steps", "10", "--probes", "4", "--actors", "1"]
    done = memscan("calibrate", shards / "s-1.tar", *options, "--out", work / "calibration.json")
    assert done.returncode == 0, done.stderr
    assert "13 null captions" in done.stdout
    done = memscan(
        "scan", shards, *options, "--out", work / "results", "--json", "--localize", "all",
        "--calibration", work / "calibration.json", "--fpr", "0.1", "--chunk-size", "5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["samples"], summary["scored"], summary["rejected"]) == (28, 28, 0)
    assert summary["complete"]
    return work


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value)[:20])
def test_every_command_teaches_by_example_and_is_in_a_page(name, command):
    assert "Example:" in command.help
    assert f"memscan {name}" in command.help
    assert re.search(rf"memscan {name}\b", PAGES)


def test_help_and_version_answer_at_once():
    assert "demo" in process("--help").stdout
    assert process("--version").stdout.startswith("memscan ")


def test_a_scan_resumes_with_nothing_left_to_do(results, shards):
    done = memscan(
        "scan", shards, "--model", "gaussian", "--steps", "10", "--probes", "4", "--actors", "1",
        "--out", results / "results", "--localize", "all", "--fpr", "0.1", "--chunk-size", "5",
        "--calibration", results / "calibration.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "all of it was done before" in done.stdout


def test_query_answers_in_every_format_and_only_reads(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = results / "results"
    sql = "SELECT caption, occurrences, flagged FROM captions ORDER BY caption"
    rows = json.loads(memscan("query", folder, sql, "--format", "json").stdout)
    assert {row["caption"]: row["occurrences"] for row in rows}["caption number 3"] == 2
    table = list(csv.DictReader(StringIO(memscan("query", folder, sql, "-f", "csv").stdout)))
    assert [r["caption"] for r in table] == [r["caption"] for r in rows]
    out = tmp_path / "rows.parquet"
    assert memscan("query", folder, sql, "-f", "parquet", "-o", out).returncode == 0
    assert out.stat().st_size > 0
    for hostile in ("DROP VIEW scores", "SELECT 1; SELECT 2", "COPY scores TO 'x.csv'",
                    "SELECT * FROM read_text('/etc/passwd')", "SELEC 1"):  # fmt: skip
        done = memscan("query", folder, hostile)
        assert (done.returncode, done.stderr.count("Traceback")) == (2, 0), hostile
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.parquet"]


def test_show_draws_a_caption_and_names_near_ones(results, tmp_path):
    done = memscan("show", results / "results", "0003", "--out", tmp_path / "panel.png")
    assert done.returncode == 0, done.stderr
    assert min(Image.open(tmp_path / "panel.png").size) > 300
    done = memscan("show", results / "results", "no-such-key")
    assert done.returncode == 2
    assert "nearest" in done.stderr


def test_eval_without_a_truth_and_runs_without_results_say_so(results, tmp_path):
    done = memscan("eval", results / "results", "--truth", tmp_path / "none.parquet")
    assert (done.returncode, "none.parquet" in done.stderr) == (2, True)
    done = memscan("runs", tmp_path)
    assert (done.returncode, "scan into it first" in done.stderr) == (2, True)
    assert "complete" in memscan("runs", results / "results").stdout


def test_a_calibration_of_other_settings_is_refused(results, shards, tmp_path):
    done = memscan(
        "scan", shards, "--model", "gaussian", "--steps", "11", "--out", tmp_path / "r",
        "--calibration", results / "calibration.json",
    )  # fmt: skip
    assert done.returncode == 2
    assert "calibrat" in done.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scan", "{shards}/nothing-*.tar", "--model", "gaussian"], "matches no file"),
        (["scan", "pipe:cat x.tar", "--model", "gaussian"], "pipe"),
        (["scan", "{shards}", "--model", "/no/such/model"], "no model at /no/such/model"),
        (["scan", "{shards}", "--model", "{shards}"], "is not a model folder"),
        (["scan", "{shards}", "--model", "gaussian", "--seeds", "0"], "seeds"),
        (["scan", "{shards}", "--model", "gaussian", "--localize", "some"], "localize must be"),
        (["scan", "{shards}", "--model", "gaussian", "--batch-size", "many"], "--batch-size must"),
        (["scan", "{shards}", "--model", "gaussian", "--calibration", "none.json"], "none.json"),
        (
            ["scan", "{shards}", "--model", "gaussian", "--baseline", "/no/such"],
            "a baseline network needs a diffusers pipeline beside it",
        ),
    ],
)  # fmt: skip
def test_what_cannot_start_says_why_in_one_line(words, said, shards, tmp_path):
    done = memscan(*[w.format(shards=shards) for w in words], "--out", tmp_path / "r")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r" / "scores").exists()


def test_a_cut_shard_gives_its_whole_samples_and_exit_three(shards, tmp_path, local_ray):
    whole = (shards / "s-0.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with TarWriter(str(tmp_path / "odd.tar")) as writer:
        writer.write({"__key__": "a", "txt": b"a caption"})
        writer.write({"__key__": "b", "png": png("blue")})
        writer.write({"__key__": "c", "txt": b"\xff\xfe\xff"})
        writer.write({"__key__": "d", "txt": b"   "})
        writer.write({"__key__": "e", "json": b"{broken"})
    done = memscan(
        "scan", tmp_path / "cut.tar", tmp_path / "odd.tar", "--model", "gaussian", "--actors", "1",
        "--steps", "3", "--out", tmp_path / "r",
    )  # fmt: skip
    assert done.returncode == 3
    assert "cut.tar" in done.stderr
    assert "Traceback" not in done.stderr
    sql = "SELECT key, reason FROM rejects WHERE shard LIKE '%odd.tar' ORDER BY key"
    rows = json.loads(memscan("query", tmp_path / "r", sql, "-f", "json").stdout)
    assert [(r["key"], r["reason"]) for r in rows] == [
        ("b", "no_caption"), ("c", "not_utf8"), ("d", "empty_caption"), ("e", "bad_json"),
    ]  # fmt: skip
    sql = "SELECT count(DISTINCT key) AS n FROM scores WHERE shard LIKE '%cut.tar'"
    scored = json.loads(memscan("query", tmp_path / "r", sql, "-f", "json").stdout)[0]["n"]
    assert scored in (6, 7)


def test_a_plan_has_the_options_of_a_scan_and_says_what_it_would_take(results, shards, tmp_path):
    every = dict(commands())
    there = {p.name for p in every["scan"].params} - {p.name for p in every["plan"].params}
    told = set(inspect.signature(notifying.notices).parameters)
    own = {"evidence", "address", "events", "confirm", "confirm_at_most", "profile"}
    assert there == own | told
    options = ["--model", "gaussian", "--steps", "10", "--probes", "4", "--localize", "all"]
    said = memscan("plan", shards, *options, "--rate", "1000", "--json")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert (found["shards"], found["captions"], found["distinct"]) == (2, 28, 27)
    assert found["hours"] > 0
    again = memscan(
        "plan", shards, *options, "--calibration", results / "calibration.json", "--fpr", "0.1",
        "--out", results / "results",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "28 samples in 6 chunks" in again.stdout
    assert "left        nothing" in again.stdout
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    done = memscan("plan", tmp_path, *options, "--rate", "10")
    assert (done.returncode, "broken.tar" in done.stderr) == (3, True)
    done = memscan("plan", shards, "--model", "gaussian", "--rate", "0")
    assert done.returncode == 2


def test_lost_commits_and_lost_records_of_runs_are_told(results, shards, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(results / "results", copy)
    (run,) = [path.stem for path in (copy / "runs").iterdir()]
    assert memscan("verify", copy, "--keys").returncode == 0
    next((copy / "commits" / run).iterdir()).unlink()
    done = memscan("verify", copy)
    assert done.returncode == 3
    assert "no commit record of chunk" in done.stdout
    assert "the same scan again does what is missing" in done.stderr
    (record,) = json.loads(memscan("runs", copy, "--json").stdout)
    assert record["status"] == "incomplete"
    (copy / "runs" / f"{run}.json").unlink()
    done = memscan("verify", copy)
    assert done.returncode == 3
    assert f"run {run} has commits and no record" in done.stderr


def test_a_packed_run_answers_as_before_and_resumes(results, shards, tmp_path):
    folder, truth = tmp_path / "results", tmp_path / "truth.parquet"
    shutil.copytree(results / "results", folder)
    duckdb.connect().execute(
        f"COPY (SELECT DISTINCT caption_sha256, 'title' AS kind, caption_sha256 AS family, "
        f"key LIKE '0%' AS memorized, 32 AS height, 32 AS width, [512, 512] AS mask "
        f"FROM '{folder}/scores/*/*.parquet' WHERE caption <> 'caption number 3') TO '{truth}'"
    )
    commands = [
        ("query", folder, "SELECT * FROM findings ORDER BY ALL", "-f", "json"),
        ("query", folder, "SELECT * FROM finding_maps ORDER BY ALL", "-f", "json"),
        ("query", folder, "SELECT * FROM scores ORDER BY ALL", "-f", "json"),
        ("eval", folder, "--truth", truth, "--json", "--bootstrap", 5),
        ("runs", folder, "--json"),
        ("verify", folder, "--keys", "--json"),
    ]
    before = [memscan(*words) for words in commands]
    assert [done.returncode for done in before] == [0] * len(commands)
    pack = ["compact", folder]
    found = json.loads(memscan(*pack, "--json").stdout)
    assert (found["chunks"], found["removed"]) == (6, 0)
    assert (found["files_before"], found["files_after"], found["old_files"]) == (12, 2, 12)
    assert "stay for queries that have begun" in memscan(*pack).stdout
    assert "12 old files removed" in memscan(*pack, "--remove-old", "--grace", 0).stdout
    for words, done in zip(commands, before, strict=True):
        assert memscan(*words).stdout == done.stdout, words
    assert memscan("report", folder, "--out", tmp_path / "report.html").returncode == 0
    assert memscan("show", folder, "0003", "--out", tmp_path / "panel.png").returncode == 0
    assert memscan("export", folder, "--coco", tmp_path / "masks.json").returncode == 0
    done = memscan(
        "scan", shards, "--model", "gaussian", "--steps", "10", "--probes", "4", "--actors", "1",
        "--out", folder, "--localize", "all", "--fpr", "0.1", "--chunk-size", "5",
        "--calibration", results / "calibration.json",
    )  # fmt: skip
    assert "all of it was done before" in done.stdout, done.stderr

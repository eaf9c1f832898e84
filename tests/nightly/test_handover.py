"""Lists by which data tools leave samples out: the page's snippets, run as they stand there."""

import csv
import io
import json
import re
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from scanner.cli import app
from scanner.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "remove-samples.md"
TEXTS = [f"caption {n}, with a comma" for n in range(8)]
TEXTS[2] = "two\nlines"
URLS = [f"https://x.org/{n}.jpg" for n in range(8)]


def snippets():
    """Return the Python code of the page by the heading above it."""
    found, heading = dict[str, list[str]](), ""
    for part in re.split(r"^(## .*)$", PAGE.read_text("utf-8"), flags=re.MULTILINE):
        if part.startswith("## "):
            heading = part[3:]
        found.setdefault(heading, []).extend(re.findall(r"```python\n(.*?)```", part, re.DOTALL))
    return found


SNIPPETS = snippets()


def pack(path, numbers):
    with tarfile.open(path, "w") as tar:
        for n in numbers:
            for end, text in ((".txt", TEXTS[n]), (".json", json.dumps({"url": URLS[n]}))):
                member = tarfile.TarInfo(f"{n:04d}{end}")
                member.size = len(text.encode())
                tar.addfile(member, io.BytesIO(text.encode()))


def corpus(folder):
    """Make the same captions in every kind."""
    for name in ("shards", "cleaned", "pictures/sub"):
        (folder / name).mkdir(parents=True)
    pack(folder / "shards" / "00000.tar", range(4))
    pack(folder / "shards" / "00001.tar", range(4, 8))
    table = pa.table({"caption": TEXTS, "url": URLS})
    pq.write_table(table, folder / "captions.parquet", row_group_size=3)
    pq.write_table(table, folder / "urls.parquet")
    with (folder / "captions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["caption", "url"])
        writer.writerows(zip(TEXTS, URLS, strict=True))
    rows = [json.dumps({"caption": t, "url": u}) for t, u in zip(TEXTS, URLS, strict=True)]
    (folder / "captions.jsonl").write_text("\n".join([rows[0], "", *rows[1:]]) + "\n")
    for n, text in enumerate(TEXTS):
        (folder / "pictures" / ("sub" if n % 2 else "") / f"{n}.txt").write_text(text)
        (folder / "pictures" / ("sub" if n % 2 else "") / f"{n}.png").write_bytes(b"")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus of every kind, and the removal lists of a scan that flags half of its captions."""
    folder = tmp_path_factory.mktemp("handover")
    corpus(folder)
    names = ("shards", "captions.parquet", "captions.csv", "captions.jsonl", "pictures")
    scan = ["scan", *(str(folder / name) for name in names), "--model", "gaussian", "--steps", "3"]
    scan += ["--probes", "4", "--local", "--json", "--localize", "none"]
    ran(*scan, "--out", str(folder / "first"))
    sql = "SELECT DISTINCT caption, delta_s FROM scores ORDER BY delta_s DESC"
    rows = json.loads(ran("query", str(folder / "first"), sql, "--format", "json"))
    assert len(rows) == 8
    threshold = (rows[2]["delta_s"] + rows[3]["delta_s"]) / 2
    ran(*scan, "--threshold", str(threshold), "--out", str(folder / "results"))
    said = ran("removal", str(folder / "results"), "--out", str(folder / "removal"), "--json")
    return folder, {row["caption"] for row in rows[:3]}, json.loads(said)


def ran(*words):
    done = CliRunner().invoke(app, list(words))
    assert done.exception is None, (words, done.output)
    return done.stdout


@pytest.fixture
def run(place, monkeypatch):
    folder, removed, _ = place
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HOME", str(folder / "home"))
    beginning, *_ = SNIPPETS[""]

    def runs(heading):
        names = dict[str, object]()
        for code in (beginning, *SNIPPETS[heading]):
            exec(compile(code, heading, "exec"), names)
        return names, [text for text in TEXTS if text not in removed]

    return runs


def test_every_sample_of_a_finding_is_listed_with_its_row(place):
    folder, removed, said = place
    assert said | {"run": ""} == {
        "run": "", "findings": 3, "samples": 15, "shards": said["shards"], "urls": 3, "unplaced": 0,
    }  # fmt: skip
    listed = pq.read_table(folder / "removal" / "removal.parquet").to_pylist()
    assert {row["caption"] for row in listed} == removed
    for row in listed:
        number = TEXTS.index(row["caption"])
        in_table = row["file"].startswith("captions")
        assert row["row"] == (number if in_table else None)
        assert row["file"] in row["shard"]
    urls = (folder / "removal" / "urls.txt").read_text().splitlines()
    assert sorted(urls) == sorted(URLS[TEXTS.index(text)] for text in removed)


def test_webdataset_leaves_them_out(run):
    names, kept = run("WebDataset shards")
    assert [sample["txt"].decode() for sample in names["data"]] == kept
    found = []
    for shard in sorted(Path("cleaned").glob("*.tar")):
        with tarfile.open(shard) as tar:
            found += [tar.extractfile(m).read().decode() for m in tar if m.name.endswith(".txt")]
    assert found == kept


def test_tables_are_written_without_them(run):
    _, kept = run("Parquet")
    assert pq.read_table("cleaned/captions.parquet").column_names == ["caption", "url"]
    assert pq.read_table("cleaned/captions.parquet")["caption"].to_pylist() == kept
    run("CSV and JSONL")
    with Path("cleaned/captions.csv").open(newline="") as stream:
        assert [row["caption"] for row in csv.DictReader(stream)] == kept
    lines = Path("cleaned/captions.jsonl").read_text().splitlines()
    assert [json.loads(line)["caption"] for line in lines] == kept


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_hugging_face_datasets_select_the_rest(run):
    pytest.importorskip("datasets")
    names, kept = run("Hugging Face datasets")
    assert [list(data["caption"]) for data in names["cleaned"].values()] == [kept] * 3


def test_img2dataset_downloads_the_rest(run):
    _, kept = run("img2dataset")
    assert sorted(pq.read_table("cleaned/urls.parquet")["caption"].to_pylist()) == sorted(kept)


def test_a_folder_loses_their_files(run):
    _, kept = run("A folder of images")
    left = {p.with_suffix("").name for p in Path("pictures").rglob("*") if p.is_file()}
    assert left == {str(TEXTS.index(text)) for text in kept}


def test_rows_are_found_by_the_key_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("key,caption\nk1,one\nk2,two\n")
    scan = ["scan", str(path), "--model", "gaussian", "--steps", "3", "--probes", "4", "--local"]
    ran(*scan, "--threshold", "0", "--localize", "none", "--out", str(tmp_path / "r"))
    ran("removal", str(tmp_path / "r"), "-o", str(tmp_path / "out"))
    found = pq.read_table(tmp_path / "out" / "removal.parquet").to_pylist()
    assert {(row["key"], row["row"]) for row in found} == {("k1", 0), ("k2", 1)}
    path.unlink()
    done = CliRunner().invoke(app, ["removal", str(tmp_path / "r"), "-o", str(tmp_path / "out")])
    assert "2 samples of tables have no row number" in done.stderr


def test_nothing_found_gives_empty_lists_and_a_bad_severity_is_refused(place, tmp_path):
    folder, _, _ = place
    out = str(tmp_path / "out")
    said = ran("removal", str(folder / "results"), "--severity", "critical", "-o", out, "--json")
    assert json.loads(said)["samples"] == 0
    assert (tmp_path / "out" / "urls.txt").read_text() == ""
    assert pq.read_table(tmp_path / "out" / "removal.parquet").num_rows == 0
    done = CliRunner().invoke(
        app, ["removal", str(folder / "results"), "--severity", "x", "-o", out]
    )
    assert isinstance(done.exception, ConfigError)
    assert "--severity must be one of critical, high, medium, low" in str(done.exception)

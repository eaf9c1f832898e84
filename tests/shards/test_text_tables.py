"""CSV, TSV and JSONL tables in the place of shards: rows in chunks, none lost to another."""

import csv
import gzip
import io
import json
import tarfile
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from scanner.cli import app
from scanner.errors import ConfigError, ShardError
from scanner.records import Caption, Reject
from scanner.shards import lines, reading, text_rows
from scanner.shards.byte_sources import FileSource
from scanner.shards.columns import Columns, captions_among
from scanner.shards.expansion import expand
from scanner.shards.lines import Lines

TEXTS = [
    "a red rug",
    'she said "no", twice',
    "two\nlines, and a comma",
    "ein Mädchen; ein Hund",
    "tab\there",
    "日本語 | bar",
    "",
    '"',
    "last",
]


def write(path, rows=None, columns=("caption", "url"), delimiter=","):
    """Write rows as the standard library does; JSON lines if the name says so."""
    rows = [(text, f"https://x/{n}") for n, text in enumerate(TEXTS)] if rows is None else rows
    out = io.StringIO(newline="")
    if ".jsonl" in path.name:
        for row in rows:
            found = dict(zip(columns, row, strict=True))
            out.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        writer = csv.writer(out, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)
    content = out.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def samples(address, size=10, problem=None, **asked):
    index = reading.index(reading.stat(address), size)
    assert (index.problem is None) == (problem is None), index.problem
    assert problem is None or problem in index.problem
    options = {"images": False, **asked}
    found = []
    for chunk in index.chunks:
        read = list(reading.read(chunk, **options))
        assert len(read) == chunk.samples
        found += read
    assert len(found) == index.samples
    return found


def said(items):
    return [item.reason if isinstance(item, Reject) else item.text for item in items]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.jsonl.gz"])
@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_every_row_is_a_sample_whatever_the_chunks_are(tmp_path, name, size):
    address = write(tmp_path / name, delimiter="\t" if "tsv" in name else ",")
    found = samples(address, size)
    assert said(found) == [text or "empty_caption" for text in TEXTS]
    assert [item.key for item in found] == [f"{n:09d}" for n in range(len(TEXTS))]
    assert found[2].url == "https://x/2"


@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_what_separates_fields_is_told_from_the_header(tmp_path, delimiter):
    address = write(tmp_path / "a.csv", delimiter=delimiter)
    assert said(samples(address))[3] == TEXTS[3]


def test_one_corpus_reads_the_same_from_every_kind(tmp_path):
    texts, urls = TEXTS[:6], [f"https://x/{n}" for n in range(6)]
    rows = list(zip(texts, urls, strict=True))
    paths = [write(tmp_path / name, rows) for name in ("a.csv", "b.jsonl", "c.csv.gz")]
    pq.write_table(pa.table({"caption": texts, "url": urls}), tmp_path / "d.parquet")
    with tarfile.open(tmp_path / "e.tar", "w") as tar:
        for n, (text, url) in enumerate(rows):
            for end, content in ((".txt", text), (".json", json.dumps({"url": url}))):
                member = tarfile.TarInfo(f"{n:09d}{end}")
                member.size = len(content.encode())
                tar.addfile(member, io.BytesIO(content.encode()))
    paths += [str(tmp_path / "d.parquet"), str(tmp_path / "e.tar")]
    found = [[(i.key, i.text, i.url) for i in samples(path, 4)] for path in paths]
    assert all(each == found[0] for each in found)
    scored = [scores(path, tmp_path / f"r{n}") for n, path in enumerate(paths)]
    assert len(scored[0]) == 6
    assert all(each == scored[0] for each in scored)


def scores(path, out):
    options = ["--model", "gaussian", "--steps", "3", "--probes", "4", "--local", "--json"]
    done = CliRunner().invoke(app, ["scan", path, *options, "--chunk-size", "4", "-o", str(out)])
    assert done.exception is None, done.output
    sql = "SELECT key, caption, url, seed, delta_s FROM scores ORDER BY key, seed"
    found = CliRunner().invoke(app, ["query", str(out), sql, "--format", "json"])
    return json.loads(found.stdout)


def test_bad_rows_are_rejects_that_name_their_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"caption,url\ngood,x\none,two,three\nshort\n\nnul\0here,x\nbad \xff,x\n"
        b'"stray,x\nnext,x\n"quoted",x\n"a"b,x\nlast,x\n'
    )
    found = samples(str(path), 3)
    assert said(found) == [
        "good", "bad_csv", "bad_csv", "bad_csv", "not_utf8", "bad_csv", "next", "quoted", "bad_csv",
        "last",
    ]  # fmt: skip
    assert found[1].detail == "row 1 has 3 fields, and the header 2"
    assert (found[3].key, found[3].detail) == ("000000003", "row 3 holds a NUL byte")
    assert found[5].detail.startswith("row 5 has quotes that do not fit")
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"caption": "good"}\n{"caption": \n[1]\n\n{"caption": null}\n{"caption": 3}\n'
        b'{"caption": "\xff"}\n{"caption": "x\0y"}\n{"caption": "\\ud800"}\n{"text": 1}\nnull\n'
        b'{"caption": "last"}'
    )
    assert said(samples(str(path), 3)) == [
        "good", "bad_json", "bad_json", "no_caption", "no_caption", "not_utf8", "bad_json",
        "not_utf8", "no_caption", "bad_json", "last",
    ]  # fmt: skip


def test_a_stray_quote_costs_one_row(tmp_path):
    path = tmp_path / "a.csv"
    plain = b"".join(b"row %d,x\n" % n for n in range(500))
    path.write_bytes(b'caption,url\n"stray,x\n' + plain + b'"proper, quoted",x\n' + plain)
    found = said(samples(str(path), 100))
    assert found == ["bad_csv", *said_rows(500), "proper, quoted", *said_rows(500)]
    path.write_bytes(b'caption,url\n"stray,x\n' + plain)
    assert said(samples(str(path), 100)) == ["bad_csv", *said_rows(500)]


def said_rows(count):
    return [f"row {n}" for n in range(count)]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"caption,url\none,x\ntwo", "ends inside row 1: it has 1 field"),
        ("a.csv", b'caption,url\none,x\n"two', "ends inside row 1: it opens a quote"),
        ("a.jsonl", b'{"caption": "one"}\n{"caption": "tw', "ends inside row 1: it is no JSON"),
    ],
)
def test_a_cut_table_is_a_problem_and_its_last_row_half(tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_bytes(content)
    found = samples(str(path), problem=problem)
    assert said(found) == ["one", "half_sample"]


def test_a_cut_gzip_is_a_problem_and_what_came_before_is_there(tmp_path):
    path = tmp_path / "a.csv.gz"
    rows = [(f"caption {n} {n * 7919}", "x") for n in range(5000)]
    write(path, rows)
    path.write_bytes(path.read_bytes()[:-3000])
    found = samples(str(path), 100, problem="its gzip stream ends early after")
    assert 3000 < len(found) < 5000
    assert said(found)[:-1] == [text for text, _ in rows[: len(found) - 1]]
    assert found[-1].reason == "half_sample"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n", "is empty"),
        ("a.csv", b"caption\n", "is a table without rows"),
        ("a.csv", b"x,y\n1,2\n", "has no column caption, TEXT, text, prompt: name one of x, y"),
        ("a.csv", b"text,alt\na,b\n", "several columns of captions: name one of text, alt"),
        ("a.csv", b"caption,caption\na,b\n", "has 2 columns 'caption'"),
        ("a.csv", b"caption,x\ra,b\rc,d\r", "carriage returns: save it with LF"),
        ("a.csv", "caption\nx\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("a.csv", b'"caption', "no header that can be read"),
        ("a.jsonl", b'[{"caption": "a"}]', "is one JSON array"),
        ("a.jsonl", b"caption\na\n", "holds no JSON object on one of its first lines"),
        ("a.jsonl", b'{"a": 1}\n', "name one of a with --caption-column"),
        ("a.csv.gz", b"caption\na\n", "its gzip stream breaks"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_bytes(content)
    index = reading.index(reading.stat(str(path)), 10)
    assert (index.chunks, index.samples) == ((), 0)
    assert problem in index.problem
    assert "\n" not in index.problem


def test_columns_are_named_in_the_address(tmp_path):
    path = write(tmp_path / "a.csv", [("one", "k"), ("two", "k")], ("alt tag", "id"))
    (address,) = expand([path], Columns(caption="alt tag", key="id"))
    found = samples(address)
    assert (found[0].text, found[0].key) == ("one", "k")
    assert (found[1].reason, found[1].key) == ("duplicate_key", "k")
    with pytest.raises(ConfigError, match="has no column 'no' of captions, only alt tag, id"):
        reading.described(expand([path], Columns(caption="no")))
    with pytest.raises(ConfigError, match="holds no images: pack them"):
        reading.described(expand([path], Columns(caption="id", image="id")))


def test_the_column_of_captions_is_guessed_where_it_is_clear():
    assert captions_among(["text", "caption"]) == ["caption"]
    assert captions_among(["text", "prompt"], in_order=True) == ["text"]
    assert captions_among(["text", "prompt"]) == ["text", "prompt"]
    assert captions_among(["id", "Alt Text"]) == ["Alt Text"]
    assert captions_among(["CAPTION", "text"]) == ["CAPTION"]
    assert captions_among(["id", "label"]) == []


def test_a_table_that_changed_is_refused(tmp_path):
    path = write(tmp_path / "a.csv")
    chunk = reading.index(reading.stat(path), 4).chunks[1]
    write(tmp_path / "a.csv", [("one", "x")])
    with pytest.raises(ShardError, match="changed since it was listed"):
        list(reading.read(chunk, images=False))


def test_a_chunk_is_read_from_its_first_byte(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write(path, [(f"caption {n}", "x" * 90) for n in range(40_000)])
    last = reading.index(reading.stat(str(path)), 100).chunks[-1]
    count, read = [0], FileSource.read

    def counted(self, size):
        found = read(self, size)
        count[0] += len(found)
        return found

    monkeypatch.setattr(FileSource, "read", counted)
    assert next(iter(reading.read(last, images=False))).text == "caption 39900"
    assert count[0] < 1 << 20 < path.stat().st_size


@pytest.mark.parametrize("block", [1, 7, 64])
def test_lines_are_the_same_whatever_is_read_at_once(tmp_path, monkeypatch, block):
    content = b"\xef\xbb\xbfone\n" + b"x" * 50 + b"\ntwo\n\n" + b"y" * 21 + b"\nthree"
    path = tmp_path / "a"
    path.write_bytes(content)
    monkeypatch.setattr(lines, "_BLOCK", block)
    monkeypatch.setattr(lines, "LINE_BYTES", 20)

    def opened():
        return Lines(FileSource(path.open("rb"), len(content), "a"))

    text, found = opened(), []
    while (line := text.next()) is not None:
        found.append(line)
    assert [line.content for line in found] == [b"one\n", None, b"two\n", b"\n", None, b"three"]
    assert sum(line.size for line in found) == len(content)
    for line in found:
        text = opened()
        text.next()
        text.go_to(max(line.start, 7))
        again = text.next()
        assert again.start == max(line.start, 7)
        if line.start:
            assert again == line


def test_rows_longer_than_the_limit_are_rejects(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LINE_BYTES", 1000)
    path = tmp_path / "a.csv"
    write(path, [("one", "x"), ("y" * 2000, "x"), ("three", "x")])
    assert said(samples(str(path), 1)) == ["one", "member_too_large", "three"]
    monkeypatch.setattr(text_rows, "ROW_BYTES", 100)
    path.write_bytes(b'caption,url\n"one\n' + b"line\n" * 50 + b'",x\nlast,x\n')
    found = said(samples(str(path), 7))
    assert found == [*["bad_csv"] * 52, "last"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_any_damage_leaves_every_row_in_place_or_is_told(tmp_path, name):
    path, random, problems = tmp_path / name, np.random.default_rng(1), 0
    rows = [(f'caption {n}, "said" {n % 7}' if n % 3 else f"plain {n}", "x") for n in range(60)]
    write(path, rows)
    whole = path.read_bytes()
    for trial in range(150):
        content = bytearray(whole)
        for place in random.integers(0, len(content), int(random.integers(1, 5))):
            content[place] = int(random.choice([0, 10, 13, 34, 44, 123, 255, 65]))
        if trial % 3 == 0:
            content = content[: int(random.integers(1, len(content) + 1))]
        path.write_bytes(content)
        index = reading.index(reading.stat(str(path)), 9)
        problems += index.problem is not None
        assert "\n" not in (index.problem or "")
        count = 0
        for chunk in index.chunks:
            read = list(reading.read(chunk, images=False))
            assert len(read) == chunk.samples
            assert all(isinstance(item, Caption | Reject) for item in read)
            count += len(read)
        assert count == index.samples
        if name != "a.csv.gz" and index.problem is None and len(content) == len(whole):
            kept = set(said(samples(str(path), 1000)))
            assert sum(text in kept for text, _ in rows) >= len(rows) - 8  # two rows a damage
    assert problems > 0
    assert problems < 150 or name == "a.csv.gz"  # its checksum notices everything


def test_a_scan_resumes_and_rejects_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"Caption;URL\n" + b"".join(b"caption %d;x\n" % n for n in range(24)) + b"a\n")
    options = [
        "scan", str(path), "--model", "gaussian", "--steps", "3", "--probes", "4", "--chunk-size",
        "10", "--out", str(tmp_path / "r"), "--local", "--json",
    ]  # fmt: skip
    first = CliRunner().invoke(app, [*options, "--limit", "10"])
    assert first.exception is None, first.output
    assert "captions from column Caption, keys are row numbers" in first.stderr
    summary = json.loads(CliRunner().invoke(app, options).stdout)
    assert (summary["scored"], summary["rejected"], summary["chunks_skipped"]) == (24, 1, 1)
    with suppress(KeyError):
        assert summary["shards_incomplete"] == 0


def test_an_ambiguous_column_ends_the_command_before_a_model_is_loaded(tmp_path):
    (tmp_path / "a.csv").write_text("text,alt\na,b\n")
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "a.csv"), "--model", "no/such-model"])
    assert isinstance(done.exception, ConfigError)
    assert "name one of text, alt with --caption-column" in str(done.exception)

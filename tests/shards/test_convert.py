"""Shards made of what people have: every kind of source, dirty rows, and a start in the middle."""

import csv
import gzip
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scanner.errors import ConfigError, ShardError
from scanner.shards import convert, reading
from scanner.shards.conversion import Conversion, LeftOut
from scanner.shards.convert import make


def table(path, captions):
    rows = pa.table(
        {"TEXT": captions, "URL": [f"http://x.invalid/{n}" for n in range(len(captions))]}
    )
    pq.write_table(rows, path, row_group_size=3)
    return path


def made(tmp_path, *inputs, **settings):
    order = Conversion(inputs=tuple(map(str, inputs)), **settings)
    return make(order, tmp_path / "out", lambda done, total: None)


def samples(folder):
    for url in reading.expand([str(folder)]):
        for chunk in reading.index(reading.stat(url), 256).chunks:
            yield from reading.read(chunk, images=True)


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.tar")}


def test_metadata_of_laion_becomes_shards_that_memscan_reads(tmp_path):
    captions = ["a cat", "a dog", None, "   ", "Mädchen 漢字 🙂", "x" * 70_000, "a bird"]
    found = made(tmp_path, table(tmp_path / "a.parquet", captions), samples=3)
    assert (found.rows, found.samples) == (7, [3, 1])
    assert found.bad == {"no_caption": 1, "empty_caption": 1, "caption_too_long": 1}
    assert found.examples[0].endswith("a.parquet:2: no_caption")
    read = list(samples(tmp_path / "out"))
    assert [(s.key, s.text, s.url) for s in read] == [
        ("000000000", "a cat", "http://x.invalid/0"),
        ("000000001", "a dog", "http://x.invalid/1"),
        ("000000004", "Mädchen 漢字 🙂", "http://x.invalid/4"),
        ("000000006", "a bird", "http://x.invalid/6"),
    ]


def test_lines_are_read_and_the_dirty_ones_are_told(tmp_path):
    lines = [b'{"caption": "one", "url": "http://x.invalid"}', b"{", b"[1]", b'{"caption": 7}',
             b'{"caption": "\xff"}', b'{"other": 1}', b'{"caption": "two"}']  # fmt: skip
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as stream:
        stream.write(b"\n".join(lines))
    (tmp_path / "b.tsv").write_bytes(b"\xef\xbb\xbfcaption\turl\nthree\thttp://y\n\xff\t\nfour\n")
    found = made(tmp_path, tmp_path / "a.jsonl.gz", tmp_path / "b.tsv")
    assert found.bad == {"bad_json": 2, "caption_is_no_text": 1, "not_utf8": 2, "no_caption": 1}
    read = [(s.text, s.url) for s in samples(tmp_path / "out")]
    url = "http://x.invalid"
    assert read == [("one", url), ("two", None), ("three", "http://y"), ("four", None)]


@pytest.mark.parametrize("source", ["metadata", "beside", "names"])
def test_a_folder_of_images_gives_images_with_captions(source, tmp_path):
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name in ("one-red_cat.jpg", "more/two.PNG", "more/none.webp"):
        (folder / name).write_bytes(b"picture of " + name.encode())
    if source == "metadata":
        rows = [("one-red_cat.jpg", "a"), ("more/two.PNG", "b"), ("../../etc/passwd", "c")]
        text = "\n".join(json.dumps({"file_name": n, "text": t}) for n, t in rows)
        (folder / "metadata.jsonl").write_text(text)
    elif source == "beside":
        (folder / "one-red_cat.txt").write_text("a")
        (folder / "more" / "two.txt").write_text("b")
    found = made(tmp_path, folder, names_are_captions=source == "names")
    read = [(s.text, s.image) for s in samples(tmp_path / "out")]
    one, two = b"picture of one-red_cat.jpg", b"picture of more/two.PNG"
    if source == "names":
        assert read == [
            ("one red cat", one), ("none", b"picture of more/none.webp"), ("two", two),
        ]  # fmt: skip
    else:
        assert (found.bad, read) == ({"no_caption": 1}, [("a", one), ("b", two)])


def test_names_are_captions_of_images_alone(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "red_cat.jpg").write_bytes(b"picture")
    path = table(tmp_path / "a.parquet", ["a"])
    for inputs in ([path], [tmp_path / "images", path]):
        with pytest.raises(ConfigError, match=r"--names-are-captions is .*a.parquet is a table"):
            made(tmp_path, *inputs, names_are_captions=True)
    assert not (tmp_path / "out").exists()
    assert made(tmp_path, tmp_path / "images", names_are_captions=True).samples == [1]


def test_what_is_left_out_has_a_reason_of_the_documentation(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    (folder / "gone.jpg").parent.mkdir()
    (folder / "gone.jpg").symlink_to(tmp_path / "nothing")
    (folder / "large.png").write_bytes(bytes(9))
    (folder / "small.png").write_bytes(bytes(8))
    monkeypatch.setattr(convert, "IMAGE_BYTES", 8)
    (tmp_path / "a.csv").write_text(f"caption\n{'x' * 200}\ngood\n")
    before = csv.field_size_limit(100)
    try:
        found = made(tmp_path, folder, tmp_path / "a.csv")
    finally:
        csv.field_size_limit(before)
    assert found.bad == {"no_caption": 3, "bad_csv": 1}
    assert found.examples[-1].endswith("a.csv:1: bad_csv (field larger than field limit (100))")
    for name in ("gone", "large", "small"):
        (folder / f"{name}.txt").write_text(name)
    found = make(Conversion(inputs=(str(folder),)), tmp_path / "again", lambda done, total: None)
    assert found.bad == {str(LeftOut.UNREADABLE_IMAGE): 1, str(LeftOut.IMAGE_TOO_LARGE): 1}
    assert [s.text for s in samples(tmp_path / "again")] == ["small"]


def test_it_goes_on_where_it_was_killed_and_gives_the_same_bytes(tmp_path, monkeypatch):
    captions = [f"caption {n}" if n % 5 else None for n in range(40)]
    path = table(tmp_path / "a.parquet", captions)
    whole = Conversion(inputs=(str(path),), samples=7)
    make(whole, tmp_path / "whole", lambda done, total: None)

    def killed(done, total):
        if done == 23:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(whole, tmp_path / "out", killed)
    assert sorted(digests(tmp_path / "out")) == ["00000.tar", "00001.tar"]
    again = made(tmp_path, path, samples=7)
    assert (again.rows, sum(again.samples), again.bad) == (40, 32, {"no_caption": 8})
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert not list((tmp_path / "out").glob("*.partial"))
    monkeypatch.setattr(convert, "rows_of", None)  # what is complete is not read again
    assert made(tmp_path, path, samples=7).complete


def test_a_shard_ends_at_its_size_too(tmp_path):
    path = table(tmp_path / "a.parquet", ["x" * 1000] * 10)
    assert made(tmp_path, path, size=3000).samples == [3, 3, 3, 1]


def test_other_settings_need_another_folder(tmp_path):
    path = table(tmp_path / "a.parquet", ["a"])
    made(tmp_path, path)
    with pytest.raises(ConfigError, match="was made from other inputs or with other settings"):
        made(tmp_path, path, samples=7)
    (tmp_path / "out" / "shards.json").unlink()
    with pytest.raises(ConfigError, match="holds shards that are not of this making"):
        made(tmp_path, path)


def test_a_source_that_breaks_off_keeps_the_shards_before_it(tmp_path):
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", compresslevel=0) as stream:
        stream.writelines(b'{"caption": "caption %d"}\n' % n for n in range(20_000))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes((tmp_path / "a.jsonl.gz").read_bytes()[:300_000])
    with pytest.raises(ShardError, match=r".*cut.jsonl.gz cannot be read to its end"):
        made(tmp_path, cut, samples=4000)
    assert sorted(digests(tmp_path / "out")) == ["00000.tar", "00001.tar"]


@pytest.mark.parametrize(
    ("name", "content", "settings", "said"),
    [
        ("none.csv", None, {}, "none.csv does not exist"),
        ("a.xlsx", b"", {}, "a.xlsx is no table"),
        ("a.parquet", b"nonsense", {}, "a table is no Parquet"),
        (
            "a.csv",
            b"x,y\n1,2\n",
            {},
            "a.csv has no column caption, TEXT, text, prompt: name one of",
        ),
        ("a.csv", b"x,y\n1,2\n", {"caption_column": "z"}, "a.csv has no column 'z', only x, y"),
        ("a.csv", b"", {}, "a.csv has no column"),
    ],
)
def test_what_cannot_be_read_says_why(name, content, settings, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f".*{said}"):
        made(tmp_path, tmp_path / name, **settings)
    (tmp_path / "empty").mkdir(exist_ok=True)
    with pytest.raises(ConfigError, match="empty holds neither tables"):
        make(
            Conversion(inputs=(str(tmp_path / "empty"),)), tmp_path / "o", lambda done, total: None
        )

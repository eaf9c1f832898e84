"""Parquet tables in the place of shards: rows in chunks, read as they lie."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from scanner.cli import app
from scanner.errors import ConfigError, ShardError
from scanner.records import Caption, Reject
from scanner.shards import reading
from scanner.shards.columns import Columns, bare, columns_of, is_parquet
from scanner.shards.expansion import expand

PNG = b"\x89PNG an image"


def table(path, rows=25, group=7, **columns):
    texts = [f"a caption, number {n}" for n in range(rows)]
    pq.write_table(pa.table({"caption": texts, **columns}), path, row_group_size=group)
    return str(path)


def samples(address, size=10, **asked):
    index = reading.index(reading.stat(address), size)
    assert index.problem is None
    assert [chunk.samples for chunk in index.chunks][:-1] == [size] * (len(index.chunks) - 1)
    options = {"images": False, **asked}
    return [item for chunk in index.chunks for item in reading.read(chunk, **options)]


@pytest.mark.parametrize("size", [1, 6, 7, 8, 100])
def test_every_row_is_a_sample_whatever_the_chunks_and_groups_are(tmp_path, size):
    found = samples(table(tmp_path / "a.parquet"), size)
    assert [item.text for item in found] == [f"a caption, number {n}" for n in range(25)]
    assert [item.key for item in found] == [f"{n:09d}" for n in range(25)]


def test_columns_are_found_by_their_usual_names_or_named(tmp_path):
    urls = [f"https://x/{n}" for n in range(25)]
    other = [f"another, {n}" for n in range(25)]
    keys = [f"k{n // 2}" for n in range(25)]
    path = table(tmp_path / "a.parquet", URL=urls, **{"alt text#": other, "name": keys})
    assert samples(path)[3].url == "https://x/3"
    (address,) = expand([path], Columns(caption="alt text#", key="name"))
    assert (bare(address), is_parquet(address)) == (path, True)
    assert columns_of(address) == Columns(caption="alt text#", key="name")
    assert expand([address]) == [address]
    assert reading.stat(address).id != reading.stat(path).id
    found = samples(address)
    assert (found[2].text, found[2].key) == ("another, 2", "k1")
    assert isinstance(found[3], Reject)
    assert (found[3].reason, found[3].key) == ("duplicate_key", "k1")
    assert found[3].caption_sha256


def test_bad_rows_are_rejects_and_the_others_are_there(tmp_path):
    texts = ["good", None, "  ", "x" * 70_000, "last"]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    found = samples(str(tmp_path / "a.parquet"))
    reasons = [item.reason if isinstance(item, Reject) else item.text for item in found]
    assert reasons == ["good", "no_caption", "empty_caption", "caption_too_long", "last"]
    cells = pa.array([b"good", b"\xff bad", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": cells, "key": cells}), tmp_path / "c.parquet")
    found = samples(str(tmp_path / "c.parquet"))
    reasons = [item.reason if isinstance(item, Reject) else item.text for item in found]
    assert reasons == ["good", "not_utf8", "no_caption"]
    assert [item.key for item in found] == ["good", "\\xff bad", "000000002"]
    numbers = pa.table({"text": [1, 2]})
    pq.write_table(numbers, tmp_path / "b.parquet")
    assert {item.reason for item in samples(str(tmp_path / "b.parquet"))} == {"no_caption"}


@pytest.mark.parametrize("is_struct", [False, True])
def test_images_are_bytes_or_what_hugging_face_stores(tmp_path, is_struct):
    cells = [PNG + bytes([n]) if n % 3 else None for n in range(25)]
    stored = [cell and {"bytes": cell, "path": None} for cell in cells] if is_struct else cells
    path = table(tmp_path / "a.parquet", image=stored)
    found = samples(path, images=True)
    assert [item.image for item in found] == cells
    assert {item.image for item in samples(path)} == {None}
    chunk = reading.index(reading.stat(path), 10).chunks[1]
    wanted = {0: "000000010", 2: "000000012", 3: "000000013"}
    assert dict(reading.pictures(chunk, wanted)) == {0: cells[10], 3: cells[13]}
    assert reading.image(path, "000000013") == cells[13]
    assert reading.image(path, "000000012") is None
    assert dict(reading.images(path, ["000000001", "nothing"])) == {"000000001": cells[1]}
    assert samples(path, images=True, captions=False)[1].text == ""


def test_a_chunk_behind_several_batches_of_its_row_group_is_read(tmp_path):
    cells = [bytes([n]) for n in range(100)]  # images are read 16 rows at a time
    path = table(tmp_path / "a.parquet", rows=100, group=90, image=cells)
    found = samples(path, images=True)
    assert [item.image for item in found] == cells
    assert [item.text for item in found] == [f"a caption, number {n}" for n in range(100)]
    assert reading.image(path, "000000089") == cells[89]


def test_images_are_found_by_key(tmp_path):
    keys, cells = [f"k{n}" for n in range(25)], [PNG + bytes([n]) for n in range(25)]
    path = table(tmp_path / "a.parquet", key=keys, picture=cells)
    (address,) = expand([path], Columns(image="picture"))
    assert reading.image(path, "k20") is None
    assert reading.image(address, "k20") == cells[20]
    assert dict(reading.images(address, ["k3", "k24"])) == {"k3": cells[3], "k24": cells[24]}


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (Columns(caption="no"), "has no column 'no' of captions, only caption"),
        (Columns(image="caption"), "the column caption is string, not encoded images"),
    ],
)
def test_a_column_that_is_not_there_is_told(tmp_path, columns, problem):
    (address,) = expand([table(tmp_path / "a.parquet")], columns)
    assert problem in reading.index(reading.stat(address), 10).problem


def test_what_is_no_table_is_a_problem_of_that_shard_alone(tmp_path):
    broken = tmp_path / "a.parquet"
    for content in (b"", b"PAR1 and nothing", b"no"):
        broken.write_bytes(content)
        index = reading.index(reading.stat(str(broken)), 10)
        assert (index.chunks, index.samples) == ((), 0)
        assert "no Parquet that can be read" in index.problem
    pq.write_table(pa.table({"caption": pa.array([], pa.string())}), broken)
    assert reading.index(reading.stat(str(broken)), 10).problem == "is a table without rows"
    pq.write_table(pa.table({"title": ["a"]}), broken)
    assert (
        "name one of title with --caption-column"
        in reading.index(reading.stat(str(broken)), 10).problem
    )


def test_a_table_that_was_cut_behind_its_listing_or_changed_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    chunk = reading.index(reading.stat(table(path)), 10).chunks[0]
    table(path, rows=26)
    with pytest.raises(ShardError, match="changed since it was listed"):
        list(reading.read(chunk, images=False))
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    index = reading.index(reading.stat(str(path)), 100)
    with pytest.raises(ShardError, match="no Parquet that can be read"):
        list(reading.read(index.chunks[0], images=False))


def test_a_folder_gives_its_tables_where_it_has_no_tar(tmp_path):
    for name in ("10.parquet", "9.parquet"):
        table(tmp_path / name)
    assert [address.rpartition("/")[2] for address in expand([str(tmp_path)])] == [
        "9.parquet", "10.parquet",
    ]  # fmt: skip
    (tmp_path / "a.tar").write_bytes(bytes(1024))
    assert [address.rpartition("/")[2] for address in expand([str(tmp_path)])] == ["a.tar"]
    mixed = [address.rpartition("/")[2] for address in expand([str(tmp_path / "*")])]
    assert mixed == ["9.parquet", "10.parquet", "a.tar"]
    with pytest.raises(ConfigError, match="columns are of tables"):
        expand([str(tmp_path / "a.tar")], Columns(caption="x"))
    with pytest.raises(ConfigError, match="must be caption, key or image"):
        expand([f"{tmp_path}/9.parquet#title=x"])


def test_a_scan_of_a_table_resumes_and_its_rows_name_where_they_are_from(tmp_path):
    path = table(tmp_path / "a.parquet", alt=[f"alt {n}" for n in range(25)])
    options = [
        "scan", path, "--caption-column", "alt", "--model", "gaussian", "--steps", "3", "--probes",
        "4", "--chunk-size", "10", "--out", str(tmp_path / "r"), "--local", "--json",
    ]  # fmt: skip
    first = CliRunner().invoke(app, [*options, "--limit", "10"])
    assert first.exception is None, first.output
    whole = CliRunner().invoke(app, options)
    summary = json.loads(whole.stdout)
    assert (summary["scored"], summary["chunks_skipped"]) == (25, 1)
    sql = "SELECT DISTINCT shard, count(*) AS n, min(caption) AS c FROM scores GROUP BY ALL"
    found = CliRunner().invoke(app, ["query", str(tmp_path / "r"), sql, "--format", "json"])
    (row,) = json.loads(found.stdout)
    assert row == {"shard": f"{path}#caption=alt", "n": 25, "c": "alt 0"}


def test_captions_of_a_table_are_what_they_are_in_a_shard_made_of_it(tmp_path):
    path = table(tmp_path / "a.parquet", url=[f"https://x/{n}" for n in range(25)])
    made = CliRunner().invoke(app, ["shards", "make", path, "--out", str(tmp_path / "s")])
    assert made.exception is None, made.output
    (tar,) = expand([str(tmp_path / "s")])
    ours, theirs = samples(path), samples(tar)
    assert all(isinstance(item, Caption) for item in ours)
    assert [(i.text, i.url) for i in ours] == [(i.text, i.url) for i in theirs]


def test_any_damage_is_told_in_one_line_and_nothing_else_is_raised(tmp_path):
    path = tmp_path / "a.parquet"
    whole = bytearray(Path(table(path, key=[f"k{n}" for n in range(25)])).read_bytes())
    random, refused = np.random.default_rng(0), 0
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(0, len(content), int(random.integers(1, 6))):
            content[place] = int(random.integers(0, 256))
        length = int(random.integers(1, len(content) + 1)) if refused % 3 else len(content)
        path.write_bytes(content[:length])
        index = reading.index(reading.stat(str(path)), 10)
        refused += index.problem is not None
        assert "\n" not in (index.problem or "")
        for chunk in index.chunks:
            with suppress(ShardError):
                assert len(list(reading.read(chunk, images=True))) == chunk.samples
    assert 0 < refused < 150

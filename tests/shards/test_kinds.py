"""Tables that are given where shards are expected."""

import gzip
import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scanner.errors import ConfigError
from scanner.shards.expansion import expand
from scanner.shards.kinds import table_in

JSON = '{"caption": "ein Mädchen", "url": "x"}\n'


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"caption": ["a"] * 9}), out)
    return out.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz", "a.JSONL", "a.ndjson", "a.parquet"])
def test_a_table_is_known_by_its_name(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "b.tar").write_bytes(bytes(1024))
    assert expand([str(tmp_path / name)]) == [str(tmp_path / name)]
    assert len(expand([str(tmp_path / "*")])) == 2
    assert expand([str(tmp_path)]) == [str(tmp_path / "b.tar")]
    assert expand([f"s3://bucket/{name}"]) == [f"s3://bucket/{name}"]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.tar", parquet(), "Parquet"),
        ("a", JSON.encode() * 100, "text"),
        ("a.tar", JSON.encode() * 100, "text"),
        ("a.tar.gz", gzip.compress(JSON.encode() * 100, mtime=0), "text"),
        ("a.tar", b"caption,url\na red rug,\n", "text"),
    ],
)
def test_a_table_is_refused_by_its_content(name, content, kind, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"it holds {kind}.*read as it lies if its name"):
        expand([str(tmp_path / name)])


def test_every_table_that_is_called_a_tar_is_named(tmp_path):
    for name, content in (("a.tar", bytes(1024)), ("b.tar", parquet()), ("c", JSON.encode())):
        (tmp_path / name).write_bytes(content)
    said = str(refused([str(tmp_path / "*")]))
    assert "b.tar are no tars, they hold text, such as CSV or JSON lines or Parquet" in said
    assert f"{tmp_path}/c, " in said
    assert "a.tar" not in said


def refused(patterns):
    with pytest.raises(ConfigError) as caught:
        expand(patterns)
    return caught.value


def test_a_character_that_is_cut_at_the_end_of_what_is_read_is_text():
    assert table_in(b"\n" + b"x" * 510 + "é".encode())
    assert table_in(b"\n" + b"x" * 100 + b"\xc3") is None


def test_tars_damaged_or_odd_are_left_to_the_scan(tmp_path):
    good = io.BytesIO()
    with tarfile.open(fileobj=good, mode="w") as tar:
        member = tarfile.TarInfo("a.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"abc\n"))
    for head in (good.getvalue(), b"", b"x" * 2000, b"PK\x03\x04" + bytes(600), bytes(1024),
                 bytes(range(256)) * 4, gzip.compress(good.getvalue())):  # fmt: skip
        (tmp_path / "a.tar").write_bytes(head)
        assert expand([str(tmp_path / "a.tar")])

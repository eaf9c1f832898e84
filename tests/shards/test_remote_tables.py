"""Tables on a store and on a web server: the same rows as here, whatever the server can do."""

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_flaky import served

from scanner import retry
from scanner.errors import ConfigError
from scanner.shards import reading
from scanner.shards.expansion import expand

pytest.importorskip("aiohttp")
ROWS = 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    texts = [f'caption {n}, "said" {"x" * 150}' for n in range(ROWS)]
    quoted = [text.replace('"', '""') for text in texts]
    (folder / "a.csv").write_text("caption,n\n" + "".join(f'"{t}",1\n' for t in quoted))
    pq.write_table(pa.table({"caption": texts}), folder / "b.parquet")
    return folder


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.01)


def texts(address):
    index = reading.index(reading.stat(address), 700)
    assert index.problem is None
    return [i.text for chunk in index.chunks for i in reading.read(chunk, images=False)]


@pytest.mark.parametrize("mode", ["ranged", "whole"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_table_on_a_web_server_reads_as_here(folder, mode, share):
    with served(folder, mode, share) as (server, _):
        assert texts(f"{server}/a.csv") == texts(str(folder / "a.csv"))
        assert reading.described([f"{server}/a.csv"]).endswith("keys are row numbers")


def test_tables_in_a_bucket_read_as_here_and_a_prefix_gives_them(folder, s3):
    files = fsspec.filesystem("s3", use_listings_cache=False)
    for name in ("a.csv", "b.parquet"):
        files.put_file(str(folder / name), f"{s3.bucket}/set/data/{name}")
    found = expand([f"{s3.bucket}/set/"])
    assert found == [f"{s3.bucket}/set/data/{name}" for name in ("a.csv", "b.parquet")]
    assert texts(found[0]) == texts(found[1]) == texts(str(folder / "a.csv"))
    files.pipe_file(f"{s3.bucket}/pictures/a.png", b"x")
    with pytest.raises(ConfigError, match="folders of images are read on this machine only"):
        expand([f"{s3.bucket}/pictures/"])
    files.pipe_file(f"{s3.bucket}/notes/a.md", b"x")
    with pytest.raises(ConfigError, match=r"holds no \*.tar, no table"):
        expand([f"{s3.bucket}/notes/"])

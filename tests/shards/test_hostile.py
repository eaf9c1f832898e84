"""Shards, records and addresses made by someone who means harm: bounded, named, never executed."""

import gzip
import io
import json
import random
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanner import pictures
from scanner.errors import ConfigError, ResultsError, ShardError
from scanner.records import Caption, Reject
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.statistics import calibration

SOUND = {"model": "m", "score_fingerprint": "s", "null_scores": [1.0, 2.0], "pixel_thresholds": {},
         "pixel_fpr": 0.01, "captions": 2, "created": ""}  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def packed(members: list[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def scanned(path: Path, content: bytes, chunk_size: int = 3) -> tuple[str | None, list]:
    """Index and read, and hold what every shard must hold: as many samples as counted."""
    path.write_bytes(content)
    index = reading.index(reading.stat(str(path)), chunk_size)
    items = [list(reading.read(chunk, images=True)) for chunk in index.chunks]
    assert [len(part) for part in items] == [chunk.samples for chunk in index.chunks]
    for chunk in index.chunks:
        assert "/" not in chunk.name
    return index.problem, [item for part in items for item in part]


@QUICK
@given(content=st.binary(max_size=4096), ending=st.sampled_from((".tar", ".tar.gz")))
def test_any_bytes_are_a_shard_with_a_problem(tmp_path: Path, content: bytes, ending: str) -> None:
    problem, items = scanned(tmp_path / f"a{ending}", content)
    assert problem
    assert not any(isinstance(item, Caption) for item in items)


@settings(QUICK, max_examples=150)
@given(data=st.data(), format=st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)))
def test_headers_of_every_kind_are_read_or_refused(
    tmp_path: Path, data: st.DataObject, format: int
) -> None:
    kinds = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
             tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE,
             tarfile.GNUTYPE_SPARSE)  # fmt: skip
    names = st.sampled_from(("../../etc/passwd", "/etc/shadow", "a/../b", "a", "ü", "x" * 300))
    members = []
    for _ in range(data.draw(st.integers(1, 5))):
        info = tarfile.TarInfo(data.draw(names) + data.draw(st.sampled_from((".txt", ".json", ""))))
        info.type = data.draw(st.sampled_from(kinds))
        info.linkname = data.draw(names)
        if format == tarfile.PAX_FORMAT:
            extra = st.sampled_from(("size", "path", "GNU.sparse.size", "linkpath", "mtime"))
            text = st.sampled_from(("-1", "1e9", "9" * 30, "/etc/passwd", "a\0b"))
            info.pax_headers = data.draw(st.dictionaries(extra, text, max_size=2))
        members.append((info, b"{}" if info.isreg() else b""))
    content = bytearray(packed(members, format))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    problem, items = scanned(tmp_path / "a.tar", bytes(content))
    assert problem is None or isinstance(problem, str)
    assert all(isinstance(item, Caption | Reject) for item in items)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(
    "content",
    ['{"caption":' * 5000 + "1" + "}" * 5000, '{"caption": ' + "9" * 5000 + "}",
     '{"caption": 1e99999}', '{"caption": NaN}', '{"caption": "a", "caption": 7}',
     '{"caption": "\\udc00"}', '{"caption": "\\u0000 "}', "[]" * 1000, '"caption"', "\ufeff"],
)  # fmt: skip
def test_no_json_of_a_sample_does_more_than_reject_it(tmp_path: Path, content: str) -> None:
    problem, (item,) = scanned(
        tmp_path / "a.tar", packed([(tarfile.TarInfo("a.json"), content.encode())])
    )
    assert problem is None
    assert isinstance(item, Reject) or item.text == "\0 "


@QUICK
@given(content=JSON)
def test_any_json_of_a_sample_is_a_caption_or_a_reject(tmp_path: Path, content: object) -> None:
    text = json.dumps({"caption": content, "url": content}).encode()
    _, (item,) = scanned(tmp_path / "a.tar", packed([(tarfile.TarInfo("a.json"), text)]))
    assert isinstance(item, Caption) == (isinstance(content, str) and bool(content.strip())) or (
        isinstance(item, Reject) and item.reason == "not_utf8"
    )


@QUICK
@given(content=JSON, key=st.sampled_from([*SOUND, ""]))
def test_a_calibration_of_any_content_is_refused_or_sound(
    tmp_path: Path, content: object, key: str
) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(SOUND | {key: content} if key else content))
    try:
        found = calibration.load(path)
    except ConfigError:
        return
    assert 0 < found.p_value(1.5) <= 1


@QUICK
@given(content=JSON, key=st.sampled_from(["schema_version", "run", "chunk", "files", "counts", ""]))
def test_a_commit_record_of_any_content_is_refused_or_lists_files(
    tmp_path: Path, content: object, key: str
) -> None:
    record = {"schema_version": 1, "run": "r", "chunk": "c", "files": {}, "counts": {}}
    (tmp_path / "commits" / "r").mkdir(parents=True, exist_ok=True)
    path = tmp_path / "commits" / "r" / "c.json"
    path.write_text(json.dumps(record | {key: content} if key else content))
    try:
        files = Results(tmp_path).files("scores", ["r"])
    except ResultsError:
        return
    except ConfigError:
        assert (key, type(content)) == ("schema_version", int), "of a later memscan"
        return
    assert all(isinstance(file, str) for file in files)


@pytest.mark.parametrize(
    "address",
    ["pipe:cat /etc/passwd", "| cat", "file:///etc/passwd", "ftp://x/a.tar", "zip://a::s3://b/c",
     "s3://b/c.tar::http://x", "memory://a.tar", "github://a:b@/x.tar", "local:///etc/passwd",
     "PIPE:id", " pipe:id", "ssh://host/a.tar", "data:,x", "filecache::s3://b/a.tar"],
)  # fmt: skip
def test_addresses_that_run_or_chain_something_are_refused(address: str) -> None:
    for door in (lambda: reading.expand([address]), lambda: reading.stat(address)):
        with pytest.raises((ConfigError, ShardError)):
            door()


def test_images_that_lie_are_unreadable(tmp_path: Path) -> None:
    from PIL import Image

    def encoded(mode: str, kind: str, size: tuple[int, int] = (8, 8), **more: object) -> bytes:
        Image.new(mode, size).save(buffer := io.BytesIO(), kind, **more)
        return buffer.getvalue()

    good = [encoded("CMYK", "JPEG"), encoded("I;16", "PNG"), encoded("RGBA", "WEBP"),
            encoded("P", "PNG"), encoded("1", "PNG")]  # fmt: skip
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(buffer := io.BytesIO(), "WEBP", save_all=True, append_images=frames[1:])
    for content in (*good, buffer.getvalue()):
        assert pictures.decoded(content, (8, 8)).shape == (8, 8, 3)
    bomb = encoded("1", "PNG", (12000, 12000))
    assert len(bomb) < 100_000
    truncated = encoded("RGB", "PNG", (64, 64))[:60]
    for content in (bomb, truncated, encoded("RGB", "TIFF"), b"", b"\xff\xd8\xff" + bytes(99)):
        with pytest.raises(ValueError):  # noqa: PT011 - any text
            pictures.decoded(content, (8, 8))


READ_ALL = """
import resource, sys
from scanner.shards import reading as shards
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
index = shards.index(shards.stat(sys.argv[1]), 256)
for chunk in index.chunks:
    for item in shards.read(chunk, images=False):
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_bounded_whatever_a_tar_holds(tmp_path: Path) -> None:
    """Many huge members and a gzip that inflates a thousandfold, in a process that is watched."""
    members = [(f"{n}.{ext}", bytes(30 << 20)) for n in range(8) for ext in ("jpg", "bin")]
    content = packed([(tarfile.TarInfo(name), data) for name, data in members])
    (tmp_path / "big.tar").write_bytes(content)
    (tmp_path / "big.tar.gz").write_bytes(gzip.compress(content, 1))
    for name in ("big.tar", "big.tar.gz"):
        command = [sys.executable, "-c", READ_ALL, str(tmp_path / name)]
        run = subprocess.run(
            command, capture_output=True, text=True, check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
        )  # fmt: skip
        grown = int(run.stdout)
        assert grown < 300 << 10, f"{name}: {grown} KiB"


def test_every_cut_of_a_gzip_gives_whole_samples_and_a_problem(tmp_path: Path) -> None:
    luck = random.Random(1)
    texts = [f"caption {n} {luck.random()}" for n in range(6)]
    members = [(tarfile.TarInfo(f"{n}.txt"), text.encode()) for n, text in enumerate(texts)]
    whole = gzip.compress(packed(members, tarfile.USTAR_FORMAT), mtime=0)
    for cut in range(len(whole)):
        problem, items = scanned(tmp_path / "a.tar.gz", whole[:cut])
        assert problem, cut
        found = [item.text for item in items if isinstance(item, Caption)]
        assert found == texts[: len(found)], cut
    assert scanned(tmp_path / "a.tar.gz", whole)[0] is None

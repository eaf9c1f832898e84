import functools
import gzip
import http.server
import io
import json
import os
import pickle
import re
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import webdataset
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from scanner.errors import ConfigError, ShardError
from scanner.records import Caption, Reject, caption_hash
from scanner.shards import byte_sources, expansion, tar
from scanner.shards import reading as shards
from scanner.shards import samples as limits
from scanner.shards.reading import Chunk, Shard, ShardIndex

Members = list[tuple[str, bytes]]


def tar_bytes(members: Members, format: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def read_all(url: str, chunk_size: int = 2, *, images: bool = False) -> tuple[ShardIndex, list]:
    index = shards.index(shards.stat(url), chunk_size)
    items = [list(shards.read(chunk, images=images)) for chunk in index.chunks]
    assert [len(i) for i in items] == [c.samples for c in index.chunks]
    assert sum(map(len, items)) == index.samples
    return index, [i for part in items for i in part]


def only(tmp_path: Path, members: Members) -> Caption | Reject:
    index, (item,) = read_all(write(tmp_path / "a.tar", tar_bytes(members)))
    assert index.problem is None
    return item


PAIRS: Members = [
    (f"00{i}.{ext}", content)
    for i in range(4)
    for ext, content in (("txt", f"a cat no {i}".encode()), ("jpg", b"\xff\xd8" + b"x" * (50 * i)))
]


def test_every_cut_of_an_archive_is_seen_and_never_yields_a_half_sample(tmp_path: Path) -> None:
    whole = tar_bytes(PAIRS)
    marker_end = 8 * 1024 + 1024
    _, complete = read_all(write(tmp_path / "a.tar", whole), images=True)
    assert [c.text for c in complete] == [f"a cat no {i}" for i in range(4)]

    for cut in range(marker_end + 3):
        url = write(tmp_path / "cut.tar", whole[:cut])
        index, items = read_all(url, images=True)
        assert (index.problem is None) == (cut >= marker_end), cut
        captions = [i for i in items if isinstance(i, Caption)]
        expected = [(c.key, c.text, c.image) for c in complete]
        assert [(c.key, c.text, c.image) for c in captions] == expected[: len(captions)], cut
        rest = items[len(captions) :]
        assert [r.reason for r in rest] in ([], ["half_sample"]), cut
        followed = max(0, (cut - 512) // 2048)  # samples behind which another key was seen
        assert len(captions) >= min(followed, 4), cut


def test_the_last_sample_before_a_cut_counts_only_with_the_fields_of_the_one_before(
    tmp_path: Path,
) -> None:
    at_a_sample = write(tmp_path / "a.tar", tar_bytes(PAIRS[:4])[: 4 * 1024])
    index, items = read_all(at_a_sample)
    assert index.problem == "has no end-of-archive marker at byte 4096 after 2 samples"
    assert all(isinstance(i, Caption) for i in items)

    at_a_member = write(tmp_path / "a.tar", tar_bytes(PAIRS[:3])[: 3 * 1024])
    assert [getattr(i, "reason", "") for i in read_all(at_a_member)[1]] == ["", "half_sample"]

    alone = write(tmp_path / "a.tar", tar_bytes(PAIRS[:2])[: 2 * 1024])
    assert [i.reason for i in read_all(alone)[1]] == ["half_sample"]


def test_every_cut_of_a_gzipped_archive_is_seen(tmp_path: Path) -> None:
    whole = gzip.compress(tar_bytes(PAIRS))
    assert read_all(write(tmp_path / "a.tar.gz", whole))[0].problem is None

    for cut in range(0, len(whole), 3):
        index, items = read_all(write(tmp_path / "a.tgz", whole[:cut]))
        assert index.problem, cut
        assert all(isinstance(i, Caption) or i.reason == "half_sample" for i in items)


def test_a_flipped_bit_anywhere_in_a_gzip_never_crashes_and_never_passes(tmp_path: Path) -> None:
    whole = gzip.compress(tar_bytes(PAIRS), mtime=0)
    for at in range(10, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        assert read_all(write(tmp_path / "a.tar.gz", bytes(damaged)))[0].problem, at


def test_a_wrong_header_checksum_ends_the_reading(tmp_path: Path) -> None:
    content = bytearray(tar_bytes(PAIRS))
    content[4 * 1024 + 5] ^= 1

    index, items = read_all(write(tmp_path / "a.tar", bytes(content)))

    assert index.problem == "bad header at byte 4096 after 2 samples"
    assert len(items) == 2


def test_what_follows_the_end_marker_is_not_ignored(tmp_path: Path) -> None:
    index, items = read_all(write(tmp_path / "a.tar", tar_bytes(PAIRS[:2]) * 2))

    assert (index.problem or "").startswith("goes on after its end-of-archive marker")
    assert [i.text for i in items] == ["a cat no 0"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"PAR1" + bytes(600), r"is not a tar: starts with b'PAR1' \(Parquet\)"),
        (b"PK\x03\x04" + b"x" * 600, r"is not a tar: starts with .*zip"),
        (gzip.compress(tar_bytes(PAIRS)), r"is not a tar: .*name must end in .tar.gz"),
        (b"just some text" * 100, "is not a tar: starts with b'just som'"),
        (tar_bytes([]), "is a tar without samples"),
        (tar_bytes([("README", b"hello"), (".hidden.txt", b"x")]), "is a tar without samples"),
    ],
)
def test_what_is_no_shard_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    index, items = read_all(write(tmp_path / "a.tar", content))
    assert not items
    assert index.problem is not None
    assert re.match(problem, index.problem)


def test_a_name_that_promises_gzip_must_hold_it(tmp_path: Path) -> None:
    index, _ = read_all(write(tmp_path / "a.tar.gz", tar_bytes(PAIRS)))
    assert "gzip stream breaks" in (index.problem or "")


def test_webdatasets_own_writer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wds.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for i in range(7):
            writer.write(
                {
                    "__key__": f"dir/{i:04d}",
                    "txt": f"Café & 'crème' \"{i}\"\n",
                    "json": {"url": f"https://example.org/{i}"},
                    "jpg": b"\xff\xd8" + bytes([i]),
                    "cls": i,
                }
            )

    index, items = read_all(str(path), chunk_size=3, images=True)

    assert index.problem is None
    assert [c.samples for c in index.chunks] == [3, 3, 1]
    assert [c.number for c in index.chunks] == [0, 1, 2]
    assert items == [
        Caption(
            str(path),
            f"dir/{i:04d}",
            f"Café & 'crème' \"{i}\"\n",
            f"https://example.org/{i}",
            b"\xff\xd8" + bytes([i]),
        )
        for i in range(7)
    ]
    with webdataset.TarWriter(str(tmp_path / "z.tar.gz")) as writer:
        writer.write({"__key__": "a", "txt": "hello"})
    assert read_all(str(tmp_path / "z.tar.gz"))[1][0].text == "hello"


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda s: s.strip()
)
keys = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="./_\u2028\u2029\x85"),
    min_size=1,
    max_size=120,
).filter(lambda s: s.strip() == s)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(keys, text, min_size=1, max_size=6),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(1, 4),
    st.booleans(),
)
def test_captions_and_keys_come_back(
    tmp_path: Path, captions: dict[str, str], format: int, chunk_size: int, zipped: bool
) -> None:
    members = [(f"folder/{key}.txt", caption.encode()) for key, caption in captions.items()]
    content = tar_bytes(members, format)
    name, content = ("a.tar.gz", gzip.compress(content)) if zipped else ("a.tar", content)

    index, items = read_all(write(tmp_path / name, content), chunk_size)

    assert index.problem is None
    assert [(i.key, i.text) for i in items] == [(f"folder/{k}", v) for k, v in captions.items()]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_can_begin_a_chunk(tmp_path: Path, format: int) -> None:
    members = [(f"{'long' * 60}-{i}.txt", b"x%d" % i) for i in range(5)]
    _, items = read_all(write(tmp_path / "a.tar", tar_bytes(members, format)), chunk_size=1)
    assert [(i.key + ".txt", i.text.encode()) for i in items] == members


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.pkl", b"x"), ("a.jpg", b"x")], "no_caption"),
        ([("a.json", b'{"caption": 3, "text": null}')], "no_caption"),
        ([("a.json", b'["caption"]')], "no_caption"),
        ([("a.txt", b"")], "empty_caption"),
        ([("a.txt", b" \n\t ")], "empty_caption"),
        ([("a.json", b'{"caption": " "}')], "empty_caption"),
        ([("a.txt", b"caf\xe9")], "not_utf8"),
        ([("a.json", b'{"caption": "\\ud83d"}')], "not_utf8"),
        ([("a.txt", b"x" * (limits.CAPTION_BYTES + 1))], "caption_too_long"),
        (
            [("a.json", json.dumps({"caption": "x" * (limits.CAPTION_BYTES + 1)}).encode())],
            "caption_too_long",
        ),
        ([("a.json", b"{")], "bad_json"),
        ([("a.json", b"[" * 100_000)], "bad_json"),
        ([("a.txt", b"x"), ("a.json", b"x" * (limits.JSON_BYTES + 1))], "member_too_large"),
        ([("a.v1.txt", b"x"), ("a.v2.txt", b"y")], "ambiguous_caption"),
        ([("a.v1.txt", b"x"), ("a.v2.txt", b"y"), ("a.json", b"{}")], "ambiguous_caption"),
    ],
)
def test_each_way_to_be_unfit_has_its_reason(tmp_path: Path, members: Members, reason: str) -> None:
    item = only(tmp_path, members)
    assert isinstance(item, Reject)
    assert (item.reason, item.key) == (reason, "a")
    assert item.detail


@pytest.mark.parametrize(
    ("members", "caption"),
    [
        ([("a.txt", b"x\0\x1b[31m")], ("x\0\x1b[31m", None)),
        ([("a.text", b"b"), ("a.txt", b"a")], ("a", None)),
        ([("a.orig.txt", b"b"), ("a.txt", b"a")], ("a", None)),
        ([("a.v1.0.txt", b"b"), ("a.v1.0.jpg", b"")], ("b", None)),
        ([("a.TXT", b"a"), ("a.json", b"{")], ("a", None)),
        ([("a.txt", b"a"), ("a.json", b'{"URL": "http://u"}')], ("a", "http://u")),
        ([("a.json", b'{"TEXT": "t", "url": "\\ud800"}')], ("t", None)),
        ([("a.json", b'\xef\xbb\xbf{"text": "t", "caption": ""}')], ("t", None)),
        ([("a.txt", b"x" * limits.CAPTION_BYTES)], ("x" * limits.CAPTION_BYTES, None)),
    ],
)
def test_where_caption_and_url_come_from(
    tmp_path: Path, members: Members, caption: tuple[str, str | None]
) -> None:
    item = only(tmp_path, members)
    assert isinstance(item, Caption)
    assert (item.text, item.url) == caption


def test_a_key_that_comes_back_is_a_reject_in_whatever_chunk(tmp_path: Path) -> None:
    members = [("a.txt", b"1"), ("b.txt", b"2"), ("a.jpg", b"3"), ("b.txt", b"4"), ("c.txt", b"5")]
    url = write(tmp_path / "a.tar", tar_bytes([*members, ("c.txt", b"6")]))

    for chunk_size in (1, 2, 3, 10):
        _, items = read_all(url, chunk_size, images=True)
        assert [(i.key, getattr(i, "reason", "")) for i in items] == [
            ("a", ""),
            ("b", ""),
            ("a", "duplicate_key"),
            ("b", "duplicate_key"),
            ("c", ""),
            ("c", "duplicate_key"),
        ]
        hashes = [caption_hash(text) for text in "46"]
        assert [items[3].caption_sha256, items[5].caption_sha256] == hashes


def test_a_sample_of_endless_members_is_split_and_refused(tmp_path: Path) -> None:
    members = [(f"a.e{i}", b"") for i in range(limits.MEMBERS_PER_SAMPLE + 1)]
    _, items = read_all(write(tmp_path / "a.tar", tar_bytes(members)))
    assert [i.reason for i in items] == ["no_caption", "duplicate_key"]


def test_large_members_are_passed_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [("a.txt", b"x"), ("a.jpg", b"y" * 3000), ("a.bin", b"z" * 5000), ("b.txt", b"b")]
    url = write(tmp_path / "a.tar", tar_bytes(members))
    monkeypatch.setitem(limits.LIMITS, "image", 2000)
    asked: list[int] = []
    reads = byte_sources.FileSource.read
    monkeypatch.setattr(
        byte_sources.FileSource,
        "read",
        lambda self, count: asked.append(count) or reads(self, count),
    )

    _, items = read_all(url, images=True)

    assert [getattr(i, "reason", "") for i in items] == ["member_too_large", ""]
    assert max(n for n in asked if n != byte_sources.SKIP_BYTES) <= 512


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + b"\x7f" * 11, b"\xff" * 12])
def test_a_header_may_claim_any_size(tmp_path: Path, size: bytes) -> None:
    block = bytearray(tar_bytes(PAIRS[:1])[:512])
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)

    index, items = read_all(write(tmp_path / "a.tar", bytes(block) + b"x" * 600), images=True)

    assert index.problem
    assert all(isinstance(i, Reject) for i in items)


def test_a_gzip_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_sources, "INFLATION_FREE_BYTES", 1 << 20)
    url = write(
        tmp_path / "a.tar.gz", gzip.compress(tar_bytes([*PAIRS, ("z.bin", bytes(1 << 24))]))
    )
    index, items = read_all(url)
    assert "inflates more than 100-fold" in (index.problem or "")
    assert len(items) == 5
    assert items[-1].reason == "half_sample"


ODD = [
    (tarfile.SYMTYPE, "symbolic_link"),
    (tarfile.LNKTYPE, "hard_link"),
    (tarfile.CHRTYPE, "device"),
    (tarfile.BLKTYPE, "device"),
    (tarfile.FIFOTYPE, "named_pipe"),
    (b"M", "unknown_member"),
    (b"Q", "unknown_member"),
]


def odd_tar(members: list[tuple[str, bytes, int]]) -> bytes:
    """Return a tar of members by name, type and the size that the header states."""
    buffer = io.BytesIO()
    for name, kind, size in members:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, "/etc/passwd", size
        buffer.write(info.tobuf(tarfile.GNU_FORMAT))
        if kind not in tar._WITHOUT_PAYLOAD:
            buffer.write(b"x" * size + bytes(-size % 512))
    return buffer.getvalue() + bytes(1024)


@pytest.mark.parametrize("stated", [0, 700])
@pytest.mark.parametrize(("kind", "reason"), ODD)
def test_what_is_no_regular_file_is_a_reject_with_its_own_reason(
    tmp_path: Path, kind: bytes, reason: str, stated: int
) -> None:
    content = odd_tar(
        [("a.txt", b"0", 3), ("b.txt", kind, stated), ("c.txt", b"0", 3), ("c.jpg", kind, stated),
         ("d.bin", kind, stated), ("e.txt", b"0", 3), ("e.bin", kind, stated)]
    )  # fmt: skip
    for chunk_size in (1, 2, 9):
        index, items = read_all(write(tmp_path / "a.tar", content), chunk_size)
        assert index.problem is None
        assert [(i.key, getattr(i, "reason", "")) for i in items] == [
            ("a", ""), ("b", reason), ("c", reason), ("d", reason), ("e", ""),
        ]  # fmt: skip
        assert items[1].detail.startswith("member 'b.txt' is ")


def test_folders_and_labels_are_no_rejects_and_contiguous_files_are_read(tmp_path: Path) -> None:
    content = odd_tar(
        [("label", b"V", 0), ("folder.txt", tarfile.DIRTYPE, 4096), ("names.txt", b"D", 600),
         ("../../etc/x.txt", tarfile.CONTTYPE, 1)]
    )  # fmt: skip
    index, items = read_all(write(tmp_path / "a.tar", content), images=True)
    assert index.problem is None
    assert items == [Caption(str(tmp_path / "a.tar"), "../../etc/x", "x")]


@pytest.mark.parametrize(
    "options", ["--format=gnu", "--format=posix", "--format=posix --sparse-version=0.0",
                "--format=posix --sparse-version=0.1"]
)  # fmt: skip
def test_a_sparse_file_is_a_reject_and_what_follows_is_read(tmp_path: Path, options: str) -> None:
    with (tmp_path / "b.json").open("wb") as file:
        for hole in range(60):  # more than fit into one header
            file.seek(hole * 131072)
            file.write(b"x" * 4096)
        file.truncate(60 * 131072)
    for name in ("a.txt", "c.txt"):
        (tmp_path / name).write_text("words")
    path = tmp_path / "s.tar"
    pack = ["tar", "-S", *options.split(), "-cf", path, "a.txt", "b.json", "c.txt"]
    subprocess.run(pack, cwd=tmp_path, check=True)
    assert path.stat().st_size < 1_000_000
    index, items = read_all(str(path), images=True)
    assert index.problem is None
    assert [(i.key, getattr(i, "reason", "")) for i in items] == [
        ("a", ""), ("b", "sparse_member"), ("c", ""),
    ]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["txt", "jpg", "json", "bin"]),
                          st.sampled_from([b"0", b"7", b"5", b"S", b"V", *(k for k, _ in ODD)])),
                min_size=1, max_size=8, unique_by=lambda member: member[:2]))  # fmt: skip
def test_no_member_vanishes_whatever_its_type(
    tmp_path: Path, members: list[tuple[str, str, bytes]]
) -> None:
    members.sort()
    content = odd_tar([(f"{key}.{extension}", kind, 2) for key, extension, kind in members])
    _, items = read_all(write(tmp_path / "a.tar", content))
    there = {key for key, _, kind in members if kind not in (b"5", b"V")}
    assert [item.key for item in items] == sorted(there)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(0, 7 * 1024), st.binary(min_size=1, max_size=12)), max_size=3),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_damage_anywhere_never_crashes_and_never_miscounts(
    tmp_path: Path, damage: list[tuple[int, bytes]], format: int
) -> None:
    members = [("é" * 90 + ".txt", b"x"), ("b.txt", b"y" * 700), ("c.json", b'{"text": "z"}')]
    content = bytearray(tar_bytes(members, format))
    for at, noise in damage:
        content[at : at + len(noise)] = noise

    _, items = read_all(write(tmp_path / "a.tar", bytes(content)), chunk_size=1)

    for item in items:
        item.key.encode()


class _Bomb:
    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (str(Path(os.environ["BOMB"])),)


def test_a_pickle_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    bomb = pickle.dumps(_Bomb())
    members = [("a.pkl", bomb), ("a.pyd", bomb), ("a.pth", bomb), ("a.txt", bomb), ("b.txt", b"b")]
    _, items = read_all(write(tmp_path / "a.tar", tar_bytes(members)), images=True)
    assert [i.key for i in items] == ["a", "b"]
    assert not (tmp_path / "exploded").exists()


def test_names_that_are_not_utf8_can_be_stored(tmp_path: Path) -> None:
    content = tar_bytes([("caf_.txt", b"x"), ("b.txt", b"y")]).replace(b"caf_", b"caf\xe9", 1)
    block = bytearray(content[:512])
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    _, items = read_all(write(tmp_path / "a.tar", bytes(block) + content[512:]))
    assert items[0].key == r"caf\xe9"


def test_a_shard_that_changed_is_an_error_not_other_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    shard = shards.stat(write(path, tar_bytes(PAIRS)))
    chunk = shards.index(shard, 2).chunks[1]
    write(path, tar_bytes(PAIRS[:4]))
    with pytest.raises(ShardError, match=r".*changed since it was listed"):
        shards.index(shard, 2)
    with pytest.raises(ShardError, match=r".*changed since it was listed"):
        list(shards.read(chunk, images=False))
    now = shards.stat(str(path))
    with pytest.raises(ShardError, match=r".*gave 1 of the 2 samples of chunk 0"):
        list(shards.read(Chunk(now, 0, 2048, 2), images=False))
    with pytest.raises(ShardError, match=r".*cannot be read"):
        shards.stat(str(tmp_path / "no.tar"))
    with pytest.raises(ShardError, match=r".*not a regular file"):
        shards.stat(str(tmp_path))


def test_a_shard_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    members = [(f"{i}.txt", b"x" * 60_000) for i in range(20)]
    chunk = shards.index(shards.stat(write(path, tar_bytes(members))), 100).chunks[0]
    reading = shards.read(chunk, images=False)
    next(reading)
    os.truncate(path, 200_000)
    with pytest.raises(ShardError, match=r".*ends at byte 200000"):
        list(reading)


def test_chunk_names_are_file_names() -> None:
    shard = Shard("https://x.org/a b/Ünsafe;$(rm) 0.v1.tar.gz?token=../..", 1, "")
    assert Chunk(shard, 7, 0, 1).name == f"nsafe_rm_0.v1-{shard.id}-00007"
    assert Chunk(Shard("/" + "x" * 200 + ".tar", 1, ""), 0, 0, 1).name.startswith("x" * 60 + "-")
    assert Chunk(Shard("/....tar", 1, ""), 0, 0, 1).name.startswith("shard-")
    assert Shard("a", 1, "").id != Shard("a", 2, "").id != Shard("a", 2, "e").id


class _Ranged(http.server.SimpleHTTPRequestHandler):
    """Serves byte ranges, as real stores do."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.exists():
            self.send_error(404)
            return
        content = path.read_bytes()
        low, _, high = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = content[int(low) : int(high) + 1 if high else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {low}-{int(low) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class _Plain(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(params=[_Ranged, _Plain])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(request.param, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


class _Ipv6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def test_shards_are_read_from_an_ipv6_address(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    write(tmp_path / "a.tar", tar_bytes([("1.txt", b"one"), ("2.txt", b"two")]))
    handler = functools.partial(_Ranged, directory=str(tmp_path))
    try:
        server = _Ipv6(("::1", 0), handler)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        (url,) = shards.expand([f"http://[::1]:{running.server_port}/a.tar"])
        index, items = read_all(url)
        running.shutdown()
    assert index.problem is None
    assert [item.text for item in items] == ["one", "two"]


def test_shards_are_read_from_a_web_server(server: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    members = [
        m for i in range(150) for m in ((f"{i}.txt", b"a%d" % i), (f"{i}.jpg", b"x" * 60_000))
    ]
    write(tmp_path / "a.tar", tar_bytes(members))

    index, items = read_all(f"{server}/a.tar", chunk_size=60)

    assert index.problem is None
    assert [i.text for i in items] == [f"a{i}" for i in range(150)]
    assert index.shard.etag
    with pytest.raises(ShardError, match=r".*cannot be read"):
        shards.stat(f"{server}/missing.tar")


def test_a_shell_command_is_refused_at_every_door(tmp_path: Path) -> None:
    url = f"pipe:touch {tmp_path}/ran"
    with pytest.raises(ConfigError, match=r"shards are opened from local paths"):
        expansion.expand([url])
    with pytest.raises(ConfigError):
        shards.stat(url)
    with pytest.raises(ConfigError):
        shards.index(Shard(url, 1, ""), 1)
    assert not (tmp_path / "ran").exists()


def test_one_image_can_be_had_by_key_and_a_missing_one_is_none(tmp_path):
    path = tmp_path / "a.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for i in range(5):
            writer.write({"__key__": f"k{i}", "png": bytes([i]) * 9, "txt": b"words"})
        writer.write({"__key__": "bare", "txt": b"words"})
    assert shards.image(str(path), "k3") == b"\x03" * 9
    assert shards.image(str(path), "bare") is None
    assert shards.image(str(path), "other") is None
    assert shards.image(str(tmp_path / "missing.tar"), "k3") is None


@given(st.text("ab./\n é", max_size=12))
@example("a.b/c.d.txt")
@example("a/.hidden")
def test_names_are_split_as_webdataset_splits_them(name):
    split = limits._SAMPLE.fullmatch(name)
    ours = (None, None) if split is None else (split["key"], split["extension"])
    assert ours == base_plus_ext(name)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1,
                 max_size=60),
    folder=st.sampled_from(["", "f/", "f" * 90 + "/"]), size=st.integers(0, 2**32),
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE]),
    flip=st.none() | st.tuples(st.integers(0, 511), st.integers(1, 255)),
)  # fmt: skip
def test_a_plain_header_says_what_tarfile_makes_of_it(format, name, folder, size, kind, flip):
    member = tarfile.TarInfo(folder + name)
    member.size, member.type, member.mtime = size, kind, 1_700_000_000
    try:
        block = bytearray(member.tobuf(format, "utf-8", "surrogateescape")[-512:])
    except ValueError:  # the name is too long for the format
        return
    if flip is not None:
        block[flip[0]] ^= flip[1]
    found = tar._plain(bytes(block))
    if flip is None and kind == tarfile.REGTYPE and size < 8**11:
        assert found is not None
    if found is not None:
        assert found == tar._header_of(bytes(block))

"""Local files are written in one place, whole or not at all."""

import ast
import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scanner import files
from scanner.errors import ConfigError, OutputError

PACKAGE = Path(__file__).parents[1] / "scanner"
WRITERS = {
    "write_text", "write_bytes", "mkdir", "touch", "hardlink_to", "symlink_to", "rename",
    "NamedTemporaryFile", "mkstemp", "copyfile", "copy2", "move", "to_csv",
}  # fmt: skip
TAKE_A_STREAM = {"save": 0, "savefig": 0, "ParquetWriter": 0, "TarWriter": 0, "write_table": 1}
"""Functions that write to a path or to a stream, and at which argument it stands."""
STREAMS = {"stream", "sink", "self._sink", "out"}
"""Names that the package has for streams of `scanner.files` or in memory."""
WRITES_BY_ITSELF = {
    "calibration.save", "fitted.save", "checkpoint.save", "lora.save", "save",
    "self._writer.write_table",
}  # fmt: skip
"""Functions of the package, which use `scanner.files`, and a Parquet writer on a stream."""


def leftovers(folder):
    return [p.name for p in folder.rglob("*") if p.name.endswith((".tmp", ".partial", ".old"))]


def half(path):
    with files.text(path) as stream:
        stream.write("half")
        raise RuntimeError("the rest cannot be made")


def half_by_path(path):
    with files.replaced(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("the rest cannot be made")


def half_a_folder(path):
    with files.folder(path) as partial:
        (partial / "three").write_text("three")
        raise RuntimeError("the rest cannot be made")


def test_a_file_is_written_with_its_folder_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    for content in ("text: Δ", b"bytes", memoryview(b"a view")):
        files.write(path, content)
        expected = content.encode() if isinstance(content, str) else bytes(content)
        assert path.read_bytes() == expected
    with files.replaced(path) as temporary:
        temporary.write_text("by path")
        assert path.read_bytes() == b"a view"
    assert path.read_text() == "by path"
    with files.text(path) as stream:
        stream.write("one\r\ntwo\n")
    assert path.read_bytes() == b"one\r\ntwo\n"
    assert not leftovers(tmp_path)


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="the rest"):
        half(path)
    with pytest.raises(RuntimeError, match="the rest"):
        half_by_path(path)
    assert path.read_text() == "before"
    with pytest.raises(RuntimeError, match="the rest"):
        half(tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_killed_writer_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    code = (
        "import os, sys; from scanner import files\n"
        "with files.text(sys.argv[1]) as stream:\n"
        "    stream.write('x' * 100_000); stream.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "before"


def test_content_and_names_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    flushed, renamed = [], []
    real, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync",
        lambda fd: (flushed.append((Path(f"/proc/self/fd/{fd}").resolve(), len(renamed))),
                    real(fd))[-1],
    )  # fmt: skip
    monkeypatch.setattr(Path, "replace", lambda *a: (renamed.append(a), replace(*a))[-1])
    files.write(tmp_path / "new" / "file", b"x")
    with files.replaced(tmp_path / "new" / "other") as temporary:
        temporary.write_bytes(b"y")
    names = [(path.suffix or path.name, after) for path, after in flushed]
    assert names == [
        (tmp_path.name, 0), (".tmp", 0), ("new", 1), (".tmp", 1), ("new", 2),
    ]  # fmt: skip


def test_new_files_follow_the_umask_and_old_ones_keep_their_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "new", "x")
        (tmp_path / "old").write_text("x")
        (tmp_path / "old").chmod(0o604)
        files.write(tmp_path / "old", "y")
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == {"new": 0o640, "old": 0o604}


def test_a_link_stays_a_link_and_a_long_name_has_room_for_the_temporary_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    files.write(tmp_path / "link", "x")
    files.write(tmp_path / "link", "y")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == "y"
    files.write(tmp_path / ("é" * 120), "z")
    assert not leftovers(tmp_path)


def test_of_all_who_create_a_name_one_succeeds(tmp_path):
    won = []
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        if files.create(tmp_path / "name", str(number)):
            won.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "name").read_text() == str(won[0])
    assert len(won) == 1
    assert not leftovers(tmp_path)


def test_a_folder_takes_the_place_of_an_earlier_one_or_leaves_it(tmp_path):
    target = tmp_path / "above" / "folder"
    for content in ("one", "two"):
        with files.folder(target) as partial:
            (partial / content).write_text(content)
    with pytest.raises(RuntimeError, match="the rest"):
        half_a_folder(target)
    assert [p.name for p in target.iterdir()] == ["two"]
    assert not leftovers(tmp_path)


def test_devices_pipes_and_descriptors_are_written_to_directly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (
        lambda: files.write(pipe, "text"),
        lambda: by_path(pipe),
    ):
        got = []
        reader = threading.Thread(target=lambda got=got: got.append(pipe.read_text()))
        reader.start()
        write()
        reader.join()
        assert got == ["text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    files.write("/dev/null", "text")
    assert Path("/dev/null").is_char_device()
    code = "from scanner import files; print('a'); files.write('/dev/stdout', 'b\\n'); print('c')"
    log = tmp_path / "log"
    with log.open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert log.read_text() == "a\nb\nc\n"


def by_path(target):
    with files.replaced(target) as temporary:
        temporary.write_text("text")


@pytest.mark.parametrize("write", [lambda p: files.write(p, "x" * 99_999), by_path])
def test_a_full_disk_and_a_folder_are_errors_with_a_line_that_helps(tmp_path, write):
    with pytest.raises(OutputError, match=r"^/dev/full cannot be written: No space left .*room"):
        write(Path("/dev/full"))
    with pytest.raises(OutputError, match=r"cannot be written: Is a directory"):
        write(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written: "):
        write(tmp_path / "file" / "below")


def test_what_is_known_to_be_unwritable_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for path, said in (
        (tmp_path, "is a folder: name a file"),
        (tmp_path / "file" / "below" / "x", "is a file, not a folder"),
        (tmp_path / ("x" * 300), "File name too long: choose a shorter name"),
        (Path("/proc/nothing"), "cannot be written"),
        (Path("s3:/bucket/x"), "is an address: name a local path"),
    ):
        with pytest.raises(ConfigError, match=f"--out .*{said}"):
            files.check_file(path, "--out")
    for path, said in (
        (tmp_path / "file", "is a file: name a folder"),
        (tmp_path / "file" / "below", "is a file, not a folder"),
        (Path("/proc/nothing"), "cannot be written"),
        ("s3://bucket/x", "is an address: name a local path"),
    ):
        with pytest.raises(ConfigError, match=f"--out .*{said}"):
            files.check_folder(path, "--out")
    files.check_file(tmp_path / "file", "--out")
    files.check_file(tmp_path / "a" / "b", "--out")
    files.check_folder(tmp_path / "a" / "b", "--out")
    files.check_file(Path("/dev/stdout"), "--out")
    files.check_file(Path("/dev/null"), "--out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    for number, said in ((errno.EROFS, "read-only: name another"), (errno.ENOSPC, "make room")):

        def fails(fd, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(ConfigError, match=said):
            files.check_file(tmp_path / "file", "--out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_without_permission_is_refused_and_kept(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    path.chmod(0o444)
    with pytest.raises(ConfigError, match="Permission denied: name a place"):
        files.check_file(path, "--out")
    with pytest.raises(OutputError, match="Permission denied"):
        files.write(path, "y")


def test_no_other_module_opens_a_file_for_writing():
    found = [
        f"{module.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node)}"
        for module in sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "files.py"})
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _writes(node)
    ]
    assert not found, "write through scanner.files: " + "; ".join(found)


def _writes(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    called = ast.unparse(call.func)
    if called == "torch.save":
        return ast.unparse(call.args[1]) not in STREAMS
    if called in WRITES_BY_ITSELF:
        return False
    if name in {"open", "fdopen"}:
        given = [*call.args, *(k.value for k in call.keywords if k.arg == "mode")]
        if any(k.arg == "fileobj" and ast.unparse(k.value) in STREAMS for k in call.keywords):
            return False
        texts = [value.value for value in given if isinstance(value, ast.Constant)]
        if called == "os.open":
            return "O_RDONLY" not in ast.unparse(call.args[1])
        return any(_is_writing_mode(text) for text in texts)
    if name in TAKE_A_STREAM:
        at = TAKE_A_STREAM[name]
        return len(call.args) <= at or ast.unparse(call.args[at]) not in STREAMS
    is_method = isinstance(call.func, ast.Attribute)
    if name == "replace":  # a path's has one argument, a text's two
        return is_method and len(call.args) == 1 and not call.keywords
    return is_method and name in WRITERS


def _is_writing_mode(text):
    return isinstance(text, str) and set(text) <= set("rwaxbt+") and bool(set(text) & set("wax+"))


@pytest.mark.parametrize(
    "code",
    [
        "path.write_text('x')", "path.open('w')", "open(path, mode='ab')", "os.open(path, 0)",
        "image.save(path)", "figure.savefig(path, dpi=1)", "pq.write_table(table, path)",
        "partial.replace(path)", "folder.mkdir(parents=True)", "TarWriter(str(path))",
    ],
)  # fmt: skip
def test_the_search_for_writers_finds_them(code):
    assert _writes(ast.parse(code).body[0].value)

"""Marks: no line is lost, whoever writes and whatever a crash left."""

import json
import subprocess
import sys

import pytest

from scanner import files
from scanner.errors import ConfigError, OutputError
from scanner.serve.marks import Marks

ID = "0" * 64


def test_the_last_line_counts_and_all_are_kept(tmp_path):
    marks = Marks(tmp_path / "marks.jsonl")
    assert marks.current() == {}
    marks.add(ID, "confirmed", "seen it", "ann", "r1")
    marks.add(ID, "false", "looked again", "bo", "r1")
    assert marks.current() == {ID: "false"}
    assert [each.name for each in marks.history()[ID]] == ["ann", "bo"]
    marks.add(ID, "", "no idea", "ann", "r1")
    assert (marks.current(), len(marks.history()[ID])) == ({}, 3)
    assert Marks(tmp_path / "marks.jsonl").history() == marks.history()


def test_writers_in_several_processes_lose_no_line(tmp_path):
    path = tmp_path / "marks.jsonl"
    code = (
        "import sys; from pathlib import Path; from scanner.serve.marks import Marks; "
        "marks = Marks(Path(sys.argv[1]))\n"
        "for n in range(60): marks.add(sys.argv[2] * 64, 'false', 'why ' * 200, str(n), 'r')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    history = Marks(path).history()
    assert {id[0]: [int(each.name) for each in lines] for id, lines in history.items()} == {
        str(n): list(range(60)) for n in range(4)
    }


def test_what_a_crash_left_of_a_line_harms_no_other(tmp_path):
    path = tmp_path / "marks.jsonl"
    marks = Marks(path)
    marks.add(ID, "confirmed", "seen it", "ann", "r1")
    path.write_bytes(path.read_bytes() + b'{"finding": "11')
    marks.add("2" * 64, "licensed", "a photo we bought", "ann", "r1")
    assert marks.current() == {ID: "confirmed", "2" * 64: "licensed"}


def test_lines_that_are_no_marks_are_passed_over(tmp_path):
    path = tmp_path / "marks.jsonl"
    lines = ["", "[]", "null", "{}", "[" * 100_000, '"\\ud800"', json.dumps({"finding": ID})]
    path.write_text("\n".join(lines))
    assert Marks(path).current() == {}


@pytest.mark.parametrize(
    ("mark", "reason", "name", "said"),
    [("maybe", "x", "ann", "must be one of"), ("false", " ", "ann", "must say why"),
     ("false", "x", "\u202e", "who says so"), ("false", "x" * 2000, "ann", "must say why")],
)  # fmt: skip
def test_a_mark_says_what_why_and_who(tmp_path, mark, reason, name, said):
    with pytest.raises(ConfigError, match=said):
        Marks(tmp_path / "marks.jsonl").add(ID, mark, reason, name, "r1")
    assert not (tmp_path / "marks.jsonl").exists()


def test_without_a_place_it_says_where_marks_could_go():
    with pytest.raises(ConfigError, match="--marks FILE"):
        Marks(None).add(ID, "false", "x", "ann", "r1")


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        files.append_line("/dev/full", "x")
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        files.append_line(tmp_path / "a", "x")

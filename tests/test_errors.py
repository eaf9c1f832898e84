"""The text of an exception that a row can hold: the same in every process."""

import re
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from scanner import pictures
from scanner.errors import reproducible
from scanner.records import Caption, Reject
from scanner.scan.sources import prepared

PICTURES = [
    b"", b"GIF89a" + bytes(30), b"\xff\xd8\xff\xe0" + bytes(60), b"\x89PNG\r\n\x1a\n" + bytes(60),
    b"RIFF\x10\0\0\0WEBPVP8 " + bytes(40), b"<html>",
]  # fmt: skip


class Thing:
    """Its representation holds its address."""


def test_addresses_processes_and_temporary_files_are_left_out():
    said = f"cannot read {Thing()!r} in {object()} of 0x7f00deadbeef"
    assert "0x7" not in reproducible(ValueError(said))
    text = "ray::Worker.scan() (pid=4211, ip=10.0.0.7, actor_id=01ab, repr=<a.B object at 0x7fa1>)"
    assert reproducible(text) == (
        "ray::Worker.scan() (pid=..., ip=..., actor_id=..., repr=<a.B object>)"
    )
    assert reproducible("no room in '/tmp/ray/session_1/x.log'") == "no room in '/tmp/...'"
    assert reproducible(KeyError()) == "KeyError"
    assert reproducible("60000 x 60000 pixels, byte 17 of shard a.tar") == (
        "60000 x 60000 pixels, byte 17 of shard a.tar"
    )


@settings(deadline=None)
@given(st.text(), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.text())
def test_two_texts_that_differ_in_addresses_alone_become_one(before, one, other, after):
    first, second = (f"{before}<a.B object at {n:#x}>{after}" for n in (one, other))
    assert reproducible(first) == reproducible(second)


@settings(deadline=None)
@given(st.sampled_from(PICTURES), st.binary(max_size=40))
def test_a_reject_of_an_image_is_the_same_each_time(start, rest):
    caption = Caption("a.tar", "k", "words", image=start + rest)
    first, second = (prepared(caption, "image", (8, 8)) for _ in range(2))
    assert first == second
    if isinstance(first, Reject):
        assert not re.search(r"0x[0-9a-f]{4}", first.detail)


def test_another_process_says_the_same_of_an_image():
    code = f"""
from scanner import pictures
for content in {PICTURES!r}:
    try:
        pictures.opened(content)
    except ValueError as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = []
    for content in PICTURES:
        try:
            pictures.opened(content)
        except ValueError as error:
            here.append(str(error))
    assert said.stdout.splitlines() == here
    assert len(here) == len(PICTURES)

"""The page of paper: one page, the same bytes, harmless whatever captions hold."""

import re
import shutil
import subprocess
import warnings
from dataclasses import replace

import pytest
from made_results import commit, jpeg, mask, score
from test_page import HOSTILE, PATTERN, training

from scanner.report.banner import WORDS, Banner
from scanner.report.items import RowMark
from scanner.report.page import Content, PageOptions, Remarks, content
from scanner.report.paper import TONES, as_pdf
from scanner.report.trend import Night, told
from scanner.text import printable

needs_poppler = pytest.mark.skipif(not shutil.which("pdftotext"), reason="no pdftotext here")
LETTERS = {
    "Cyrillic": "\u0441\u0442\u0430\u0440\u044b\u0439 \u043c\u043e\u0441\u0442",
    "Greek": "\u03b3\u03ad\u03c6\u03c5\u03c1\u03b1",
    "Han": "\u91d1\u9580\u6a4b",
    "emoji": "\U0001f309",
    "formula": "$\\frac{1}{0$ 100% _a_ \\input{/etc/passwd}",
    "parentheses": ")) Tj ET endstream ((",
}


def shown(make, texts, options=None, remarks=None) -> Content:
    results = make()
    rows = [
        score(text, 90.0 - n, key=f"k{n}", flagged=True, p_value=0.01, stage="localize")
        for n, text in enumerate(texts)
    ]
    maps = [
        mask(text, PATTERN, threshold=1.0, image=jpeg(), key=f"k{n}")
        for n, text in enumerate(texts)
    ]
    commit(results, "r1", rows, maps)
    return content(results, "r1", options or PageOptions(images=training), remarks=remarks)


def text_of(pdf: bytes) -> str:
    done = subprocess.run(["pdftotext", "-layout", "-", "-"], input=pdf, capture_output=True)
    assert done.returncode == 0
    assert done.stderr == b""
    return done.stdout.decode()


def pages_in(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


@needs_poppler
@pytest.mark.parametrize("captions", [HOSTILE, list(LETTERS.values()), []])
def test_whatever_captions_hold_it_is_one_page_without_a_warning(make, captions):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdf = as_pdf(shown(make, captions))
    assert pages_in(pdf) == 1
    said = text_of(pdf)
    assert said.count("\f") == 1
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00\x1b]", said)
    assert ("FOUND" if captions else "INCOMPLETE") in said
    assert "No finding." in said or captions
    assert b"/JavaScript" not in pdf
    assert b"/URI" not in pdf
    assert b"/Launch" not in pdf


@needs_poppler
def test_letters_of_a_font_can_be_searched_and_formulas_stand_as_they_are(make):
    said = text_of(as_pdf(shown(make, list(LETTERS.values()))))
    for name in ("Cyrillic", "Greek", "formula", "parentheses"):
        assert printable(LETTERS[name]) in said, name


def test_the_same_run_gives_the_same_bytes_without_a_date_of_its_own(make):
    found = shown(make, ["one", "two"])
    first = as_pdf(found)
    assert first == as_pdf(found)
    assert b"CreationDate" not in first
    assert b"ModDate" not in first
    assert len(first) < 2**20


@needs_poppler
def test_captions_and_pictures_can_be_left_out(make):
    whole = as_pdf(shown(make, ["a secret place", "another"]))
    hidden = as_pdf(shown(lambda: make("other"), ["a secret place"], PageOptions(redact=True)))
    assert "a secret place" in text_of(whole)
    assert "a secret place" not in text_of(hidden)
    assert "caption withheld" in text_of(hidden)
    assert whole.count(b"/Subtype /Image") == 6
    assert hidden.count(b"/Subtype /Image") == 0


@needs_poppler
def test_an_audit_is_told_with_its_nights_policy_and_what_is_missing(make):
    nights = [Night("2026-01-05", 3, 3, 0.4), Night("2026-01-06", 5, 2, 1.0)]
    found = shown(make, [f"caption of kind {n}" * (n + 1) for n in range(9)])
    names = [finding.identity for finding in found.found]
    marks = {
        name: RowMark("new", "", "critical", alarms=n == 0) for n, name in enumerate(names)
    } | {names[1]: RowMark("resolved", "removed")}
    remarks = Remarks(
        banner=Banner("ALARM", "1 new finding: 1 verbatim copy"), alarms=1, nights=nights,
        share=("40%", "of the captions scanned"), date="2026-01-06 03:00 UTC", marks=marks,
        notes=[f"Missing: s3://b/{n}.tar: gone" for n in range(9)],
        stamps=[("exit code", "1, alarm"), ("policy", "new findings alarm " * 30)],
    )  # fmt: skip
    found = shown(lambda: make("audit"), [f"caption of kind {n}" * (n + 1) for n in range(9)],
                  remarks=remarks)  # fmt: skip
    pdf = as_pdf(found)
    said = text_of(pdf)
    assert pages_in(pdf) == 1
    for part in ("ALARM", "1 new finding: 1 verbatim copy", "Findings per night", "40%",
                 "and 7 more notes", "ALARM, critical, new, by score alone", "1, alarm",
                 "new findings alarm", "4 more in the report", "2026-01-06 03:00 UTC"):  # fmt: skip
        assert part in said, part
    assert "findings 3, 5; new ones 3, 2; scanned, where a budget was set, 40%, 100%" in told(
        nights
    )


def test_every_word_has_its_colour():
    assert set(WORDS.values()) == set(TONES)


@needs_poppler
@pytest.mark.parametrize("word", WORDS)
def test_every_verdict_fits(make, word):
    why = "12,345 new and 6,789 worse findings of severity medium or worse: " + "9 copies, " * 30
    found = replace(shown(make, ["one"]), banner=Banner(word, why))
    assert word in text_of(as_pdf(found))

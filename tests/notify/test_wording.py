"""Messages for people: what they say, and what no corpus can make them say."""

import re

import pytest
from told import VILE, outcome, top

from scanner.notify.wording import body, harmless, line, title


def test_a_message_says_what_happened_what_is_worst_and_where_it_is():
    worst = top(1, "critical", match="verbatim", p_value=0.00012, copies=3, key="a000")
    found = outcome(findings=(worst, top(2)), left_out=4, missing=("/data/b.tar: cut short",))
    assert title(found) == "memscan audit 000002-2026-01-02: ALARM"
    assert body(found).splitlines() == [
        "1 new finding.",
        "Audit: 1 new, 1 alarms.",
        "Findings by severity: 1 low.",
        "1. critical, new: verbatim copy, p 0.00012, 3 copies in the corpus, key a000, finding "
        "000000000000",
        "2. low, new: score alone, p 0.01, 1 copy in the corpus, key k2, finding 000000000000",
        "And 4 more.",
        "Missing: ·data/b·tar: cut short",
        "Model gaussian, run r1.",
        "Results: /state/audits/000002-2026-01-02",
    ]


def test_what_was_drawn_again_is_said_in_place_of_match_and_p_value():
    drawn = top(1, "high", match="verbatim", level="copied", known="given back in 18 of 20 draws")
    assert line(drawn).startswith(
        "high, new: copied, given back in 18 of 20 draws, 1 copy in the corpus, key k1"
    )
    assert "suspected" not in line(top(1, level="suspected"))


def test_a_link_takes_the_place_of_the_path():
    assert body(outcome(link="https://ci.example/report.html")).endswith(
        "\nReport: https://ci.example/report.html"
    )


def test_a_policy_leaves_out_what_is_not_severe_and_what_is_too_much():
    found = outcome(findings=(*(top(n, "high") for n in range(5)), top(9)))
    said = body(found, least=("critical", "high"), most=2)
    assert said.count(". high") == 2
    assert "And 3 more." in said
    assert ". low" not in said


@pytest.mark.parametrize("where", ["caption", "key"])
def test_no_text_of_a_corpus_mentions_links_formats_or_steers(where):
    said = line(top(**{where: VILE}))
    assert not set("@<>`*[]_~|#\\&") & set(said)
    assert "://" not in said
    assert ":tada" not in said
    assert said.isprintable()


def test_an_error_that_names_files_is_as_harmless():
    assert "@" not in body(outcome("FAILED", why="/data/@all.tar cannot be read"))


def test_harmless_text_stays_as_it_is_in_any_script():
    for text in (
        "two blue stars, 50% off (really)!",
        "ein Bär – nein, drei Bären"[:7],
        "नमस्ते",
        "猫の絵",
    ):
        assert harmless(text) == text


def test_a_domain_is_no_link_and_a_key_can_be_read():
    assert harmless("see evil.example now.") == "see evil·example now."
    assert harmless("part-0/img_0001") == "part-0/img_0001"


def test_long_and_heaped_up_texts_are_cut():
    assert len(harmless("x" * 10**6)) == 80
    assert len(harmless("e" + "\u0301" * 10**5)) < 10
    assert len(harmless("猫" * 1000)) <= 40
    assert not re.search(r"\s{2}", harmless("a" * 79 + " " * 10))

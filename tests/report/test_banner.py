"""The banner of a plain scan: every word and every sentence."""

import pytest

from scanner.report.banner import WORDS, of_scan


@pytest.mark.parametrize(
    ("banner", "word", "why"),
    [
        (of_scan(1200, ["verbatim", "template", None], 0, by_rule=True), "FOUND",
         "3 of 1,200 captions flagged: 1 verbatim copy, 1 template copy, 1 by score alone"),
        (of_scan(9, ["none"], 1, by_rule=True), "FOUND",
         "1 of 9 captions flagged: 1 by score alone; besides, 1 shard or chunk could not be "
         "scanned"),
        (of_scan(9, [], 2, by_rule=True), "INCOMPLETE",
         "2 shards or chunks could not be scanned; nothing is flagged"),
        (of_scan(0, [], 0, by_rule=True), "INCOMPLETE", "no caption was scored"),
        (of_scan(9, [], 0, by_rule=False), "NOTHING FLAGGED BY RULE",
         "scores only of 9 captions: no calibration or threshold flags"),
        (of_scan(9, [], 0, by_rule=True), "CLEAR", "none of 9 captions is flagged"),
    ],
)  # fmt: skip
def test_a_scan_is_a_word_and_a_sentence(banner, word, why):
    assert (banner.word, banner.why) == (word, why)
    assert banner.tone == WORDS[word]

"""The banner of an audit: every word and every sentence."""

import json
from dataclasses import replace

import pytest
from test_formats import VILE, alert, night

from scanner.nightly.formats import as_record
from scanner.nightly.policy import Policy

WHOLE = {"captions": 12400, "samples": 12400, "rejected": 0, "shards": 2}
NONE = {"added": [], "changed": [], "removed": [], "unreadable": []}
SHUT = NONE | {"unreadable": ["s3://b/1.tar", "s3://b/2.tar"]}
MISSING = [f"{url}: no such key" for url in SHUT["unreadable"]]
SEVERE = Policy(least="high").as_json()


def worse(one):
    return replace(one, change=replace(one.change, state="worse"), alarms=True)


@pytest.mark.parametrize(
    ("found", "word", "why"),
    [
        (night([alert(1, match="verbatim"), alert(2, match="verbatim"), alert(3, match="template")],
               policy=SEVERE),
         "ALARM", "3 new findings of severity high or worse: 2 verbatim copies, 1 template copy"),
        (night([alert(1)], policy=Policy(least="critical").as_json()),
         "ALARM", "1 new finding of severity critical: 1 by score alone"),
        (night([alert(1), worse(alert(2, "persisting", match="template"))]),
         "ALARM", "1 new and 1 worse findings: 1 template copy, 1 by score alone"),
        (night([alert(1)], incomplete=MISSING, shards=SHUT), "ALARM",
         "1 new finding: 1 by score alone; besides, 2 shards could not be read"),
        (night([alert(1)], partial="3 samples", coverage={"captions": 19, "scanned": 16}), "ALARM",
         "1 new finding: 1 by score alone; besides, a budget of 3 samples left the rest for later: "
         "16 of 19 captions scanned"),
        (night(incomplete=MISSING, shards=SHUT), "INCOMPLETE",
         "2 shards could not be read; no new finding"),
        (night([alert(1, "persisting")], incomplete=[*MISSING, "chunk 3 was given up: OOM"],
               shards=SHUT), "INCOMPLETE",
         "2 shards could not be read, 1 shard or chunk not scanned whole; "
         "no new finding, 1 known or muted"),
        (night(figures=WHOLE | {"captions": 0}), "INCOMPLETE",
         "no caption was ever scanned; no new finding"),
        (night(figures=WHOLE, partial="30 samples",
               coverage={"captions": 12400, "scanned": 300}), "PARTIAL",
         "no new finding; a budget of 30 samples left the rest for later: "
         "300 of 12,400 captions scanned"),
        (night(figures=WHOLE), "CLEAR", "no new finding; all 12,400 captions are scanned"),
        (night(figures=WHOLE | {"rejected": 3}), "CLEAR",
         "no new finding; all 12,400 captions are scanned, 3 samples rejected"),
        (night([alert(1, muted="ours"), alert(2, "resolved"), replace(alert(3), alarms=False)],
               figures=WHOLE, policy=SEVERE), "CLEAR",
         "1 new finding that the policy lets pass, 1 known or muted; "
         "all 12,400 captions are scanned"),
    ],
)  # fmt: skip
def test_a_night_is_a_word_and_a_sentence(found, word, why):
    assert (found.banner.word, found.banner.why) == (word, why)
    assert as_record(found)["banner"] == {"word": word, "why": why}
    assert found.banner.word == found.status.upper()


def test_a_banner_holds_nothing_of_captions_keys_and_addresses():
    found = night([alert(caption=VILE, muted="")], incomplete=[f"s3://secret/{VILE}: gone"])
    said = str(found.banner)
    assert said.isprintable()
    assert said.isascii()
    assert "secret" not in said
    assert "k<1>" not in said


def test_severities_are_counted_now_and_as_alarms():
    found = night([alert(1, severity="critical"), alert(2, "persisting", severity="critical"),
                   alert(3, "resolved", severity="high")])  # fmt: skip
    record = json.loads(json.dumps(as_record(found)))
    assert record["severities"]["critical"] == {"findings": 2, "alarms": 1}
    assert record["severities"]["high"] == {"findings": 0, "alarms": 0}

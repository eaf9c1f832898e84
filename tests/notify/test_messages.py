"""Who wants to know what, and that nobody is told twice."""

import json

import pytest
from told import outcome, top

from scanner.nightly.policy import NotifyRule
from scanner.notify.channels import Channel
from scanner.notify.messages import Messages, wanted
from scanner.notify.webhook import Webhook
from scanner.results import stores


@pytest.fixture
def said():
    return []


def messages(hooks, said, tmp_path, rule=None, webhook=False):
    people = [Channel(f"json://u:T0P@{hooks.address}/people{n}") for n in range(2)]
    programs = [Webhook(f"{hooks.url}/program?token=T0P")] if webhook else []
    store = stores.opened(tmp_path / "state")
    return Messages(people, programs, lambda text, bad: said.append((text, bad)), rule, store)


def test_people_hear_of_alarms_gaps_and_failures_and_not_of_quiet_nights():
    usual = NotifyRule()
    words = ("ALARM", "INCOMPLETE", "FAILED", "PARTIAL", "CLEAR", "INTERRUPTED")
    assert [w for w in words if wanted(outcome(w), usual)] == ["ALARM", "INCOMPLETE", "FAILED"]
    assert wanted(outcome("CLEAR"), NotifyRule(on=("clear",)))
    assert not wanted(outcome("ALARM"), NotifyRule(on=("clear",)))


def test_an_alarm_below_the_severity_is_not_told():
    rule = NotifyRule(severity="high")
    assert not wanted(outcome(findings=(top(severity="medium"),)), rule)
    assert wanted(outcome(findings=(top(severity="critical"), top(severity="low"))), rule)


def test_after_a_scan_people_hear_of_any_end_but_an_interruption():
    assert wanted(outcome("CLEAR", command="scan"), None)
    assert not wanted(outcome("INTERRUPTED", command="scan"), None)


def test_nobody_is_told_twice_and_another_word_or_audit_is_told(hooks, said, tmp_path):
    for told in (outcome("FAILED"), outcome("FAILED"), outcome(), outcome(),
                 outcome(name="000003-2026-01-03")):  # fmt: skip
        messages(hooks, said, tmp_path).finished(told, None)
    titles = [post.json()["title"] for post in hooks.taken("/people0")]
    assert titles == [
        "memscan audit 000002-2026-01-02: FAILED", "memscan audit 000002-2026-01-02: ALARM",
        "memscan audit 000003-2026-01-03: ALARM",
    ]  # fmt: skip
    assert len(hooks.taken("/people1")) == 3
    assert [bad for _, bad in said] == [False] * 3


def test_who_could_not_be_told_is_told_by_the_next_attempt_alone(hooks, said, tmp_path):
    hooks.answers = [403]
    messages(hooks, said, tmp_path).finished(outcome(), None)
    assert len(hooks.posts) == 2
    assert [text for text, bad in said if bad] == [
        f"{name} was not told that memscan audit 000002-2026-01-02: ALARM: HTTP status 403"
        for name in ("json", "json 2") if f"told {name}:" not in str(said)
    ]  # fmt: skip
    messages(hooks, said, tmp_path).finished(outcome(), None)
    assert len(hooks.posts) == 3
    first = [post.path for post in hooks.posts]
    assert sorted(first[:2]) == ["/people0", "/people1"]


def test_programs_hear_of_quiet_nights_too(hooks, said, tmp_path):
    quiet = outcome("CLEAR", findings=(), exit_code=0)
    messages(hooks, said, tmp_path, NotifyRule(), webhook=True).finished(quiet, None)
    assert [post.path for post in hooks.posts] == ["/program?token=T0P"]


def test_what_is_said_and_kept_holds_no_secret(hooks, said, tmp_path):
    hooks.answers = [500, 404]
    messages(hooks, said, tmp_path, webhook=True).finished(outcome(), None)
    kept = (tmp_path / "state" / "notified.json").read_text()
    assert "T0P" not in str(said) + kept
    assert json.loads(kept)["audit"] == "000002-2026-01-02"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"audit": "000002-2026-01-02", "told": [1]}',
        '{"audit": "000002-2026-01-02", "told": {"ALARM": 3}}',
    ],
)
def test_a_damaged_ledger_tells_again(hooks, said, tmp_path, content):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "notified.json").write_text(content)
    messages(hooks, said, tmp_path).finished(outcome(), None)
    assert len(hooks.posts) == 2


def test_a_ledger_that_cannot_be_written_is_one_line(hooks, said, tmp_path):
    (tmp_path / "state").write_text("a file")
    messages(hooks, said, tmp_path).finished(outcome(), None)
    assert [bad for _, bad in said] == [False, True]
    assert "may be told again" in said[-1][0]

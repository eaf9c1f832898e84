from dataclasses import replace

import pytest

from scanner.analysis.changes import Change
from scanner.analysis.findings import Finding
from scanner.errors import ConfigError
from scanner.nightly.policy import NotifyRule, Policy, in_words, load


def finding(match=None, p_value=0.5, copies=1):
    return Finding(
        caption_sha256="0" * 64,
        caption="c",
        delta_s=1.0,
        p_value=p_value,
        copies=copies,
        shard="a.tar",
        key="k",
        match=match,
    )


def test_a_proven_copy_outranks_a_template_and_both_a_score():
    usual = Policy()
    assert [usual.severity(finding(*args)) for args in (
        ("verbatim", 0.9), ("template", 1e-9), ("none", 0.001), (None, 0.002), (None, None),
    )] == ["critical", "high", "medium", "low", "low"]  # fmt: skip


def test_a_policy_file_replaces_what_it_names_and_keeps_the_rest(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text(
        '[alarm]\nseverity = "medium"\non = ["new", "worse"]\n'
        "[severity.medium]\np_value = 0.05\ncopies = 3\n"
    )
    policy = load(file)
    assert policy.severity(finding("verbatim")) == "critical"
    assert policy.severity(finding(p_value=0.05, copies=3)) == "medium"
    assert policy.severity(finding(p_value=0.05, copies=2)) == "low"
    assert policy.alarms(Change("worse", "", finding("verbatim"), finding("verbatim")))
    assert not policy.alarms(Change("new", "", None, finding()))


def test_a_rule_may_ask_for_a_level_of_evidence(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('[severity.critical]\nlevel = ["copied", "reproduced"]\np_value = 0.05\n')
    policy = load(file)
    assert policy.severity(replace(finding(p_value=0.05), level="copied")) == "critical"
    assert policy.severity(replace(finding(p_value=0.06), level="copied")) == "low"
    assert policy.severity(replace(finding(p_value=0.05), level="suspected")) == "low"
    assert policy.as_json()["rules"]["critical"]["level"] == ("copied", "reproduced")
    assert "level" not in policy.as_json()["rules"]["medium"]
    assert "critical: p ≤ 0.05 and copied or reproduced" in in_words(policy.as_json())
    file.write_text('[severity.critical]\nlevel = ["sure"]\n')
    with pytest.raises(ConfigError, match="not confirmed"):
        load(file)


def test_a_policy_says_of_which_nights_people_are_told(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text("[alarm]\n")
    assert load(file).notify == NotifyRule(("alarm", "incomplete", "failed"), "low", 10)
    file.write_text('[notify]\non = ["clear", "partial"]\nseverity = "high"\nmost = 0\n')
    assert load(file).notify == NotifyRule(("clear", "partial"), "high", 0)
    assert "notify" not in load(file).as_json()


def test_what_gets_worse_alarms_once_it_reaches_the_severity():
    policy = Policy(least="high")
    assert policy.alarms(Change("worse", "", finding(), finding("template")))
    assert not policy.alarms(Change("worse", "", finding("template"), finding("verbatim")))
    assert not policy.alarms(Change("resolved", "", finding("verbatim"), None))
    assert not policy.alarms(Change("persisting", "", finding("verbatim"), finding("verbatim")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[alarms]\n", "alarms is unknown"),
        ('[alarm]\nseverity = "loud"\n', "alarm.severity must be one of"),
        ('[alarm]\non = ["fresh"]\n', "alarm.on must be a list of"),
        ("[severity.huge]\n", "severity.huge is unknown"),
        ("[notify]\nwho = 1\n", "notify.who is unknown; there are on, severity, most"),
        ('[notify]\non = ["loud"]\n', "notify.on must be a list of alarm, incomplete"),
        ('[notify]\nseverity = "loud"\n', "notify.severity must be one of critical"),
        ("[notify]\nmost = 101\n", "notify.most must be from 0 to 100, got 101"),
        ("[notify]\nmost = true\n", "notify.most must be from 0 to 100"),
        ("[severity.high]\np_value = 2\n", "p_value must be in 0..1"),
        ("[severity.high]\ncopies = 0\n", "copies must be at least 1"),
        ("severity = 3\n", "severity must be a table"),
        ("[severity.high]\nmatch = 'verbatim'\n", "match must be a list of"),
        ("= nonsense", "is not TOML"),
    ],
)
def test_what_a_policy_cannot_mean_is_refused(tmp_path, content, said):
    file = tmp_path / "policy.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        load(file)


def test_a_missing_policy_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.toml")

import json
from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from scanner.analysis.changes import Change
from scanner.analysis.drift import Drift, Group
from scanner.analysis.findings import Finding
from scanner.nightly import formats as forms
from scanner.nightly.formats import as_junit, as_markdown, as_record, as_sarif
from scanner.nightly.night import Alert, NightReport
from scanner.text import spreadsheet_cell

VILE = "\x00\x1b[2J\u202e`</failure> ]]> @here <!channel>\ud7ff\ufffe"


def alert(n=0, state="new", severity="low", caption="a caption", muted="", **more):
    found = Finding(
        caption_sha256=f"{n:064x}",
        caption=caption,
        delta_s=2.0,
        p_value=0.01,
        copies=1,
        shard="/data/a b.tar",
        key="k<1>",
        **more,
    )
    before, after = (
        (None, found) if state == "new" else (found, None if state == "resolved" else found)
    )
    return Alert(
        Change(state, "new data", before, after), severity, muted, state == "new" and not muted
    )


def night(alerts=(), **changes):
    settings = {
        "name": "000002-2026-01-02", "previous": "000001-2026-01-01", "run": "r1",
        "identity": {"model": "m"}, "alerts": list(alerts), "incomplete": [], "scanned": 3,
        "shards": {"added": ["a"], "changed": [], "removed": [], "unreadable": []},
        "figures": {"captions": 9, "samples": 9, "rejected": 0, "shards": 1},
    }  # fmt: skip
    return NightReport(**settings | changes)


def sarif(found, **more):
    return json.loads(as_sarif(found, "1", redact=False, **more))["runs"][0]


def test_an_alarm_outranks_what_is_missing_and_nothing_scanned_never_passes():
    assert night().exit_code == 0
    assert night([alert()], incomplete=["x"]).exit_code == 1
    assert night([alert(muted="known")], incomplete=["x"]).exit_code == 3
    assert night(figures={"captions": 0}).exit_code == 3
    assert night([alert(muted="known")]).status == "clear"


def test_sarif_tells_state_evidence_mutes_and_place():
    alerts = [
        alert(1, severity="critical", match="verbatim"), alert(2, "resolved"),
        alert(3, muted="licensed"),
    ]  # fmt: skip
    results = sarif(night(alerts))["results"]
    assert [(r["ruleId"], r["level"], r["baselineState"]) for r in results] == [
        ("memscan/verbatim", "error", "new"),
        ("memscan/score", "note", "absent"),
        ("memscan/score", "note", "new"),
    ]
    assert results[2]["suppressions"] == [{"kind": "external", "justification": "licensed"}]
    uri = results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "file:///data/a%20b.tar"


def test_programs_get_the_very_key_and_people_see_every_character():
    key, shard = "k\x1b[2J\r\u202e\u2028=é", "s3://b/a b\x9b.tar"
    found = alert(1)
    found = replace(found, change=replace(
        found.change, after=replace(found.change.after, key=key, shard=shard)))  # fmt: skip
    text = as_sarif(night([found]), "1", redact=False)
    (result,) = json.loads(text)["runs"][0]["results"]
    (place,) = result["locations"]
    assert place["logicalLocations"][0]["name"] == key
    uri = place["physicalLocation"]["artifactLocation"]["uri"]
    assert (uri, unquote(uri)) == ("s3://b/a%20b%C2%9B.tar", shard)
    case = ET.fromstring(as_junit(night([found]), redact=False)).find(".//failure[@type='low']")
    assert case.text == r"k\x1b[2J\r\u202e\u2028=é in s3://b/a b\x9b.tar"
    for each in (text, as_junit(night([found]), redact=False)):
        assert all(char.isprintable() or char == "\n" for char in each)


def test_long_lists_are_cut_and_say_so(monkeypatch):
    monkeypatch.setattr(forms, "MOST_ENTRIES", 3)
    found = night([alert(n) for n in range(5)])
    assert sarif(found)["properties"]["leftOut"] == 2
    assert len(sarif(found)["results"]) == 3
    tree = ET.fromstring(as_junit(found, redact=False))
    assert len(tree.findall(".//testcase")) == 2 + 3
    assert tree.findtext(".//system-out") == "2 more are left out"
    many = as_markdown(night([alert(n) for n in range(30)]), redact=False)
    assert "- and 20 more" in many


def test_what_was_drawn_again_is_said_in_every_file():
    found = alert(1)
    after = replace(found.change.after, level="not confirmed", drawn=20, compared=20, given_back=0,
                    plain=0, rate_low=0.0, rate_high=0.168, agreeing=1)  # fmt: skip
    told = night([replace(found, change=replace(found.change, after=after))])
    said = "not confirmed, given back in 0 of 20 draws (0% to 17%), no two draws are alike"
    assert said in as_markdown(told, redact=True)
    assert said in as_junit(told, redact=True)
    assert said in as_sarif(told, "1", redact=True)
    assert as_record(told)["alerts"][0]["after"]["given_back"] == 0


def test_junit_counts_what_it_holds():
    found = night([alert(1), alert(2, muted="known")], incomplete=["b.tar: cut"])
    suite = ET.fromstring(as_junit(found, redact=False))[0]
    counted = {
        name: int(suite.get(name, "")) for name in ("tests", "failures", "errors", "skipped")
    }
    assert counted == {"tests": 4, "failures": 2, "errors": 1, "skipped": 1}
    assert len(suite.findall(".//failure")) == 2


def test_vile_captions_end_nothing_and_call_nobody():
    found = night([alert(caption=VILE, muted=""), alert(2, caption=VILE, muted=VILE)])
    ET.fromstring(as_junit(found, redact=False))
    text = as_markdown(found, redact=False)
    assert not set("\x00\x1b\u202e<>") & set(text)
    assert text.count("`") % 2 == 0
    assert "\u202e" not in as_sarif(found, "1", redact=False)
    json.dumps(as_record(found))


def test_cells_that_a_spreadsheet_would_compute_are_quoted():
    for formula in ("=1+1", "+1", "-1", "@x", "\t=1", " \u202e=1", "\uff1d1"):
        assert spreadsheet_cell(formula).startswith("'")
    assert spreadsheet_cell("a=1") == "a=1"
    assert spreadsheet_cell(-1.5) == -1.5


def test_captions_unlike_the_null_captions_are_a_warning_and_no_alarm():
    apart = Drift(1000, 400, 100, 90, 12, 9, 1e-30, (Group(("plain", "black"), 80, 9),))
    found = night(drift=apart)
    assert found.exit_code == 0
    said = as_markdown(found, redact=False)
    assert "100 of 400 captions (25.0%) are unlike the null captions" in said
    assert "9 of 12 flagged" in said
    assert "“plain black” (80 captions, 9 flagged)" in said
    assert "plain" not in as_markdown(found, redact=True)
    (notice,) = sarif(found)["invocations"][0]["toolExecutionNotifications"]
    assert (notice["level"], "unlike" in notice["message"]["text"]) == ("warning", True)
    assert as_record(found)["drift"]["groups"][0]["words"] == ("plain", "black")
    assert json.loads(json.dumps(as_record(found)))["drift"]["warning"] is True
    calm = night(drift=Drift(1000, 400, 20, 200, 4, 0, 1.0, ()))
    assert "unlike" not in as_markdown(calm, redact=False)
    assert as_record(night())["drift"] is None


def test_a_summary_says_what_changed_besides_the_corpus():
    text = as_markdown(night(causes=["new model"], history=[3, 0, 1]), redact=False)
    assert "changed since 000001-2026-01-01: new model" in text
    assert "last nights: 3, 0, 1" in text

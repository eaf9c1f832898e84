"""The findings of one audit, as JSON, SARIF, JUnit XML and Markdown."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from scanner.analysis.changes import change_json
from scanner.analysis.findings import Finding
from scanner.matching.copies import explain
from scanner.nightly.night import Alert, NightReport
from scanner.text import cut, printable, visible

SCHEMA = 1
MOST_ENTRIES = 1000
"""SARIF results and JUnit cases at most: viewers refuse or choke on more."""
MOST_LINES = 10
MOST_RELATED = 20
"""Images that a SARIF result points at."""
SARIF_LEVEL = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
BASELINE = {"new": "new", "worse": "updated", "better": "updated", "persisting": "unchanged",
            "pending": "unchanged", "resolved": "absent"}  # fmt: skip
RULES = {
    "verbatim": "The model reproduces the training image of this caption",
    "template": "The model reproduces a part of the training image of this caption",
    "score": "The model's score under this caption is far above that of captions not memorized",
}


def as_record(night: NightReport) -> dict[str, Any]:
    """Return what ``audit.json`` holds of an audit, but for the state's own entries."""
    own = {name: getattr(night, name) for name in NightReport.__slots__ if name != "alerts"}
    alerts = [
        change_json(a.change)
        | {"severity": a.severity, "muted": a.muted or None, "alarms": a.alarms,
           "images": None if a.images is None else a.images.as_json()}
        for a in night.alerts
    ]  # fmt: skip
    return {
        "schema_version": SCHEMA, "status": night.status, "exit_code": night.exit_code,
        "banner": night.banner.as_json(), "counts": night.counts(),
        "severities": night.severities(), **own, "alerts": alerts,
        "drift": None if night.drift is None else night.drift.as_json(),
    }  # fmt: skip


def as_sarif(night: NightReport, version: str, *, redact: bool) -> str:
    """Return SARIF 2.1.0: one result per finding, which keeps its fingerprint over the nights."""
    rules = [
        {"id": f"memscan/{name}", "name": name, "shortDescription": {"text": text}}
        for name, text in RULES.items()
    ]
    shown = night.alerts[:MOST_ENTRIES]
    run = {
        "tool": {"driver": {"name": "memscan", "version": version, "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "invocations": [{
            "executionSuccessful": not night.incomplete,
            "toolExecutionNotifications": [
                {"level": "error", "message": {"text": printable(text)}}
                for text in night.incomplete[:MOST_ENTRIES]
            ] + [{"level": "note", "message": {"text": night.scope()}}] * bool(night.partial)
            + [{"level": "warning", "message": {"text": text}} for text in _drift(night)],
        }],
        "results": [_sarif_result(alert, redact=redact) for alert in shown],
        "properties": {"audit": night.name, "leftOut": len(night.alerts) - len(shown)},
    }  # fmt: skip
    content = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def fingerprint(identity: str) -> str:
    """Return what names a finding from night to night, whatever shard it is in."""
    return hashlib.sha256(f"memscan|delta_s|{identity}".encode()).hexdigest()[:32]


def _sarif_result(alert: Alert, *, redact: bool) -> dict[str, Any]:
    found, change = alert.change.finding, alert.change
    rule = found.match if found.match in RULES else "score"
    result: dict[str, Any] = {
        "ruleId": f"memscan/{rule}",
        "level": SARIF_LEVEL[alert.severity],
        "message": {
            "text": f"{_finding_text(alert, redact=redact)} {change.state}, {_numbers(alert)}"
        },
        "baselineState": BASELINE[change.state],
        "locations": [_location(found.shard, found.key)],
        "partialFingerprints": {"memscanFinding/v1": fingerprint(found.identity)},
        "properties": {"severity": alert.severity, "captionSha256": found.caption_sha256,
                       "copies": found.copies, "alarms": alert.alarms},
    }  # fmt: skip
    if found.image_sha256 is not None:
        result["properties"]["imageSha256"] = found.image_sha256
    if alert.images is not None:
        result["properties"]["images"] = len(alert.images.copies)
        result["relatedLocations"] = [
            _location(copy.shard, copy.key, f"{copy.match or 'same image'}, error {copy.mse:.2g}")
            for copy in alert.images.copies[:MOST_RELATED]
        ]
    if alert.muted:
        justification = printable(alert.muted)
        result["suppressions"] = [{"kind": "external", "justification": justification}]
    return result


def _location(shard: str, key: str, text: str = "") -> dict[str, Any]:
    place: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(shard)}},
        "logicalLocations": [{"name": key, "kind": "sample"}],
    }
    return place | {"message": {"text": text}} if text else place


def as_junit(night: NightReport, *, redact: bool) -> str:
    """Return JUnit XML: completeness is a case, and so is every alarm and muted finding."""
    told = [alert for alert in night.alerts if alert.alarms or alert.muted]
    shown = told[:MOST_ENTRIES]
    root = ET.Element("testsuites", name="memscan audit")
    suite = ET.SubElement(
        root, "testsuite", name=f"audit {night.name}", time=f"{night.seconds:.1f}"
    )
    whole = ET.SubElement(suite, "testcase", classname="memscan.audit", name="the corpus is whole")
    nothing = [] if night.figures.get("captions") else ["nothing was ever scanned"]
    if missing := [visible(text) for text in (*night.incomplete, *nothing)]:
        error = ET.SubElement(whole, "error", message=missing[0], type="incomplete")
        error.text = "\n".join(missing[:MOST_ENTRIES])
    elif night.partial:
        ET.SubElement(whole, "skipped", message=night.scope())
    none = ET.SubElement(suite, "testcase", classname="memscan.audit", name="no alarm")
    if night.alarms:
        ET.SubElement(none, "failure", message=f"{len(night.alarms)} alarms", type="alarm")
    for alert in shown:
        found = alert.change.finding
        case = ET.SubElement(
            suite, "testcase", classname=f"memscan.{alert.severity}",
            name=f"{found.identity[:12]} {_finding_text(alert, redact=redact)}",
        )  # fmt: skip
        if alert.muted:
            ET.SubElement(case, "skipped", message=f"muted: {printable(alert.muted)}")
        else:
            message = f"{alert.change.state}, {_numbers(alert)}"
            failure = ET.SubElement(case, "failure", message=message, type=alert.severity)
            failure.text = f"{visible(found.key)} in {visible(found.shard)}"
    suite.set("tests", str(2 + len(shown)))
    suite.set("errors", str(int(bool(missing))))
    failures = sum(not alert.muted for alert in shown) + bool(night.alarms)
    suite.set("failures", str(failures))
    suite.set("skipped", str(sum(bool(a.muted) for a in shown) + len(whole.findall("skipped"))))
    suite.set("hostname", "")
    if len(told) > len(shown):
        ET.SubElement(suite, "system-out").text = f"{len(told) - len(shown)} more are left out"
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def as_markdown(night: NightReport, *, redact: bool) -> str:
    """Return a message for a chat: what happened, what alarms, what is missing."""
    counts, figures = night.counts(), night.figures
    screened = figures.get("screened", 0)
    lines = [
        f"**{night.banner.word}**: {night.banner.why}",
        "",
        f"memscan audit {night.name}: exit code {night.exit_code}, "
        "[report](report.html), [one page to file](audit.pdf)",
        "",
        f"- findings: {counts['new']} new, {counts['worse']} worse, {counts['persisting']} "
        f"persisting, {counts['better']} better, {counts['resolved']} resolved, "
        + (f"{counts['pending']} pending (not yet rescanned), " if counts["pending"] else "")
        + f"{counts['muted']} muted",
        "- shards: "
        + ", ".join(f"{len(night.shards[kind])} {kind}" for kind in night.shards)
        + f"; {night.scanned} samples scanned tonight, {figures.get('captions', 0)} captions "
        "in all" + (f", {screened} of them dropped by the screen" if screened else ""),
    ]
    if night.nulls:
        lines.append(f"- nulls: {_code(night.nulls)}")
    if night.scope():
        lines.append(f"- {night.scope()}")
    if night.coverages:
        shares = ", ".join(f"{share:.1%}" for share in night.coverages)
        lines.append(f"- coverage of the last nights with a budget: {shares}")
    if night.causes:
        lines.append(f"- **changed since {night.previous}: {', '.join(night.causes)}**")
    if night.history:
        lines.append(f"- new findings of the last nights: {', '.join(map(str, night.history))}")
    if told := _drift(night, redact=redact):
        lines.append(f"- **{told[0]}**")
        lines += [f"  - {text}" for text in told[1:]]
    lines += _section("Alarms", [_line(a, redact=redact) for a in night.alarms])
    missing = [f"- {_code(text)}" for text in night.incomplete]
    lines += _section("Missing", missing)
    if night.command:
        lines += ["", f"Again: {_code(night.command)}"]
    return "\n".join(lines) + "\n"


def _drift(night: NightReport, *, redact: bool = True) -> list[str]:
    """Return a warning where the captions differ from the null captions."""
    return [] if night.drift is None else night.drift.lines(redact=redact)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = [f"- and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return ["", f"**{title}: {len(lines)}**", *lines[:MOST_LINES], *more]


def _line(alert: Alert, *, redact: bool) -> str:
    found = alert.change.finding
    told = _code(_finding_text(alert, redact=redact))
    return (
        f"- {alert.severity}, {alert.change.state}: {told} ({_numbers(alert)}; "
        f"{_code(found.key)}, {found.identity[:12]})"
    )


def _finding_text(alert: Alert, *, redact: bool) -> str:
    found = alert.change.finding
    return "caption withheld" if redact else cut(printable(found.caption), 160) or "no caption"


def _numbers(alert: Alert) -> str:
    found = alert.change.finding
    parts = [f"{found.level}, {found.known}"] if found.drawn else _scored(found)
    parts.append(f"{found.copies} {'copy' if found.copies == 1 else 'copies'} in the corpus")
    if alert.images is not None:
        parts.append(explain(alert.images))
    return ", ".join(parts) + (f"; {alert.change.reason}" if alert.change.reason else "")


def _scored(found: Finding) -> list[str]:
    """Return what the scan says of a finding that was not drawn again."""
    parts = [f"{found.match} copy" if found.match in RULES else "score only"]
    if found.snap_back is not None:
        parts.append(f"scored at its image, snap-back {found.snap_back:.2g} bits")
    if found.pinned is not None:
        parts.append(f"{found.pinned} of the image is stored")
    if found.p_value is not None:
        tail = " (tail model)" if found.p_kind == "tail" else ""
        parts.append(f"p {found.p_value:.3g}{tail}")
    return parts


def _code(text: str) -> str:
    """Return a text as a Markdown code span that neither ends early nor mentions anyone."""
    swaps = str.maketrans({"`": "'", "<": "‹", ">": "›"})
    shown = printable(text).translate(swaps).replace("##[", "## [")  # a command of GitHub's log
    return f"`{shown.strip() or ' '}`"


def _uri(address: str) -> str:
    if Path(address).is_absolute():
        return Path(address).as_uri()
    return quote(address, safe="%/:?#[]@!$&'()*+,;=~", errors="surrogatepass")

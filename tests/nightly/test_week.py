"""A week of nights on real shards whose findings are right by construction.

The closed-form model memorizes a caption if a byte of its hash says so, and its scores are then
far above the threshold: what each night must find is known before it runs.
"""

import csv
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import duckdb
import pyarrow.dataset
import pytest
import webdataset
from scan_here import scan_here

from scanner.analysis.fit import fit
from scanner.engine import Job, Resources
from scanner.nightly.audit import AuditRequest, audit
from scanner.nightly.policy import Policy
from scanner.nightly.state import AuditState
from scanner.records import caption_hash
from scanner.report.page import PageOptions
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import ScanSpec

SETTINGS = {"steps": 2, "probes": 1}
MONDAY = datetime(2026, 1, 5, 3, tzinfo=UTC)
FILES = {"audit.json", "audit.pdf", "report.html", "summary.md", "junit.xml", "findings.sarif",
         "removal.csv", "removal-spreadsheet.csv", "removal.parquet"}  # fmt: skip
HOSTILE = ["<script>alert(1)</script>", '=HYPERLINK("http://x","y")', "\u202etxet\u2066 bidi",
           '"quoted", \'twice\' & ]]> --', "+1 @all `code` | <!channel>"]  # fmt: skip


def text(tag: str, *, memorized: bool) -> str:
    candidates = (f"{tag} {n}" for n in range(1000))
    return next(
        c for c in candidates
        if (hashlib.sha256(c.encode()).digest()[7] % 8 == 0) is memorized
    )  # fmt: skip


def mem(tag: str) -> str:
    return text(tag, memorized=True)


def clear(*tags: str) -> list[str]:
    return [text(tag, memorized=False) for tag in tags]


def write(path: Path, captions: list[str]) -> str:
    with webdataset.TarWriter(str(path)) as tar:
        for number, caption in enumerate(captions):
            tar.write({"__key__": f"{path.stem}{number:03d}", "txt": caption})
    return str(path)


def calibrated(folder: Path, captions: list[str]) -> Path:
    shard = write(folder / "null.tar", captions)
    spec = ScanSpec(localize="all", store_image=False, **SETTINGS)
    job = Job(model="gaussian", shards=(shard,), results=str(folder / "results"), spec=spec)
    summary = scan_here(job)
    fit(Results(folder / "results"), summary.run).save(folder / "calibration.json")
    return folder / "calibration.json"


@pytest.fixture(scope="module")
def null_file(tmp_path_factory) -> Path:
    nulls = clear(*(f"null{n}" for n in range(30)))
    return calibrated(tmp_path_factory.mktemp("null"), nulls)


class Week:
    def __init__(self, folder: Path, null_file: Path) -> None:
        self.corpus, self.state = folder / "corpus", AuditState(folder / "state")
        self.null_file, self.nights, self.scans = null_file, 0, 0
        self.corpus.mkdir()

    def put(self, name: str, captions: list[str]) -> str:
        return write(self.corpus / f"{name}.tar", captions)

    def night(
        self,
        urls=None,
        *,
        threshold: float | None = 1000.0,
        fdr=None,
        scan=scan_here,
        policy=None,
        redact=False,
        most=None,
        null=None,
        fpr=0.01,
        **changes,
    ):
        spec = ScanSpec(threshold=None if fdr else threshold, fdr=fdr, fpr=fpr, **SETTINGS)
        addresses = urls or reading.expand([str(self.corpus)])
        job = Job(
            model="gaussian", shards=tuple(addresses), results=str(self.state.results.root),
            spec=spec, calibration=str(null or self.null_file), images=True, chunk_size=4,
        )  # fmt: skip
        request = AuditRequest(
            job=job, policy=policy or Policy(),
            page=PageOptions(images=reading.images, redact=redact), **changes,
        )  # fmt: skip

        def counted(*args, **settings):
            self.scans += 1
            return scan(*args, **settings)

        now = MONDAY + timedelta(days=self.nights)
        self.nights += 1
        resources = Resources(device="cpu", actors=1, threads=1, most_samples=most)
        return audit(
            self.state, request, resources, lambda event: None, scan=counted, now=now,
        )  # fmt: skip


@pytest.fixture
def week(tmp_path, null_file) -> Week:
    return Week(tmp_path, null_file)


def states(done) -> dict[str, str]:
    return {
        a.change.finding.caption: a.change.state
        for a in done.night.alerts
        if a.change.state != "persisting"
    }


def test_a_week(week):
    one, two, three = mem("one"), mem("two"), mem("three")
    week.put("a", [one, *clear("p", "q", "r"), two])
    week.put("b", [three, *clear("s", "t")])

    first = week.night()
    assert states(first) == {one: "new", two: "new", three: "new"}
    assert first.night.exit_code == 1
    assert first.night.shards["added"] == [str(week.corpus / f"{n}.tar") for n in "ab"]
    assert (first.night.scanned, first.night.figures["captions"]) == (8, 8)
    assert first.folder.name == "000001-2026-01-05"
    assert {p.name for p in first.folder.iterdir()} == FILES

    quiet = week.night()
    assert (quiet.night.exit_code, quiet.night.scanned, week.scans) == (0, 0, 1)
    assert quiet.night.counts()["persisting"] == 3
    assert quiet.night.previous == first.night.name

    four = mem("four")
    week.put("c", [four, one])
    grown = week.night()
    assert states(grown) == {four: "new", one: "worse"}
    assert (grown.night.exit_code, grown.night.scanned) == (1, 2)
    assert [a.change.finding.caption for a in grown.night.alarms] == [four]
    assert {a.change.reason for a in grown.night.alerts} == {
        "new data", "new data: 1 copies, now 2", "",
    }  # fmt: skip

    five = mem("five")
    changed = week.put("b", [five, *clear("s", "t", "u")])
    swapped = week.night()
    assert states(swapped) == {five: "new", three: "resolved"}
    assert swapped.night.shards["changed"] == [changed]
    assert swapped.night.figures["captions"] == 10

    six = mem("six")
    week.state.mute(caption_hash(six), "licensed", MONDAY)
    week.put("d", [six])
    muted = week.night()
    assert states(muted) == {six: "new"}
    assert muted.night.exit_code == 0
    assert [a.muted for a in muted.night.alerts if a.change.state == "new"] == ["licensed"]

    assert swapped.night.alerts[-1].change.reason == "changed shard"

    Path(week.corpus / "a.tar").unlink()
    retired = week.night()
    assert retired.night.alerts[-1].change.reason == "removed shard"
    assert states(retired) == {two: "resolved", one: "better"}
    assert retired.night.shards["removed"] == [str(week.corpus / "a.tar")]
    assert (retired.night.exit_code, retired.night.scanned) == (0, 0)

    cut = week.put("e", [*clear("v", "w"), mem("seven")])
    Path(cut).write_bytes(Path(cut).read_bytes()[:2600])
    damaged = week.night()
    assert (damaged.night.exit_code, states(damaged)) == (3, {})
    assert [Path(cut).name in text for text in damaged.night.incomplete] == [True]
    shown = (damaged.folder / "report.html").read_text(encoding="utf-8")
    notes = shown.partition('<div class="notes">')[2].partition("</div>")[0]
    assert notes.count(Path(cut).name) == 1, "it is said once"
    assert f"{len(reading.expand([str(week.corpus)])) - 1} of " in shown
    again = week.night()
    assert (again.night.exit_code, again.night.scanned) == (3, 0)
    assert week.state.audits()[-1] == "000008-2026-01-12"


def test_what_cannot_be_read_tonight_resolves_nothing(week):
    urls = [week.put("a", [mem("one")]), week.put("b", [mem("two"), *clear("x")])]
    week.night(urls)
    Path(urls[1]).unlink()
    lost = week.night(urls)
    assert lost.night.exit_code == 3
    assert lost.night.counts()["persisting"] == 2
    assert lost.night.shards["unreadable"] == [urls[1]]
    week.put("b", [*clear("x")])
    back = week.night(urls)
    assert (back.night.exit_code, back.night.counts()["resolved"]) == (0, 1)


def test_an_empty_corpus_never_passes(week):
    url = week.put("a", [])
    done = week.night([url])
    assert done.night.exit_code == 3


def test_new_settings_are_named_as_the_reason(week):
    week.put("a", [mem("one"), *clear("x")])
    week.night()
    stricter = week.night(threshold=1e9)
    assert states(stricter) == {mem("one"): "resolved"}
    assert stricter.night.causes == ["new settings"]
    assert stricter.night.exit_code == 0


def test_a_new_calibration_evaluates_nothing_but_what_it_newly_flags(week, tmp_path_factory):
    nulls = [*clear(*(f"null{n}" for n in range(20))), *(mem(f"null{n}") for n in range(10))]
    loose = calibrated(tmp_path_factory.mktemp("loose"), nulls)
    week.put("a", clear("p", "q", "r", "s"))
    week.put("b", [mem("one"), *clear("t", "u", "v")])
    rate = {"threshold": None, "fpr": 0.05}

    def evaluated(run: str) -> dict[str, int]:
        commits = week.state.results.commits(run).values()
        return {Path(c.place.shard).stem: sum(c.content["evaluations"].values()) for c in commits}

    first = week.night(null=loose, **rate).night
    assert (first.alerts, first.scanned) == ([], 8)
    assert evaluated(first.run)["a"] == evaluated(first.run)["b"] > 0
    second = week.night(**rate).night
    assert second.causes == ["new calibration"]
    (alert,) = second.alerts
    assert alert.change.finding.caption == mem("one")
    assert (alert.change.state, alert.change.reason) == ("new", "new calibration")
    again = evaluated(second.run)
    assert again["a"] == 0
    assert 0 < again["b"] < evaluated(first.run)["b"]


def test_a_policy_below_its_severity_raises_no_alarm(week):
    week.put("a", [mem("one")])
    done = week.night(policy=Policy(least="high"))
    assert (done.night.exit_code, done.night.counts()["new"]) == (0, 1)


def test_an_audit_that_dies_leaves_the_last_one_and_the_next_goes_on(week):
    week.put("a", [mem("one")])
    week.night()
    week.put("b", [mem("two")])

    def dies(*args, **settings):
        scan_here(*args, **settings)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        week.night(scan=dies)
    assert week.state.audits() == ["000001-2026-01-05"]
    done = week.night()
    assert states(done) == {mem("two"): "new"}
    assert done.night.exit_code == 1


def test_a_mute_that_runs_out_lets_its_finding_alarm_once(week):
    one, two = mem("one"), mem("two")
    week.put("a", [one, two, *clear("x")])
    week.state.mute(caption_hash(one), "until tuesday", MONDAY, (MONDAY + timedelta(1)).date())
    week.state.mute(caption_hash(two), "for ever", MONDAY)
    nights = [week.night().night for _ in range(4)]
    muted = [sorted(a.muted for a in night.alerts) for night in nights]
    assert muted == 2 * [["for ever", "until tuesday"]] + 2 * [["", "for ever"]]
    alarms = [[a.change.finding.caption for a in night.alarms] for night in nights]
    assert alarms == [[], [], [one], []]
    (alert,) = nights[2].alarms
    assert (alert.change.state, alert.change.reason) == (
        "persisting", "its mute ran out on 2026-01-06",
    )  # fmt: skip
    assert [night.exit_code for night in nights] == [0, 0, 1, 0]


def test_a_budget_is_spent_on_what_is_new_and_repeated_and_the_nights_add_up(week):
    week.put("a", clear("p", "q", "r"))
    week.night()
    often = [*clear("s"), mem("one")]
    week.put("b", clear("t", "u", "v"))
    week.put("c", [*often, *often])
    first = week.night(most=4)
    assert states(first) == {mem("one"): "new"}
    assert (first.night.exit_code, first.night.scanned) == (1, 4)
    second = week.night(most=2).night
    assert (second.exit_code, second.status, second.scanned) == (5, "partial", 2)
    assert second.coverage == {"captions": 8, "scanned": 7}
    assert second.incomplete == []
    assert "partial by budget (2 samples): 7 of 8 captions scanned" in second.scope()
    third = week.night(most=2)
    assert (third.night.exit_code, third.night.scanned, third.night.partial) == (0, 1, "")
    assert "8 of 8 captions" in (third.folder / "summary.md").read_text()
    tree = ET.parse(week.state.folder(second.name) / "junit.xml")
    assert [c.get("name") for c in tree.iter("testcase") if c.find("skipped") is not None] == [
        "the corpus is whole"
    ]
    week.put("d", [])
    assert week.night(most=2).night.exit_code == 3


def test_what_a_budget_left_of_a_shard_is_new_when_it_is_reached(week):
    late = mem("late")
    week.put("a", [mem("early"), *clear("p", "q", "r"), late])
    assert states(week.night(most=4)) == {mem("early"): "new"}
    second = week.night(most=4)
    assert states(second) == {late: "new"}
    assert [a.change.reason for a in second.night.alarms] == ["not reached until now"]
    assert second.night.exit_code == 1


def test_findings_that_new_settings_have_not_reached_yet_wait_and_raise_no_alarm(week):
    one, two, three = mem("one"), mem("two"), mem("three")
    week.put("a", [one, *clear("p")])
    week.put("b", [two, *clear("q")])
    week.put("c", [three, *clear("r")])
    week.night(redact=True)
    some = week.night(threshold=999.0, most=2)
    assert some.night.counts() == {
        "new": 0, "worse": 0, "persisting": 1, "better": 0, "pending": 2, "resolved": 0,
        "alarms": 0, "muted": 0,
    }  # fmt: skip
    assert some.night.exit_code == 5
    waits = [a.change for a in some.night.alerts if a.change.state == "pending"]
    assert {c.reason for c in waits} == {"not yet rescanned: new settings"}
    summary = (some.folder / "summary.md").read_text()
    assert "2 pending (not yet rescanned)" in summary
    assert "2 earlier findings are not yet rescanned" in (some.folder / "report.html").read_text()
    kept = [a.change.finding.shard for a in some.night.alerts if a.change.state == "persisting"]
    there = sorted({str(week.corpus / f"{n}.tar") for n in "abc"} - set(kept))
    Path(there[0]).unlink()
    still = week.night(threshold=999.0, most=1).night
    assert {a.change.reason for a in still.alerts if a.change.state == "resolved"} == {
        "removed shard"
    }
    done = week.night(threshold=999.0, most=4)
    assert done.night.counts()["pending"] == 0
    assert (done.night.exit_code, done.night.counts()["persisting"]) == (0, 2)
    assert "coverage of the last nights with a budget: " in (done.folder / "summary.md").read_text()
    assert not [a for a in done.night.alerts if a.change.state in ("new", "resolved")]
    assert len(done.night.coverages) == 2


def test_a_finding_that_waits_and_is_found_clear_names_the_settings(week):
    week.put("a", [mem("one"), *clear("p", "q", "r")])
    week.put("b", clear("s", "t", "u", "v"))
    week.night()
    often = clear("s", "t", "u", "v")
    week.put("b", often + often)
    assert week.night(threshold=1e9, most=4).night.counts()["pending"] == 1
    assert week.night(threshold=1e9, most=4).night.counts()["pending"] == 1
    last = week.night(threshold=1e9, most=4).night
    (alert,) = last.alerts
    assert (alert.change.state, alert.change.reason) == ("resolved", "new settings")
    assert last.exit_code == 0


def test_a_shard_that_moved_keeps_its_findings_until_it_is_reached(week):
    week.put("a", [mem("one"), *clear("p", "q", "r")])
    week.night()
    (week.corpus / "a.tar").rename(week.corpus / "z.tar")
    often = clear("s", "t")
    week.put("b", often + often)
    moved = week.night(most=4).night
    (alert,) = moved.alerts
    assert (alert.change.state, alert.change.reason) == (
        "pending", "not yet rescanned: removed shard",
    )  # fmt: skip
    assert states(week.night(most=4)) == {}


def test_hostile_captions_stay_text_in_every_file(week):
    captions = [mem(tag) for tag in HOSTILE]
    week.put("a", captions)
    done = week.night(command="memscan audit 'a`b'")
    assert done.night.counts()["alarms"] == len(captions)
    texts = [p for p in done.folder.iterdir() if p.suffix not in (".parquet", ".pdf")]
    content = {p.name: p.read_text(encoding="utf-8") for p in texts}
    shown = content.keys() - {"removal.csv"}
    assert all("\u202e" not in content[name] for name in shown)
    assert "<script>alert" not in content["report.html"]
    sarif = json.loads(content["findings.sarif"])["runs"][0]
    assert len(sarif["results"]) == len(captions)
    assert all(r["baselineState"] == "new" for r in sarif["results"])
    tree = ET.fromstring(content["junit.xml"])
    assert len(tree.findall(".//failure")) == len(captions) + 1
    rows = list(csv.DictReader(io.StringIO(content["removal-spreadsheet.csv"])))
    assert len(rows) == len(captions)
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    with (done.folder / "removal.csv").open(newline="", encoding="utf-8") as stream:
        assert sorted(row["caption"] for row in csv.DictReader(stream)) == sorted(captions)
    assert "<" not in content["summary.md"].partition("Alarms")[2]
    stored = duckdb.read_parquet(str(done.folder / "removal.parquet")).fetchall()
    assert sorted(row[4] for row in stored) == sorted(captions)


def test_fingerprints_persist_and_captions_can_be_withheld(week):
    week.put("a", [mem("secret phrase")])
    first = week.night()
    Path(week.corpus / "a.tar").rename(week.corpus / "moved.tar")
    week.put("z", clear("x"))
    second = week.night()

    def prints(done):
        run = json.loads((done.folder / "findings.sarif").read_text())["runs"][0]
        return {r["partialFingerprints"]["memscanFinding/v1"]: r["baselineState"]
                for r in run["results"]}  # fmt: skip

    assert prints(first).keys() == prints(second).keys()
    assert set(prints(second).values()) == {"unchanged"}


def test_withheld_captions_are_in_no_file(week):
    week.put("a", [mem("secret phrase")])
    done = week.night(redact=True)
    assert done.night.exit_code == 1
    assert all(b"secret phrase" not in p.read_bytes() for p in done.folder.iterdir())


def test_nights_under_a_false_discovery_rate_judge_the_whole_corpus_anew(week):
    """One memorized caption in ten cannot pass at 31 p-values and a rate of 0.2; four in 14 can."""
    one, more = mem("one"), [mem(tag) for tag in ("two", "three", "four")]
    week.put("a", [one, *clear(*"abcdefghi")])
    alone = week.night(fdr=0.2)
    assert (alone.night.exit_code, states(alone)) == (0, {})
    scores = pyarrow.dataset.dataset(f"{week.state.results.root}/scores", format="parquet")
    rows = scores.to_table().to_pylist()
    assert {r["caption"] for r in rows if r["flagged"]} >= {one}
    assert {r["p_value"] for r in rows if r["caption"] == one} == {1 / 31}

    week.put("b", [*more, *clear("z")])
    grown = week.night(fdr=0.2)
    assert grown.night.scanned == 4
    assert states(grown) == {one: "new", **dict.fromkeys(more, "new")}
    assert {a.change.finding.caption: a.change.reason for a in grown.night.alerts} == {
        one: "other captions moved the rate", **dict.fromkeys(more, "new data"),
    }  # fmt: skip

    (week.corpus / "b.tar").unlink()
    shrunk = week.night(fdr=0.2)
    assert states(shrunk) == {one: "resolved", **dict.fromkeys(more, "resolved")}
    assert [a.change.reason for a in shrunk.night.alerts if a.change.finding.caption == one] == [
        "other captions moved the rate"
    ]

"""A state in a bucket: nights, mutes and queries, and what kills and rivals leave of them."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from made_results import record
from PIL import Image
from scan_here import scan_here
from test_audit_commands import memscan
from test_week import FILES, SETTINGS, Week, clear, mem, null_file, states

from scanner.errors import ConfigError, LeaseError, ResultsError
from scanner.nightly.audit import audit as run_audit
from scanner.nightly.state import AuditState
from scanner.records import caption_hash
from scanner.results.folder import Results
from scanner.results.lease import Lease

__all__ = ["null_file"]

NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def bucket_week(tmp_path, null_file, s3):
    week = Week(tmp_path, null_file)
    week.state = AuditState(f"{s3.bucket}/pre/state")
    return week


def png(number: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def truth_of(captions: list[str], folder: Path) -> Path:
    rows = [
        {"caption_sha256": caption_hash(text), "kind": "clean" if number else "verbatim",
         "family": text, "memorized": not number, "height": 32, "width": 32,
         "mask": [0, 1024] if not number else None}
        for number, text in enumerate(captions)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "truth.parquet")
    return folder / "truth.parquet"


def names(place: str) -> set[str]:
    return {path.partition("/")[2] for path in fsspec.filesystem("s3").find(place)}


def written(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def night(number: int, **more: object) -> str:
    return json.dumps({"run": f"r{number}", "corpus": {}, "counts": {"new": number}, **more})


def test_nights_in_a_bucket_find_and_remember_as_in_a_folder(bucket_week):
    week, one, two = bucket_week, mem("one"), mem("two")
    week.put("a", [one, *clear("x", "y")])
    first = week.night()
    assert states(first) == {one: "new"}
    assert first.folder == f"{week.state.root}/audits/000001-2026-01-05"
    there = fsspec.filesystem("s3").ls(first.folder, detail=False)
    assert {path.rpartition("/")[2] for path in there} == FILES
    week.put("b", [two])
    second = week.night()
    assert states(second) == {two: "new"}
    assert second.night.previous == first.night.name
    assert (second.night.scanned, week.night().night.exit_code) == (1, 0)
    assert [night.new for night in week.state.history(3)] == [1, 1, 0]
    index = [n for n in names(week.state.root) if "/catalogue/" in n]
    assert len(index) == 2


def test_a_state_copied_from_a_folder_to_a_bucket_goes_on_there(tmp_path, null_file, s3):
    week = Week(tmp_path, null_file)
    week.put("a", [mem("one"), *clear("x")])
    week.night()
    week.state.mute("0" * 64, "mine", NOW)
    fsspec.filesystem("s3").put(f"{week.state.root}/", f"{s3.bucket}/copy/", recursive=True)
    week.state = AuditState(f"{s3.bucket}/copy")
    moved = week.night()
    assert (moved.night.name[:6], moved.night.scanned, moved.night.exit_code) == ("000002", 0, 0)
    assert list(week.state.mutes()) == ["0" * 64]


def test_commands_work_with_a_state_in_a_bucket(tmp_path, monkeypatch, capsys, null_file, s3):
    monkeypatch.setitem(run_audit.__kwdefaults__, "scan", scan_here)
    shard = tmp_path / "a.tar"
    with webdataset.TarWriter(str(shard)) as tar:
        for number, caption in enumerate([mem("one"), *clear("x", "y")]):
            tar.write({"__key__": f"a00{number}", "txt": caption, "png": png(number)})
    place = f"{s3.bucket}/nights"
    audit = ["audit", shard, "--model", "gaussian", "--state", place, "--calibration", null_file,
             "--threshold", 1000, "--actors", 1, "--device", "cpu"]  # fmt: skip
    for name, value in SETTINGS.items():
        audit += [f"--{name}", value]
    code, said = memscan(monkeypatch, capsys, *audit)
    assert (code, said.split()[-1][:-22]) == (1, f"{place}/audits/000001-")
    code, said = memscan(monkeypatch, capsys, *audit, "--json")
    assert (code, json.loads(said)["counts"]["persisting"]) == (0, 1)
    for words in (
        ["query", place, "SELECT caption FROM findings", "--format", "csv"],
        ["query", f"{place}/results", "SELECT caption FROM findings", "--format", "csv"],
        ["query", place, "SELECT caption FROM findings", "--format", "csv", "--everything"],
        ["show", place, "a000", "--out", tmp_path / "one.png"],
        ["retrieve", place],
        ["report", place, "--out", tmp_path / "page.html"],
        ["export", place, "--coco", tmp_path / "masks.json"],
        ["eval", place, "--truth", truth_of([mem("one"), *clear("x", "y")], tmp_path)],
        ["runs", place],
        ["verify", place],
        ["mute", "a000", "--state", place, "--reason", "licensed"],
    ):
        code, said = memscan(monkeypatch, capsys, *words)
        assert code == 0, (words, said)
    assert mem("one") in (tmp_path / "page.html").read_text(encoding="utf-8")
    (entry,) = AuditState(place).mutes().values()
    assert entry["reason"] == "licensed"
    assert list(tmp_path.glob("s3*")) == []


def test_what_a_killed_audit_left_counts_for_nothing_and_is_cleaned(s3, tmp_path):
    state = AuditState(f"{s3.bucket}/state")
    state.publish("000001-2026-01-05", lambda to: written(to, {"audit.json": night(1), "a": "1"}))
    script = (
        "import sys, time; from pathlib import Path; from scanner.nightly.state import AuditState\n"
        "def fill(to):\n"
        "    for name in ('audit.json', 'a', 'b'): (to / name).write_text(name)\n"
        "def still():\n"
        "    print('file', flush=True); time.sleep(0.3)\n"
        "AuditState(sys.argv[1]).publish('000002-2026-01-06', fill, still)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, state.root], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(2):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = {n for n in names(state.root) if "/000002-" in n}
    assert left
    assert not any(n.endswith("audit.json") for n in left)
    assert state.audits() == ["000001-2026-01-05"]
    assert state.current()[0] == "r1"
    name = state.next_name(NOW)
    assert name == "000003-2026-01-05"

    state.publish(name, lambda to: written(to, {"audit.json": night(3), "c": "1"}))
    assert state.audits() == ["000001-2026-01-05", name]
    assert not any("/000002-" in n for n in names(state.root))


@pytest.mark.parametrize("fault", [{"inside": "junit.xml"}, {"inside": "audits"}])
def test_a_bucket_that_takes_no_more_leaves_the_last_audit_as_it_was(bucket_week, s3, fault):
    week = bucket_week
    week.put("a", [mem("one")])
    first = week.night()
    week.put("b", [mem("two")])
    s3.fails(status=403, methods=["PUT"], **fault)
    with pytest.raises(ResultsError, match=r"s3://.*cannot be written: .*access is denied"):
        week.night()
    s3.fails()
    assert week.state.audits() == [first.night.name]
    again = week.night()
    assert (again.night.scanned, set(states(again).values())) == (0, {"new"})


def test_an_answer_that_is_lost_publishes_an_audit_once(bucket_week, s3):
    bucket_week.put("a", [mem("one")])
    s3.fails(status=500, applied=True, times=1, methods=["PUT"], inside="audit.json")
    assert bucket_week.night().night.name in bucket_week.state.audits()


def test_of_two_audits_at_once_the_second_is_refused(bucket_week):
    week = bucket_week
    week.put("a", [mem("one")])
    with Lease(week.state.store, "lease", "audit"), pytest.raises(
        ConfigError, match=r"another audit is at work \(process \d+"
    ):  # fmt: skip
        week.night()
    assert week.state.audits() == []


def test_of_two_that_publish_one_audit_one_does_and_no_file_is_mixed(s3):
    """As if a lease were held twice."""
    place, done, lost = f"{s3.bucket}/state", [], []

    def publish(who: str) -> None:
        files = {"audit.json": night(1, who=who)} | {f"{n}.txt": who for n in range(6)}
        try:
            AuditState(place).publish("000001-2026-01-05", lambda to: written(to, files))
            done.append(who)
        except LeaseError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=publish, args=(who,)) for who in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(done), len(lost)) == (1, 1)
    assert "is written by another audit: this one stops" in lost[0]
    state = AuditState(place)
    assert state.read("000001-2026-01-05")["who"] == done[0]
    contents = {state.content("000001-2026-01-05", f"{n}.txt").decode() for n in range(6)}
    assert contents == {done[0]}


@pytest.mark.parametrize("moment", range(5))
def test_one_that_stood_still_while_another_published_changes_nothing_of_it(s3, moment):
    state, calls = AuditState(f"{s3.bucket}/state"), []
    left = f"{s3.bucket}/state/audits/000001-2026-01-05/old"
    fsspec.filesystem("s3").pipe_file(left, b"of one that was killed")

    def still() -> None:
        calls.append(1)
        if len(calls) == moment + 1:
            files = {"audit.json": night(3), "a": "rival", "b": "rival"}
            state.publish(state.next_name(NOW), lambda to: written(to, files))
        elif len(calls) > moment + 1:
            raise LeaseError("another audit took over")

    files = {"audit.json": night(2), "a": "late", "b": "late"}
    if moment == 4:  # no call is left: nothing stood still
        state.publish(state.next_name(NOW), lambda to: written(to, files), still)
        return
    with pytest.raises(LeaseError):
        state.publish(state.next_name(NOW), lambda to: written(to, files), still)
    (name,) = state.audits()
    assert state.current()[0] == "r3"
    assert state.content(name, "a") == state.content(name, "b") == b"rival"


def test_an_audit_that_lost_its_lease_publishes_nothing(s3):
    state = AuditState(f"{s3.bucket}/state")

    def still() -> None:
        raise LeaseError("another audit took over")

    with pytest.raises(LeaseError):
        state.publish("000001-2026-01-05", lambda to: written(to, {"audit.json": "{}"}), still)
    assert state.audits() == []
    assert not any("/audits/" in n for n in names(f"{s3.bucket}/"))


def test_who_may_read_results_alone_reads_them(s3, monkeypatch):
    place = f"{s3.bucket}/shared/results"
    Results(place).write_run("r1", record())
    look = AuditState.audits

    def forbidden(state: AuditState) -> list[str]:
        if state.root != place:
            raise ResultsError(f"{state.root} cannot be read: access is denied")
        return look(state)

    monkeypatch.setattr(AuditState, "audits", forbidden)
    assert AuditState.around(place) is None
    with pytest.raises(ResultsError):
        AuditState.around(f"{s3.bucket}/shared")

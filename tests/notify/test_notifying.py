"""The command line, in processes of its own: one message a night, and the secret nowhere."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hook_server import DRIP, HANG
from told import captions, shard

from scanner.cli import submit_check
from scanner.cli.notices import Notices
from scanner.cli.notifying import notices
from scanner.errors import ClusterLostError, ConfigError
from scanner.notify.argument_list import hide

T0P = "T0PSECRET"
HOSTILE = "<!channel> @all **x** https://evil.example"


class Place:
    """A corpus, its state, and everything that was printed."""

    def __init__(self, folder, hooks):
        self.folder, self.hooks, self.printed = folder, hooks, ""
        self.people = f"json://user:{T0P}@{hooks.address}/people"
        self.program = f"{hooks.url}/program?token={T0P}"

    def memscan(self, *words, **environment):
        command = [sys.executable, "-m", "scanner", *map(str, words)]
        usual = {"MEMSCAN_NOTIFY_PATIENCE": "4", "PYTHONPATH": os.pathsep.join(sys.path)}
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB", "MEMSCAN"))}
        done = subprocess.run(
            command, cwd=self.folder, env=clean | usual | environment, capture_output=True,
            text=True, timeout=240,
        )  # fmt: skip
        self.printed += done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def run(self, command, *words, **environment):
        usual = ("--model", "gaussian", "--threshold", 1000, "--steps", 2, "--probes", 1, "--local",
                 "--events", "events.jsonl")  # fmt: skip
        where = ("--state", "state") if command == "audit" else ("--out", "results")
        return self.memscan(command, "corpus", *usual, *where, *words, **environment)

    def told(self):
        return [post.json() for post in self.hooks.taken("/people")]

    def written(self):
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return b"".join(map(Path.read_bytes, files)) + self.printed.encode()


@pytest.fixture
def place(tmp_path, hooks):
    found = Place(tmp_path, hooks)
    shard(tmp_path / "corpus" / "a.tar", captions("one", HOSTILE) + captions("x", memorized=False))
    return found


def test_every_night_is_told_once_and_a_quiet_one_to_programs_alone(place):
    secret = {"MEMSCAN_NOTIFY": place.people, "MEMSCAN_WEBHOOK": place.program,
              "MEMSCAN_WEBHOOK_SECRET": T0P}  # fmt: skip
    place.hooks.answers = [500, 500]
    assert place.run("audit", "--notify-link", "https://ci.example/s/", **secret).returncode == 1
    good = place.told()[-1]
    assert good["title"].endswith(": ALARM")
    assert "2 new" in good["message"]
    assert "https://ci.example/s/audits/000001-" in good["message"]
    assert "evil" not in good["message"]
    programs = place.hooks.taken("/program")
    assert len(place.hooks.posts) == 4  # two failed
    assert programs[-1].headers["webhook-signature"].startswith("v1,")
    assert place.run("audit", **secret).returncode == 0
    assert [p.json()["banner"]["word"] for p in place.hooks.posts[4:]] == ["CLEAR"]
    shard(place.folder / "corpus" / "b.tar", captions("two"))
    assert place.run("audit", "--notify-captions", **secret).returncode == 1
    assert len(place.told()) == len(place.hooks.taken("/people"))
    assert "caption (two" in place.told()[-1]["message"]
    events = [json.loads(line) for line in (place.folder / "events.jsonl").read_text().splitlines()]
    assert [e["text"].partition(":")[0] for e in events if e["kind"] == "notify"] == [
        "told json, webhook", "told webhook", "told json, webhook",
    ]  # fmt: skip
    assert T0P.encode() not in place.written()


def test_an_audit_that_cannot_start_is_told_once_a_day_and_then_how_it_ends(place):
    moved = (place.folder / "corpus").rename(place.folder / "away")
    (place.folder / "corpus").mkdir()
    for _ in range(2):
        assert place.run("audit", MEMSCAN_NOTIFY=place.people).returncode == 2
    moved.rename(place.folder / "corpus")
    assert place.run("audit", "--notify", place.people).returncode == 1
    words = [told["title"].rpartition(" ")[2] for told in place.told()]
    assert words == ["FAILED", "ALARM"]
    record = next(place.folder.glob("state/audits/*/audit.json")).read_text()
    assert "--notify '***'" in record
    assert T0P.encode() not in place.written()


@pytest.mark.parametrize("trouble", [HANG, DRIP, 404, "gone"])
def test_that_nobody_can_be_told_changes_no_exit_code_and_is_one_line(place, trouble):
    place.hooks.answers = [trouble] * 9
    people = f"json://u:{T0P}@127.0.0.1:9/{T0P}" if trouble == "gone" else place.people
    begun = time.monotonic()
    done = place.run("audit", "--json", MEMSCAN_NOTIFY=people)
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "alarm"
    assert time.monotonic() - begun < 60
    assert len([line for line in done.stderr.splitlines() if "was not told" in line]) == 1
    assert not list(place.folder.glob("state/notified.json"))
    assert T0P.encode() not in place.written()


def test_a_typed_secret_is_not_in_the_list_of_processes(place):
    place.hooks.answers = [HANG]
    command = [sys.executable, "-m", "scanner", "notify", place.people, "--webhook", place.program]
    with subprocess.Popen(
        command, cwd=place.folder, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        until = time.monotonic() + 60
        while not place.hooks.posts and time.monotonic() < until:
            time.sleep(0.05)
        seen = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.kill()
    assert b"***" in seen
    assert T0P.encode() not in seen


def test_hiding_leaves_other_arguments_alone(monkeypatch):
    before = Path("/proc/self/cmdline").read_bytes()
    monkeypatch.setattr(sys, "argv", ["memscan", "audit", f"--notify=x://{T0P}", "corpus"])
    hide([f"x://{T0P}"])
    assert sys.argv == ["memscan", "audit", "--notify=***", "corpus"]
    assert Path("/proc/self/cmdline").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--notify", f"slack://{T0P}"), "got an incomplete or unknown slack://…"),
        (("--notify-file", "urls.txt"), "line 2 of --notify-file urls.txt must be an address"),
        (("--notify-file", "none.txt"), "--notify-file none.txt cannot be read"),
        (("--webhook", f"ftp://{T0P}"), "--webhook must be an http:// or https:// address"),
        (("--openlineage", T0P), "--openlineage must be an http:// or https:// address"),
        (("--notify-link", f"https://u:{T0P}@x/"), "--notify-link must be a web address"),
        (("--callback", "nosuch"), "--callback must be one of mlflow, wandb"),
    ],
)
def test_a_bad_request_is_one_line_before_anything_starts(place, words, said):
    (place.folder / "urls.txt").write_text(f"# of the team\nhooks.example/{T0P}\n")
    for command in ("audit", "scan"):
        done = place.run(command, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.strip().splitlines()) == 1
        assert said in done.stderr
        assert T0P not in done.stderr
    assert not (place.folder / "state").exists()
    assert not (place.folder / "results").exists()


def test_a_scan_tells_its_end_whatever_it_is(place):
    (place.folder / "urls.txt").write_text(f"\n# people\n{place.people}\n")
    words = ("--notify-file", "urls.txt")
    assert place.run("scan", *words).returncode == 0
    (place.folder / "corpus" / "b.tar").write_bytes(b"no tar at all" * 99)
    assert place.run("scan", *words, "--webhook", place.program).returncode == 3
    assert place.run("scan", *words, "--calibration", "none.json").returncode == 2
    words = [told["title"].rpartition(" ")[2] for told in place.told()]
    assert words == ["FOUND", "FOUND", "FAILED"]
    assert "besides, 1 shard or chunk could not be scanned" in place.told()[1]["message"]
    assert "Missing: " in place.told()[1]["message"]
    (post,) = place.hooks.taken("/program")
    assert (post.json()["exit_code"], len(post.json()["findings"])) == (3, 2)
    assert T0P.encode() not in place.written().replace(
        (place.folder / "urls.txt").read_bytes(), b""
    )


def test_a_lost_cluster_and_an_interruption_are_told_to_whom_it_matters(place, monkeypatch):
    asked = {
        name: p.default for name, p in __import__("inspect").signature(notices).parameters.items()
    }
    asked |= {"notify": [place.people], "webhook": [place.program], "events": None}
    for error in (ClusterLostError("the cluster does not answer"), KeyboardInterrupt()):
        told = Notices("scan", "s3://bucket/results", asked)
        with pytest.raises(type(error)), told.around():
            raise error
    (people,), (program,) = place.told(), place.hooks.taken("/program")
    assert people["title"] == "memscan scan: FAILED"
    assert "The cluster does not answer." in people["message"]
    assert (program.json()["exit_code"], program.json()["place"]) == (4, "s3://bucket/results")


def test_a_lineage_server_of_the_environment_is_told_and_never_in_the_way(place):
    lineage = {"OPENLINEAGE_URL": place.hooks.url}
    assert place.run("scan", **lineage).returncode == 0
    kinds = [post.json()["eventType"] for post in place.hooks.taken("/api")]
    assert kinds == ["START", "COMPLETE"]
    assert place.run("scan", OPENLINEAGE_DISABLED="true", **lineage).returncode == 0
    done = place.run("scan", OPENLINEAGE_URL="nonsense")
    assert done.returncode == 0
    assert "OPENLINEAGE_URL is set, but no run events are sent" in done.stderr
    assert len(place.hooks.posts) == 2


def test_a_scan_that_could_read_nothing_is_told(place):
    (place.folder / "corpus" / "a.tar").write_bytes(b"no tar at all" * 99)
    assert place.run("scan", MEMSCAN_NOTIFY=place.people).returncode == 3
    (told,) = place.told()
    assert told["title"].endswith(": INCOMPLETE")
    assert "could not be scanned" in told["message"]


def test_a_workflow_is_annotated_unless_that_is_switched_off(place):
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(place.folder / "step.md")}
    done = place.run("audit", "--json", "--no-ci", **github)
    assert "::error" not in done.stderr
    assert not (place.folder / "step.md").exists()
    (place.folder / "corpus" / "b.tar").write_bytes(b"no tar at all" * 99)
    done = place.run("audit", "--json", **github)
    assert json.loads(done.stdout)["status"] == "incomplete"
    assert sum(line.startswith("::warning title=memscan") for line in done.stderr.splitlines()) == 2
    assert "memscan audit 000002-" in (place.folder / "step.md").read_text()


def test_memscan_toml_names_whom_to_tell(place):
    (place.folder / "memscan.toml").write_text(f'[audit]\nnotify = ["{place.people}"]\n')
    done = place.run("audit")
    assert done.returncode == 1
    assert T0P not in done.stdout + done.stderr
    assert len(place.told()) == 1


def test_a_test_message_is_sent_and_what_fails_is_exit_code_3(place):
    done = place.memscan("notify", place.people, "--webhook", place.program)
    assert (done.returncode, done.stdout) == (0, "told json, webhook: memscan notify: TEST\n")
    place.hooks.answers = [404]
    assert place.memscan("notify", MEMSCAN_NOTIFY=place.people).returncode == 3
    assert place.memscan("notify").returncode == 2
    assert T0P not in place.printed


def test_callbacks_see_the_whole_of_a_local_scan(place):
    about = place.folder / "site" / "note-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: note\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[memscan.callbacks]\nnote = note:Note\n")
    (place.folder / "site" / "note.py").write_text(
        "class Note:\n"
        "    def started(self, start): print('note', start.command, file=open('n.txt', 'a'))\n"
        "    def progress(self, event): raise ValueError('no more')\n"
        "    def finished(self, o, f): print('note', o.word, f.name, file=open('n.txt', 'a'))\n"
    )
    path = os.pathsep.join([str(place.folder / "site"), *sys.path])
    done = place.run("audit", "--callback", "note", PYTHONPATH=path)
    assert done.returncode == 1
    assert done.stderr.count("note failed and changes nothing else: ValueError, no more") == 1
    (name,) = [folder.name for folder in (place.folder / "state" / "audits").iterdir()]
    assert (place.folder / "n.txt").read_text() == f"note audit\nnote ALARM {name}\n"


def test_a_submitted_command_with_a_secret_is_refused_without_it():
    for words in (["audit", "c", "--notify", T0P], ["scan", "c", f"--webhook={T0P}"]):
        with pytest.raises(ConfigError, match="the cluster would keep and show") as error:
            submit_check.check(None, words, None)
        assert T0P not in str(error.value)

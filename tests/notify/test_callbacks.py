"""Callbacks of other distributions: found by metadata, refused by name, none ends a scan."""

import importlib
import sys

import pytest
from told import outcome

from scanner.engine.job import Event
from scanner.errors import ConfigError
from scanner.notify import callbacks
from scanner.notify.audience import Audience
from scanner.notify.outcome import Start

START = Start(command="scan", place="/r", model="m", shards=(), settings={})
CODE = """
from pathlib import Path

class Note:
    def __init__(self):
        self.log = Path(__file__).with_name("log.txt").open("a")
    def started(self, start):
        print("started", start.model, file=self.log, flush=True)
    def progress(self, event):
        print("progress", event.kind, file=self.log, flush=True)
    def finished(self, outcome, folder):
        print("finished", outcome.word, folder, file=self.log, flush=True)

class Half:
    def started(self, start):
        pass

class Broken:
    def __init__(self):
        raise OSError("no such server")
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return what installs a distribution with entry points, as pip leaves it."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def install(name, **points):
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{point} = {target}\n" for point, target in points.items())
        (about / "entry_points.txt").write_text(f"[{callbacks.GROUP}]\n{lines}")
        (folder / "memscan_note.py").write_text(CODE)
        importlib.invalidate_caches()
        callbacks.installed.cache_clear()
        return folder

    yield install
    sys.modules.pop("memscan_note", None)
    monkeypatch.undo()
    callbacks.installed.cache_clear()


def test_a_callback_of_another_distribution_is_called_in_turn(site, tmp_path):
    folder = site("memscan-note", note="memscan_note:Note")
    assert "memscan_note" not in sys.modules
    audience = Audience([("note", callbacks.load("note"))], lambda text, bad: None)
    audience.started(START)
    audience.progress(Event("chunk", 1, 1, 0, 0))
    audience.finished(outcome(), tmp_path)
    assert (folder / "log.txt").read_text().splitlines() == [
        "started m", "progress chunk", f"finished ALARM {tmp_path}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("points", "name", "said"),
    [
        ({}, "note", "--callback must be one of mlflow, wandb, got 'note'"),
        ({"note": "memscan_note:Half"}, "note", "it lacks progress, finished"),
        ({"note": "memscan_note:Broken"}, "note", r"cannot be made \(OSError: no such server\)"),
        ({"note": "memscan_note:Gone"}, "note", r"cannot be made \(AttributeError"),
        ({"wandb": "memscan_note:Note"}, "wandb", "is of memscan and memscan-note 1.0"),
    ],
)
def test_what_is_no_callback_is_refused_in_one_line(site, points, name, said):
    site("memscan-note", **points)
    with pytest.raises(ConfigError, match=said) as error:
        callbacks.load(name)
    assert "\n" not in str(error.value)


class Fails:
    def __init__(self, *where, error=None):
        self.error = error or ValueError("at https://u:T0P@x/y\nand more")
        self.where, self.calls = where, []

    def _call(self, name):
        self.calls.append(name)
        if name in self.where:
            raise self.error

    def started(self, start):
        self._call("started")

    def progress(self, event):
        self._call("progress")

    def finished(self, outcome, folder):
        self._call("finished")


def test_a_callback_that_fails_is_one_line_and_hears_no_more_until_the_end():
    said, bad, good = [], Fails("progress", "finished"), Fails()
    audience = Audience([("bad", bad), ("good", good)], lambda text, failed: said.append(text))
    audience.started(START)
    for _ in range(3):
        audience.progress(Event("chunk", 1, 1, 0, 0))
    audience.finished(outcome(), None)
    assert bad.calls == ["started", "progress", "finished"]
    assert good.calls == ["started", "progress", "progress", "progress", "finished"]
    assert said == ["bad failed and changes nothing else: ValueError, at https://x/y"] * 2


def test_a_callback_cannot_leave_the_program():
    said = []
    Audience([("bad", Fails("started", error=SystemExit(3)))], lambda text, bad: said.append(text)
             ).started(START)  # fmt: skip
    assert len(said) == 1
    with pytest.raises(KeyboardInterrupt):
        Audience([("x", Fails("started", error=KeyboardInterrupt()))], print).started(START)


@pytest.mark.parametrize("name", sorted(callbacks.OWN))
def test_without_its_library_a_tracker_says_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"--callback {name} needs the package"):
        callbacks.load(name)

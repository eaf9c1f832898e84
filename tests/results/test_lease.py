"""One holder at a time, on whatever machine; the dead are succeeded, the sleeping notice it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from scanner.errors import ConfigError, LeaseError, ResultsError
from scanner.results import stores
from scanner.results.lease import Lease

HOLDER = """
import sys, time
from scanner.errors import LeaseError
from scanner.results import lease, stores
root, expires, boot = sys.argv[1], float(sys.argv[2]), sys.argv[3]
if boot:
    own = lease._process()
    lease._process = lambda: own | {"boot": boot}
with lease.Lease(stores.opened(root), "lease", "audit", expires=expires) as held:
    print("held", flush=True)
    try:
        while True:
            held.check()
            time.sleep(0.01)
    except LeaseError as error:
        print(error, flush=True)
"""
"""A process that holds a lease until it is killed, or overtaken; ``boot`` puts it elsewhere."""


def holder(root, expires, boot=""):
    words = [sys.executable, "-c", HOLDER, str(root), str(expires), boot]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture(params=["folder", "s3"])
def root(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('s3').bucket}/pre/fix"


def lease(root, expires=60.0, **options):
    return Lease(stores.opened(root), "lease", "audit", expires=expires, **options)


def names(root):
    return [entry.name for entry in stores.opened(root).entries("lease")]


def test_two_do_not_overlap_and_what_is_over_is_free(root):
    for number in range(3):
        with lease(root) as held:
            held.check()
            refused = rf"another audit is at work \(process {os.getpid()} on .*: wait for it"
            with pytest.raises(ConfigError, match=refused), lease(root):
                pass
            held.check()
        assert names(root) == [f"lease/00000{number}.beat", f"lease/00000{number}.json"]


def test_the_successor_of_one_that_was_killed_here_need_not_wait(root):
    process = holder(root, 60)
    with pytest.raises(ConfigError, match="at work"), lease(root):
        pass
    process.kill()
    process.wait()
    begun = time.monotonic()
    with lease(root) as held:
        held.check()
    assert time.monotonic() - begun < 10


def test_one_that_was_killed_elsewhere_is_succeeded_when_its_lease_expires(tmp_path):
    process, told = holder(tmp_path, 1.5, "elsewhere"), []
    with pytest.raises(ConfigError, match="at work"), lease(tmp_path, 1.5):
        pass  # its beat is seen to change: it lives
    process.kill()
    process.wait()
    begun = time.monotonic()
    with lease(tmp_path, 1.5, told=told.append) as held:
        assert 1.4 < time.monotonic() - begun < 10
        held.check()
    assert len(told) == 1
    assert "waiting up to 2 s to see whether it lives" in told[0]


@pytest.mark.parametrize("boot", ["", "elsewhere"])
def test_one_that_stood_still_wakes_overtaken_and_keeps_its_hands_off(tmp_path, boot):
    process = holder(tmp_path, 1.0, boot)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.1 if not boot else 0)
    with lease(tmp_path, 1.0) as held:
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=30)[0]
        assert said.startswith("another audit took over while this one stood still for more than")
        time.sleep(0.5)
        held.check()
        assert names(tmp_path)[-1] == "lease/000001.json"
    with lease(tmp_path, 1.0):
        pass


def test_one_that_stood_still_and_was_not_missed_goes_on(tmp_path):
    process = holder(tmp_path, 1.0)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    with pytest.raises(ConfigError, match="at work"), lease(tmp_path, 1.0):
        pass
    process.kill()
    process.wait()


def test_a_beat_goes_on_while_the_work_does(tmp_path):
    with lease(tmp_path, 0.6) as held:
        first = json.loads((tmp_path / "lease/000000.beat").read_text())
        time.sleep(1.5)
        assert json.loads((tmp_path / "lease/000000.beat").read_text())["beat"] > first["beat"] + 3
        held.check()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"token": "x", "boot": 3}'])
def test_a_damaged_lease_expires_like_any_other(tmp_path, content):
    store = stores.opened(tmp_path)
    store.put("lease/000006.json", content)
    store.put("lease/000006.beat", content)
    begun = time.monotonic()
    with lease(tmp_path, 0.5) as held:
        held.check()
    assert time.monotonic() - begun >= 0.5
    assert names(tmp_path) == ["lease/000007.beat", "lease/000007.json"]


def test_of_many_that_take_over_one_succeeds(tmp_path):
    stores.opened(tmp_path).put("lease/000003.json", b"{}")
    start, end, held, refused = threading.Barrier(8), threading.Event(), [], []

    def rival():
        start.wait()
        try:
            with lease(tmp_path, 1.0):
                held.append(1)
                end.wait(20)
        except ConfigError as error:
            refused.append(error)

    rivals = [threading.Thread(target=rival) for _ in range(8)]
    for thread in rivals:
        thread.start()
    time.sleep(3)
    assert len(held) == 1
    end.set()
    for thread in rivals:
        thread.join()
    assert len(refused) == 7


def test_whoever_takes_over_leaves_a_rival_the_file_that_it_is_writing(tmp_path):
    store = stores.opened(tmp_path)
    store.put("lease/000003.json", b"{}")
    store.put("lease/.000004.json.12-abcdef.tmp", b"{}")
    with lease(tmp_path, 0.5):
        assert "lease/.000004.json.12-abcdef.tmp" in names(tmp_path)
        assert "lease/000003.json" not in names(tmp_path)


def test_a_slow_rival_that_creates_a_number_of_the_past_holds_nothing(tmp_path):
    slow = lease(tmp_path, 1.0)
    with lease(tmp_path, 1.0):
        pass
    with lease(tmp_path, 1.0) as held:
        assert names(tmp_path) == ["lease/000001.beat", "lease/000001.json"]
        assert not slow._take(0)
        held.check()


def test_a_holder_that_cannot_ask_goes_on_until_it_must_know(tmp_path, monkeypatch):
    with lease(tmp_path, 0.5) as held:
        monkeypatch.setattr(stores.LocalStore, "entries", unreachable)
        held.check()
        time.sleep(0.8)
        with pytest.raises(ResultsError, match="away"):
            held.check()
        monkeypatch.undo()
        held.check()


def unreachable(self, folder):
    raise ResultsError("away")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ResultsError, match=r".*file/state cannot be"),
        lease(tmp_path / "file/state"),
    ):
        pass


def test_an_overtaken_lease_says_so_once_and_for_all(tmp_path):
    with lease(tmp_path, 0.5) as held:
        stores.opened(tmp_path).put("lease/000001.json", b"{}")
        time.sleep(0.4)
        for _ in range(2):
            with pytest.raises(LeaseError, match="took over"):
                held.check()

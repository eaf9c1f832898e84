import json
import threading
import time

import pytest

from scanner.errors import ConfigError, ResultsError
from scanner.nightly.lease import Lease


def test_two_audits_do_not_overlap_and_a_released_lease_is_free(tmp_path):
    with Lease(tmp_path / "state") as lease:
        lease.check()
        with (
            pytest.raises(ConfigError, match="another audit is at work"),
            Lease(tmp_path / "state"),
        ):
            pass
    with Lease(tmp_path / "state"):
        pass
    assert not (tmp_path / "state" / "lease.json").exists()


def test_a_folder_that_cannot_be_written_to_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            ResultsError, match=r".*state cannot be written to \(Not a directory\): .*make"
        ),
        Lease(tmp_path / "file" / "state"),
    ):
        pass


def test_a_lease_is_renewed_while_it_is_held(tmp_path):
    with Lease(tmp_path, renew=0.02, expires=0.5):
        first = json.loads((tmp_path / "lease.json").read_text())
        time.sleep(1.0)
        assert json.loads((tmp_path / "lease.json").read_text())["renewed"] > first["renewed"]
        with pytest.raises(ConfigError, match="at work"), Lease(tmp_path, expires=0.5):
            pass


@pytest.mark.parametrize("content", ['{"token": "x", "pid": 1, "renewed": 5.0}', "", "[]"])
def test_a_lease_that_nobody_renews_is_taken_over(tmp_path, content):
    (tmp_path / "lease.json").write_text(content)
    with Lease(tmp_path) as lease:
        lease.check()
    assert not (tmp_path / "lease.json").exists()


def test_of_many_that_take_over_one_succeeds(tmp_path):
    (tmp_path / "lease.json").write_text('{"token": "x", "renewed": 5.0}')
    start, end, held = threading.Barrier(8), threading.Event(), []

    def rival():
        start.wait()
        try:
            with Lease(tmp_path):
                held.append(1)
                end.wait(20)
        except ConfigError:
            pass

    rivals = [threading.Thread(target=rival) for _ in range(8)]
    for thread in rivals:
        thread.start()
    time.sleep(2)
    assert len(held) == 1
    end.set()
    for thread in rivals:
        thread.join()


def test_a_holder_that_was_overtaken_publishes_nothing_and_keeps_its_hands_off(tmp_path):
    with Lease(tmp_path, renew=60) as lease:
        (tmp_path / "lease.json").write_text('{"token": "other", "renewed": 9e9}')
        with pytest.raises(ResultsError, match="took over"):
            lease.check()
    assert json.loads((tmp_path / "lease.json").read_text())["token"] == "other"

"""Sending: repeated for a while, never for longer, and without a word of the address."""

import subprocess
import sys
import threading
import time

from scanner.notify.delivery import NotSentError, patience, sent


class Flaky:
    def __init__(self, *errors):
        self.errors, self.calls = list(errors), 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


def test_what_passes_is_tried_again_and_what_does_not_is_told_at_once():
    good, bad = Flaky(NotSentError("", 500), NotSentError("", 429)), Flaky(NotSentError("", 404))
    begun = time.monotonic()
    assert sent({"good": good, "bad": bad}, 30) == {"bad": "HTTP status 404"}
    assert (good.calls, bad.calls) == (3, 1)
    assert time.monotonic() - begun < 10


def test_it_is_over_when_the_time_is_whatever_hangs():
    over = threading.Event()
    begun = time.monotonic()
    found = sent(
        {"hung": lambda: over.wait(60) and None, "down": Flaky(*[NotSentError("no")] * 99)}, 1
    )
    assert time.monotonic() - begun < 5
    assert found == {"hung": "no answer within 1 s", "down": "no, tried for 1 s"}
    over.set()


def test_the_text_of_an_unknown_error_is_not_told():
    assert sent({"x": Flaky(ValueError("https://hooks.example/SECRET"))}, 5) == {"x": "ValueError"}


def test_the_time_can_be_set_and_nonsense_is_the_usual(monkeypatch):
    for text, seconds in (("5", 5), ("", 60), ("soon", 60), ("-3", 1)):
        monkeypatch.setenv("MEMSCAN_NOTIFY_PATIENCE", text)
        assert patience() == seconds


def test_libraries_that_send_are_not_heard():
    code = (
        "import logging, sys\n"
        "logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)\n"
        "from scanner.notify.delivery import silence\n"
        "silence()\n"
        "for name in ('apprise', 'urllib3.connectionpool', 'openlineage.client', 'requests.x'):\n"
        "    logging.getLogger(name).error('SECRET')\n"
        "logging.getLogger('another').error('heard')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == "ERROR:another:heard\n"

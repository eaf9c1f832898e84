"""The command: what it refuses in one line, and how it ends."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from scanner.serve.application import ASSETS, application, listening
from scanner.serve.gate import Access
from scanner.serve.source import Source


def memscan(*words: object, code: str = "from scanner.cli import main; main()"):
    return subprocess.Popen(
        [sys.executable, "-c", code, "serve", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def refused(*words: object, **how: str) -> str:
    process = memscan(*words, **how)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert "Traceback" not in said
    return said


def test_it_prints_a_link_and_ends_with_ctrl_c(results):
    process = memscan(results.root, "--port", 0)
    assert process.stdout is not None
    link = re.fullmatch(
        r"open (http://127\.0\.0\.1:\d+/\?token=[\w-]{43})\n", process.stdout.readline()
    )[1]
    with urllib.request.urlopen(link, timeout=20) as answer:
        assert answer.headers["set-cookie"].startswith("memscan-")
        assert "server" not in answer.headers
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert "token" not in said


def test_ctrl_c_ends_what_is_being_answered(results):
    process = memscan(results.root, "--port", 0, "--no-token")
    assert process.stdout is not None
    link = process.stdout.readline().split()[1]
    asked = "SELECT count(*) FROM range(9999999) AS a, range(9999999) AS b WHERE a.range*b.range=7"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(urllib.request.urlopen, f"{link}sql?{urlencode({'sql': asked})}")
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            answer.result()
    assert process.returncode == 0
    assert "Traceback" not in said


def test_what_cannot_be_shown_is_one_line(results, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"no results in {empty}: scan into it first" in refused(empty)
    assert "no results in" in refused(tmp_path / "missing")
    assert "no run zz in" in refused(results.root, "--run", "zz")
    assert "--no-token is for a loopback" in refused(
        results.root, "--host", "0.0.0.0", "--no-token"
    )
    assert "is an address: name a local path" in refused(results.root, "--marks", "s3://b/marks")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(results.root, "--port", port)
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in said


def test_without_its_packages_it_says_what_to_install(results):
    code = (
        "import importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n == 'uvicorn' else find(n, *a); "
        "from scanner.cli import main; main()"
    )
    said = refused(results.root, code=code)
    assert said == "memscan: memscan serve needs uvicorn: pip install 'memscan[serve]'\n"


@pytest.mark.parametrize("host", ["256.0.0.1", "no such name", "203.0.113.7"])
def test_an_address_that_is_not_ours_is_refused(host):
    with pytest.raises(Exception, match="cannot be listened on"):
        listening(host, 0)


def test_assets_are_there_and_load_nothing_from_elsewhere(client):
    for name in ASSETS:
        text = client.get(f"/assets/{name}").text
        assert len(text) > 1000
        assert not re.search(r"https?://|@import|url\(", text)


def test_an_error_of_ours_is_a_page_and_one_line(results, capsys, monkeypatch):
    from starlette.testclient import TestClient

    monkeypatch.setattr("scanner.serve.pages.page", lambda *a, **b: 1 / 0)
    access = Access(token=None)
    client = TestClient(application(Source(results), access), base_url="http://127.0.0.1")
    answer = client.get("/")
    assert (answer.status_code, "terminal" in answer.text) == (500, True)
    said = capsys.readouterr().err
    assert said == "memscan: /: ZeroDivisionError: division by zero\n"

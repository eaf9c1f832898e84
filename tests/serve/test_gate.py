"""Who gets in: by its name, with its token, and from its own pages alone."""

from pathlib import Path

import pytest
from served import signed_in
from starlette.testclient import TestClient

from scanner.errors import ConfigError
from scanner.serve.application import application
from scanner.serve.gate import Access
from scanner.serve.source import Source

PATHS = ("/", "/live", "/caption?id=x", "/sql", "/sql.csv?sql=SELECT+1", "/compare", "/rejects",
         "/removal", "/picture/small?id=x", "/nothing")  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(results, path):
    client = TestClient(application(Source(results), Access()), base_url="http://127.0.0.1")
    answer = client.get(path)
    assert (answer.status_code, "circle" in answer.text) == (401, False)
    client.cookies.set("memscan-0", "x" * 43)
    assert client.get(path).status_code == 401
    assert client.get("/", params={"token": "x" * 43}).status_code == 401


def test_the_link_signs_in_and_leaves_the_token_behind(results):
    access = Access(port=8765)
    client = TestClient(application(Source(results), access), base_url="http://127.0.0.1:8765")
    answer = client.get(access.url())
    assert answer.headers["refresh"] == "0;url=/"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("memscan-8765=")
    assert "HttpOnly; SameSite=Strict" in cookie
    assert access.token not in answer.text + cookie
    assert "circle" in client.get("/").text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.7:8765"])
def test_another_name_is_not_answered_to(client, host):
    answer = client.get("/", headers={"host": host})
    assert (answer.status_code, "circle" in answer.text) == (421, False)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:1", "[::1]:8765"])
def test_this_machine_has_several_names(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", [*PATHS, "/assets/serve.js", "/assets/../site.py"])
def test_every_answer_says_what_a_browser_may_do_with_it(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"


def test_a_form_of_another_site_or_without_the_key_does_nothing(client, results):
    row = client.get("/").text.partition('data-id="')[2][:64]
    form = {"finding": row, "mark": "false", "reason": "no", "name": "eve", "run": "r2"}
    key = client.access.key
    for origin in ("https://evil.example", "null"):
        answer = client.post("/mark", data=form | {"key": key}, headers={"origin": origin})
        assert answer.status_code == 403
    for wrong in ({}, {"key": ""}, {"key": "x" * len(key)}):
        assert client.post("/mark", data=form | wrong).status_code == 403
    assert client.post("/mark", content=b"a" * 20_000).status_code == 400
    assert client.post("/", data={"key": key}).status_code == 405
    assert client.delete("/").status_code == 405
    assert not (Path(results.root) / "marks.jsonl").exists()


def test_no_token_is_for_this_machine_alone(results):
    with pytest.raises(ConfigError, match="--no-token is for a loopback address, got --host 0"):
        Access(host="0.0.0.0", token=None)
    with signed_in(Source(results), token=None) as client:
        assert client.get("/").status_code == 200


def test_a_server_that_others_reach_answers_to_numbers_but_to_no_name_of_others():
    access = Access(host="192.168.0.7", token="t")
    assert access.knows("192.168.0.7:8765")
    assert access.knows("[fe80::1]")
    assert not access.knows("rebound.example:8765")
    assert Access(host="::1", port=9).url().startswith("http://[::1]:9/?token=")


def test_behind_a_proxy_links_begin_with_its_path_and_no_header_of_it_is_read(results):
    public = "https://host.example/tools/memscan"
    access = Access(port=8765, public=public)
    app = application(Source(results), access)
    client = TestClient(app, base_url="https://host.example")
    assert access.url() == f"{public}/?token={access.token}"
    answer = client.get(f"/?token={access.token}")
    assert answer.headers["refresh"] == "0;url=/tools/memscan/"
    assert "Path=/tools/memscan/; HttpOnly; SameSite=Strict; Secure" in answer.headers["set-cookie"]
    client.cookies.set(access.cookie, access.session)
    for path in ("/", "/tools/memscan/", "/tools/memscan"):
        page = client.get(path, headers={"x-forwarded-host": "evil.example"}).text
        assert 'href="/tools/memscan/assets/serve.css"' in page
        assert "evil" not in page
    assert client.get("/", headers={"host": "other.example"}).status_code == 421


@pytest.mark.parametrize(
    "public",
    [
        "host.example",
        "ftp://host/",
        "https://",
        "https://u@host/",
        "https://h/?a",
        "//[x",
        "https://h/a;b",
        "https://h/<b>",
    ],
)
def test_the_address_of_a_proxy_is_a_whole_one(public):
    with pytest.raises(ConfigError, match="--behind-proxy must be the address that people open"):
        Access(public=public)

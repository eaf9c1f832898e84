"""OpenLineage: a START, then one end, with the corpus as inputs and the results as output."""

import sys

import pytest
from told import outcome

from scanner.errors import ConfigError
from scanner.notify.delivery import NotSentError
from scanner.notify.lineage import MOST_INPUTS, Lineage, dataset, inputs
from scanner.notify.outcome import Start

START = Start(
    command="audit", place="/audits/laion state", model="m", settings={},
    shards=("s3://bucket/a/0.tar", "/data/b.tar", "https://u:T0P@shards.example/c.tar?sig=T0P"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("word", "kind"),
    [("ALARM", "COMPLETE"), ("INCOMPLETE", "COMPLETE"), ("FAILED", "FAIL"),
     ("INTERRUPTED", "ABORT")],
)  # fmt: skip
def test_a_run_starts_and_ends_once(hooks, monkeypatch, word, kind):
    pytest.importorskip("openlineage.client")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "K3Y")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "training")
    lineage = Lineage(hooks.url)
    lineage.started(START)
    lineage.finished(outcome(word, why="it broke"), None)
    first, last = (post.json() for post in hooks.taken("/api/v1/lineage"))
    assert (first["eventType"], last["eventType"]) == ("START", kind)
    assert first["run"]["runId"] == last["run"]["runId"]
    assert first["job"] == last["job"]
    assert (first["job"]["namespace"], first["job"]["name"]) == ("training", "audit.laion-state")
    assert [(d["namespace"], d["name"]) for d in last["inputs"]] == [
        ("s3://bucket", "a/0.tar"), ("file", "/data/b.tar"), ("https://shards.example", "c.tar"),
    ]  # fmt: skip
    assert [d["name"] for d in last["outputs"]] == ["/audits/laion state"]
    message = last["run"]["facets"].get("errorMessage", {}).get("message")
    assert message == ("it broke" if word == "FAILED" else None)
    assert all(post.headers["Authorization"] == "Bearer K3Y" for post in hooks.posts)
    assert b"T0P" not in b"".join(post.body for post in hooks.posts)


def test_many_shards_are_named_by_their_folders():
    assert inputs(("a/1.tar", "a/2.tar")) == ["a/1.tar", "a/2.tar"]
    many = tuple(f"s3://b/{n % 3}/{n}.tar" for n in range(MOST_INPUTS + 1))
    assert inputs(many) == ["s3://b/0", "s3://b/1", "s3://b/2"]
    assert dataset("s3://b/0") == ("s3://b", "0")


def test_a_server_that_fails_now_and_then_is_asked_again(hooks):
    pytest.importorskip("openlineage.client")
    hooks.answers = [503, 500]
    Lineage(hooks.url).started(START)
    assert len(hooks.posts) == 3


def test_one_that_refuses_is_told_without_its_address(hooks, capfd):
    pytest.importorskip("openlineage.client")
    hooks.answers = [401]
    with pytest.raises(NotSentError, match="START was not sent: HTTP status 401") as error:
        Lineage(f"{hooks.url}/T0P/").started(START)
    assert "T0P" not in str(error.value) + "".join(capfd.readouterr())


def test_what_is_no_web_address_is_refused():
    with pytest.raises(ConfigError, match="--openlineage must be an http"):
        Lineage("lineage.example/T0P")


def test_without_the_client_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openlineage.client", None)
    with pytest.raises(ConfigError, match=r"pip install 'memscan\[openlineage\]'"):
        Lineage("https://lineage.example")

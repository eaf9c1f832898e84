"""Apprise's addresses: refused without a secret, sent, and judged by what servers answer."""

import sys

import pytest
from hook_server import REDIRECT

from scanner.errors import ConfigError
from scanner.notify.channels import Channel, names, scheme_of
from scanner.notify.delivery import NotSentError

SECRET = "T0PSECRET"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"slack://{SECRET}", "slack://…"),
        (f"nosuch://{SECRET}", "nosuch://…"),
        (f"hooks.example/{SECRET}", "one without ://"),
        (f"{SECRET * 9}://x", "one without ://"),
        ("", "one without ://"),
    ],
)
def test_a_bad_address_is_refused_by_its_scheme_alone(url, said, capfd):
    with pytest.raises(ConfigError, match="must be an address that Apprise knows") as error:
        Channel(url)
    assert said in str(error.value)
    assert SECRET not in str(error.value) + "".join(capfd.readouterr())
    assert "\n" not in str(error.value)


def test_a_message_arrives_with_its_tone(hooks):
    Channel(f"json://user:{SECRET}@{hooks.address}/hook").send("title", "two\nlines", "ALARM")
    (post,) = hooks.posts
    told = post.json()
    assert (told["title"], told["message"], told["type"]) == ("title", "two\nlines", "failure")


def test_a_comma_in_an_address_is_no_second_address(hooks):
    Channel(f"json://{hooks.address}/a,json://{hooks.address}/b").send("t", "b", "CLEAR")
    assert len(hooks.posts) == 1


def test_a_refusal_is_told_by_its_status_and_only_some_pass(hooks, capfd):
    channel = Channel(f"json://user:{SECRET}@{hooks.address}/{SECRET}")
    for status, passes in ((503, True), (403, False)):
        hooks.answers = [status]
        with pytest.raises(NotSentError, match=f"HTTP status {status}") as error:
            channel.send("t", "b", "ALARM")
        assert error.value.may_pass is passes
    assert SECRET not in "".join(capfd.readouterr())


def test_no_redirect_is_followed(hooks):
    hooks.answers = [REDIRECT]
    with pytest.raises(NotSentError):
        Channel(f"json://{hooks.address}/hook").send("t", "b", "ALARM")
    assert hooks.taken("/elsewhere") == []


def test_names_hold_schemes_alone_and_tell_them_apart():
    assert scheme_of(f"Slack://{SECRET}") == "slack"
    assert names(["slack", "json", "slack"]) == ["slack", "json", "slack 2"]


def test_without_apprise_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"pip install 'memscan\[notify\]'"):
        Channel(f"slack://{SECRET}")

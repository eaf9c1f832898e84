"""The JSON of a webhook, its signature, and what is refused."""

import base64
import hashlib
import hmac
import json

import pytest
from hook_server import REDIRECT
from told import VILE, outcome, top

from scanner.errors import ConfigError
from scanner.notify.delivery import NotSentError
from scanner.notify.outcome import SCHEMA
from scanner.notify.webhook import Webhook


def signed(post, key):
    """The check that Standard Webhooks describes, written anew."""
    head = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode()
    digest = hmac.new(key, head + post.body, hashlib.sha256).digest()
    return post.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_a_program_gets_the_whole_outcome(hooks):
    told = outcome(findings=(top(1, "high", key=VILE),))
    Webhook(f"{hooks.url}/hook?token=T").send(told)
    (post,) = hooks.posts
    assert post.path == "/hook?token=T"
    assert "webhook-signature" not in post.headers
    content = post.json()
    assert content == json.loads(json.dumps(told.as_json()))
    assert (content["schema_version"], content["id"]) == (SCHEMA, post.headers["webhook-id"])
    assert content["banner"] == {"word": "ALARM", "why": "1 new finding"}
    assert content["findings"][0]["key"] == VILE
    assert content["findings"][0]["caption"] is None


@pytest.mark.parametrize(("secret", "key"), [("s3cret", b"s3cret"), ("whsec_c2VjcmV0", b"secret")])
def test_a_signature_proves_sender_content_and_time(hooks, secret, key):
    Webhook(hooks.url, secret).send(outcome())
    (post,) = hooks.posts
    assert signed(post, key)
    assert not signed(post, b"another")
    post.body += b" "
    assert not signed(post, key)


def test_the_same_outcome_has_the_same_name_and_another_word_another():
    assert outcome().id == outcome().id
    assert outcome().id != outcome("FAILED").id
    assert outcome().id != outcome(name="000003-2026-01-03").id


def test_answers_are_judged_and_no_redirect_is_followed(hooks):
    hook = Webhook(hooks.url)
    for answer, said in ((500, "HTTP status 500"), (REDIRECT, "HTTP status 307")):
        hooks.answers = [answer]
        with pytest.raises(NotSentError, match=said):
            hook.send(outcome())
    assert hooks.taken("/elsewhere") == []


def test_a_server_that_is_gone_is_told_without_its_address():
    with pytest.raises(NotSentError) as error:
        Webhook("http://127.0.0.1:9/T0PSECRET").send(outcome())
    assert str(error.value) == "ConnectionError"
    assert error.value.may_pass


@pytest.mark.parametrize("url", ["ftp://x/T0P", "x/T0P", "https://", "http://[T0P", "file:///T0P"])
def test_what_is_no_web_address_is_refused_without_it(url):
    with pytest.raises(ConfigError, match="--webhook must be an http") as error:
        Webhook(url)
    assert "T0P" not in str(error.value)


def test_a_damaged_secret_is_refused_without_it():
    with pytest.raises(ConfigError, match="must have base64") as error:
        Webhook("https://x", "whsec_T0P!!")
    assert "T0P" not in str(error.value)

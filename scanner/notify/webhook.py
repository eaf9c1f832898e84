"""The outcome as JSON to a web address, signed as Standard Webhooks says."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from urllib.parse import urlsplit

import requests

from scanner.errors import ConfigError
from scanner.notify.delivery import TIMEOUT, NotSentError
from scanner.notify.outcome import Outcome

SECRET = "MEMSCAN_WEBHOOK_SECRET"  # noqa: S105 - a variable's name
"""Environment variable with the secret of the signature."""
_SPEC = "whsec_"
"""Beginning of a secret that is base64, as Standard Webhooks has it."""


class Webhook:
    """One address of a program.

    Args:
        url: An http or https address; it may hold a secret.
        secret: Of the signature, or ``""`` for none.

    Raises:
        ConfigError: If it is no such address, or the secret is damaged; the text has neither.
    """

    scheme = "webhook"

    def __init__(self, url: str, secret: str = "") -> None:
        check_web(url, "--webhook")
        self._url, self._key = url, _key(secret)

    def send(self, outcome: Outcome) -> None:
        """Post an outcome.

        Raises:
            NotSentError: If it was not taken.
        """
        content = json.dumps(outcome.as_json(), allow_nan=False).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "memscan"}
        headers |= signature(content, outcome.id, int(time.time()), self._key)
        try:
            with requests.post(
                self._url, content, headers=headers, timeout=TIMEOUT, allow_redirects=False,
                stream=True,
            ) as answer:  # fmt: skip
                status = answer.status_code
        except requests.RequestException as error:
            raise NotSentError(type(error).__name__) from None  # its text has the address
        if not 200 <= status < 300:
            raise NotSentError("", status)


def signature(content: bytes, name: str, seconds: int, key: bytes) -> dict[str, str]:
    """Return the headers that name a message and, with a key, prove where it is from.

    Args:
        content: The body.
        name: Of the message; the same if it is sent again.
        seconds: When, since 1970.
        key: Of the signature; empty for none.
    """
    headers = {"webhook-id": name, "webhook-timestamp": str(seconds)}
    if key:
        mark = hmac.new(key, f"{name}.{seconds}.".encode() + content, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(mark).decode()}"
    return headers


def check_web(url: str, option: str) -> None:
    """Refuse what is no web address, without repeating it.

    Raises:
        ConfigError: If it is none.
    """
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_web, parts = False, None
    if not is_web:
        scheme = (
            f"{parts.scheme}://…" if parts is not None and parts.scheme.isalpha() else "another"
        )
        raise ConfigError(
            f"{option} must be an http:// or https:// address with a host, got {scheme}"
        )


def _key(secret: str) -> bytes:
    if not secret.startswith(_SPEC):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_SPEC), validate=True)
    except binascii.Error as error:
        raise ConfigError(
            f"{SECRET} must have base64 behind {_SPEC}; another secret must not begin so"
        ) from error

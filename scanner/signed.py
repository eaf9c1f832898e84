"""Addresses without their secrets, which alone are stored, printed and compared.

A signed address holds a key to its file in its query. `named` returns the address without it, as a
text that carries the whole one to where it is opened: into pickles, and so into other processes,
but into nothing that is written down.
"""

import re
from collections.abc import Sequence
from typing import Self
from urllib.parse import unquote, urlsplit, urlunsplit

from scanner.errors import ConfigError

_URL = re.compile(r"https?://[^\s'\"<>|\\]+", re.IGNORECASE)
_SECRET = re.compile(
    r"token|secret|sign|^sig$|passw|pwd|auth|cred|^(api[-_]?)?key$|key[-_]?(pair[-_]?)?id|apikey|session|"
    r"accessid|access[-_]?key|jwt|hmac|^hdn|^policy$|^expires$|^x-(amz|goog|ms|oss|cos)-",
    re.IGNORECASE,
)
_AZURE = frozenset({
    "sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "sig", "sip", "skoid", "sktid", "skt", "ske",
    "sks", "skv", "si",
})  # fmt: skip
"""Names in a shared access signature, which mean something only beside ``sig``."""
_ADVICE = (
    "give the server's name alone, and the password in ~/.netrc (machine HOST login USER password "
    'PASSWORD), or a header: FSSPEC_HTTPS=\'{"headers": {"Authorization": "Bearer ..."}}\''
)
_whole: dict[str, str] = {}


class SignedAddress(str):
    """An address without its secrets; `opens` returns the whole one."""

    __slots__ = ("_address",)
    _address: str

    def __new__(cls, address: str) -> Self:
        """Return the address that may be seen, and remember what opens it in this process."""
        seen = super().__new__(cls, redacted(address))
        seen._address = _whole[str(seen)] = address
        return seen

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        """Carry the whole address into other processes."""
        return type(self), (self._address,)


def named(address: str) -> str:
    """Return what an address is called: without a signature, if it has one."""
    return SignedAddress(address) if redacted(address) != address else address


def refuse_user(address: str) -> None:
    """Refuse an address with a user or a password.

    Raises:
        ConfigError: If it has one; the text says where passwords belong.
    """
    if has_user(address):
        raise ConfigError(
            f"{redacted(address)} was given with a user or a password, which would be in every "
            f"row and log: {_ADVICE}"
        )


def opens(name: str) -> str:
    """Return the address that opens what is called so."""
    return name._address if isinstance(name, SignedAddress) else _whole.get(name, name)


def distinct(names: Sequence[str]) -> list[str]:
    """Return names, each once.

    Raises:
        ConfigError: If one name is of two addresses that differ in what is withheld.
    """
    found = dict[str, str]()
    for name in names:
        if found.setdefault(name, opens(name)) != opens(name):
            raise ConfigError(
                f"{name} is named twice, with other signatures: name it once (what looks like a "
                f"secret in an address does not tell shards apart)"
            )
    return [name if isinstance(name, SignedAddress) else str(name) for name in dict.fromkeys(names)]


def has_user(address: str) -> bool:
    """Return whether an address names a user before its server."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*@", address))


def redacted(text: str) -> str:
    """Return a text in which no web address holds a password or a signature."""
    if "://" not in text:  # a path, of which a long run has many
        return text
    if has_user(text):
        text = re.sub(r"(://)[^/?#]*@", r"\1", text, count=1)
    return _URL.sub(lambda found: _bare(found[0]), text)


def _bare(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    query, server = parts.query.split("&"), parts.netloc.rpartition("@")[2]
    names = {unquote(each.partition("=")[0]).lower() for each in query}
    azure = _AZURE if "sig" in names else frozenset[str]()
    kept = [each for each in query if not _is_secret(each, azure)]
    if server == parts.netloc and kept == query:
        return url
    return urlunsplit(parts._replace(netloc=server, query="&".join(kept)))


def _is_secret(pair: str, azure: frozenset[str]) -> bool:
    name = unquote(pair.partition("=")[0]).lower()
    return bool(_SECRET.search(name)) or name in azure

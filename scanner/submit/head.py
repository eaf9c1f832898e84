"""The head of a Ray cluster as jobs are sent to it: its address, and the token for it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scanner.errors import ConfigError
from scanner.signed import has_user, redacted


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAddress:
    """Address of a Jobs API, and the settings for requests to it.

    Attributes:
        address: Such as ``http://head:8265``.
        headers: Sent with every request, for a proxy that asks for some.
        ca_file: Certificates to trust, for a head behind TLS; null takes the system's.
        verify: Whether its certificate is checked at all.
    """

    address: str
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        """Refuse what is not a Jobs API.

        Raises:
            ConfigError: If the address is not one of a web server, or the file is not there.
        """
        if has_user(self.address):
            raise ConfigError(
                f"{redacted(self.address)} was given with a user or a password, which would be in "
                f"logs: give them as --header Authorization='Basic ...'"
            )
        if not self.address.startswith(("http://", "https://")):
            raise ConfigError(
                f"jobs are sent to the dashboard of a Ray head, such as http://head:8265, got "
                f"{self.address!r}"
            )
        if self.ca_file is not None and not Path(self.ca_file).exists():
            raise ConfigError(f"the certificates {self.ca_file} do not exist")


def token() -> tuple[str, str]:
    """Return the token for clusters that ask for one, and where it is from; looks where Ray looks.

    Raises:
        ConfigError: If a file that should hold it cannot be read.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return "", ""
    if given := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return given, "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if not named and not path.exists():
        return "", ""
    try:
        return path.read_text(encoding="utf-8").strip(), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token in {path} cannot be read: {error}") from error

"""What of a run is shown, as an address has it: filters, order and place."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self
from urllib.parse import urlencode

from scanner.analysis.changes import STATES
from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.nightly.policy import LEVELS
from scanner.pictures import MATCHES
from scanner.serve.listing import CAPTION_HASH, SORTS, quoted
from scanner.serve.marks import MARKS

CHOICES: Mapping[str, tuple[str, ...]] = {
    "flagged": ("yes", "no"),
    "match": (*MATCHES, "plain", "none", "unknown"),
    "source": ("generated", "image"),
    "state": tuple(state for state in STATES if state != "resolved"),
    "severity": LEVELS,
    "mark": (*MARKS, "unmarked"),
    "muted": ("yes", "no"),
    "order": ("reversed",),
}
"""What each filter may be; empty for any."""
_HASH = re.compile(r"[0-9a-f]{64}")
MOST_WORDS, MOST_CHARACTERS = 16, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The part of a run that is shown, in its order. Each field stands in the address.

    Attributes:
        run: The run; empty for the usual one.
        q: Words, or phrases in double quotes, that all stand in the caption, in whatever case; or
            the start of its hash, or its key.
        flagged: Whether it is flagged.
        match: What the comparison with the training image found.
        source: What was scored: pictures that were generated, or the image itself.
        state: The last audit's word.
        severity: The last audit's too.
        mark: The mark that a person gave it.
        muted: Whether it is kept out of alarms.
        sort: One of `SORTS`, or a column of a further score.
        order: ``reversed`` to begin at the other end.
    """

    run: str = ""
    q: str = ""
    flagged: str = ""
    match: str = ""
    source: str = ""
    state: str = ""
    severity: str = ""
    mark: str = ""
    muted: str = ""
    sort: str = "worst"
    order: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Self:
        """Return the filter that an address names.

        Raises:
            ConfigError: If it names what there is not.
        """
        found = {f.name: asked[f.name].strip() for f in fields(cls) if asked.get(f.name)}
        for name, allowed in CHOICES.items():
            if (value := found.get(name, "")) and value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value[:40]!r}")
        if len(found.get("q", "")) > MOST_CHARACTERS:
            raise ConfigError(f"a search must have at most {MOST_CHARACTERS} characters")
        return cls(**found)

    def address(self, **more: str) -> str:
        """Return it as the query of an address, without what is as usual."""
        usual = Filter()
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {n: v for n, v in named.items() if v != getattr(usual, n)} | more
        return urlencode({name: value for name, value in kept.items() if value})

    def but(self, **changes: str) -> Self:
        """Return it with other values."""
        return replace(self, **changes)

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves anything out."""
        order = {"run", "sort", "order"}
        return any(getattr(self, f.name) for f in fields(self) if f.name not in order)

    def sorting(self, further: Collection[str]) -> tuple[str, str]:
        """Return the column that it sorts by, quoted, and its direction; both empty for the rank.

        Args:
            further: Columns of further scores.

        Raises:
            ConfigError: If there is no such column.
        """
        if self.sort in SORTS:
            direction = SORTS[self.sort][1]
        elif self.sort in further:
            is_low = self.sort in registry.DETECTORS and registry.low_is_suspicious(self.sort)
            direction = "ASC" if is_low else "DESC"
        else:
            known = ", ".join([*SORTS, *further])
            raise ConfigError(f"sort must be one of {known}, got {self.sort[:40]!r}")
        if self.order and self.sort != "worst":
            direction = {"ASC": "DESC", "DESC": "ASC"}[direction]
        return ("", "") if self.sort == "worst" else (quoted(self.sort), direction)


def words(text: str) -> list[str]:
    """Return the words of a search, in lower case; what stands in double quotes is one.

    Example:
        >>> words('Red "two mugs" x')
        ['two mugs', 'red', 'x']
    """
    parts = text.lower().split('"')
    phrases = [phrase.strip() for phrase in parts[1::2]]
    found = [*phrases, *" ".join(parts[0::2]).split()]
    return [word for word in dict.fromkeys(found) if word][:MOST_WORDS]


def hash_in(text: str) -> str:
    """Return the identity that a text is; empty where it is none."""
    return text if _HASH.fullmatch(text) else ""


@dataclass(frozen=True, slots=True)
class Known:
    """What people said, which a filter may ask for.

    Attributes:
        marks: The mark of each finding that has one, by identity.
        muted: What mutes name: findings, or captions with all their images.
    """

    marks: Mapping[str, str]
    muted: Collection[str] = ()


def condition(asked: Filter, known: Known) -> tuple[str, dict[str, Any]]:
    """Return a filter as SQL over ``listed``, and the values of its parameters."""
    values: dict[str, Any] = {}
    parts = [*_searched(asked.q, values), *_columns(asked, values), *_said(asked, known, values)]
    return " AND ".join(parts) or "true", values


def _searched(text: str, values: dict[str, Any]) -> Iterator[str]:
    found = words(text)
    for number, word in enumerate(found):
        values[f"w{number}"] = word
    contained = " AND ".join(f"contains(folded, $w{n})" for n in range(len(found)))
    if len(found) == 1:
        values["exact"] = text
        yield f"({contained} OR key = $exact OR starts_with(id, $w0))"
    elif found:
        yield f"({contained})"


def _columns(asked: Filter, values: dict[str, Any]) -> Iterator[str]:
    if asked.flagged:
        yield "flagged" if asked.flagged == "yes" else "NOT coalesce(flagged, false)"
    if asked.match == "unknown":
        yield "match IS NULL"
    elif asked.match:
        values["match"] = asked.match
        yield "match = $match"
    if asked.source:
        yield f"image_sha256 IS {'NOT ' if asked.source == 'image' else ''}NULL"
    for name in ("state", "severity"):
        if getattr(asked, name):
            values[name] = getattr(asked, name)
            yield f"{name} = ${name}"


def _said(asked: Filter, known: Known, values: dict[str, Any]) -> Iterator[str]:
    if asked.mark:
        is_any = asked.mark == "unmarked"
        values["marked"] = [id for id, mark in known.marks.items() if is_any or mark == asked.mark]
        yield f"id {'NOT ' if is_any else ''}IN (SELECT unnest($marked::VARCHAR[]))"
    if asked.muted:
        values["muted"] = list(known.muted)
        named = "SELECT unnest($muted::VARCHAR[])"
        is_muted = f"(id IN ({named}) OR {CAPTION_HASH} IN ({named}))"
        yield is_muted if asked.muted == "yes" else f"NOT {is_muted}"

"""The record of a run, ``runs/<run>.json``: one type, and one reader that refuses a wrong one.

Every version so far writes the same names; older ones leave some out, and readers see an empty
value then. `RunFile.content` is the JSON itself, for who shows or rewrites it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, cast

VERSION = 1
"""Of a run's record; records without one are of memscan 0.1."""
LARGEST = 2**63
"""No number of a run's record reaches it."""
UNKNOWN_STATUS = "of unknown status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Fingerprints of what decides a run's rows; ``""`` where an early version named none.

    Attributes:
        model: The model's.
        spec: Of all settings.
        scores: Of the settings that decide scores.
        calibration: The calibration's, both joined by a plus sign; ``""`` without one.
        packages: Distribution and version of each detector that is not memscan's own.
    """

    model: str = ""
    spec: str = ""
    scores: str = ""
    calibration: str = ""
    packages: Mapping[str, str] = field(default_factory=dict[str, str])

    def as_json(self) -> dict[str, Any]:
        """Return it as a run's record keeps it."""
        found = asdict(self)
        return found if self.packages else {n: v for n, v in found.items() if n != "packages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FdrCutoff:
    """A settled false-discovery rate.

    Attributes:
        rate: Nominal false-discovery rate.
        cutoff: The p-value up to which captions are flagged; -1 where none is.
        captions: Distinct captions with a p-value that it was decided over; where images are
            scored, distinct pairs of caption and image.
        flagged: How many of them are flagged.
        chunks: Committed chunks that they come from.
    """

    rate: float
    cutoff: float
    captions: int
    flagged: int
    chunks: int

    def as_json(self) -> dict[str, float | int]:
        """Return it as a run's record keeps it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A chunk that failed too often.

    Attributes:
        chunk: Its name.
        reason: What happened, the first line for a table.
    """

    chunk: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A run's record.

    Attributes:
        status: ``running``, ``complete``, ``incomplete``, ``interrupted`` or ``failed``.
        started: When it was begun, ISO 8601, UTC.
        updated: When it was last written.
        identity: Fingerprints of what decides its rows.
        spec: Its settings, as the version that wrote it named them.
        config: The rest of its job: ``model``, ``shards``, ``calibration``, ``chunk_size``, ...
        counts: Of the last scan's samples and chunks.
        versions: Of memscan and its libraries.
        incomplete: Shards that are unreadable, cut short or changed, with the reason.
        quarantined: Chunks given up.
        chunk_size: Samples per chunk; null if it is not recorded.
        total_seconds: Wall time of all its scans.
        verdict: Its false-discovery rate, once settled.
        null_captions: How many null captions the novelty of its captions is among; null where its
            calibration has no words of them, or there is none.
        content: The whole record.
    """

    status: str = UNKNOWN_STATUS
    started: str = ""
    updated: str = ""
    identity: Identity = field(default_factory=Identity)
    spec: Mapping[str, Any] = field(default_factory=dict[str, Any])
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    counts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    incomplete: tuple[str, ...] = ()
    quarantined: tuple[GivenUp, ...] = ()
    chunk_size: int | None = None
    total_seconds: float = 0.0
    verdict: FdrCutoff | None = None
    null_captions: int | None = None
    content: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return a record that was read from JSON.

        Raises:
            ValueError: If a part of it is of another kind, naming the part.
        """
        parts = {name: _part(content, name, kind) for name, kind in _KINDS.items()}
        numbers = {
            name: _number(section, parts[section], key) for name, (section, key) in _NUMBERS.items()
        }
        texts = {n: v for n in ("status", "started", "updated") if (v := parts[n]) is not None}
        size = numbers["chunk_size"]
        return cls(
            **texts,
            identity=_identity(parts["identity"] or {}, content),
            spec=parts["spec"] or {},
            config=parts["config"] or {},
            counts=parts["counts"] or {},
            versions=parts["versions"] or {},
            incomplete=tuple(map(str, parts["incomplete"] or ())),
            quarantined=tuple(map(_given_up, parts["quarantined"] or ())),
            chunk_size=None if size is None else int(size),
            total_seconds=numbers["total_seconds"] or 0.0,
            verdict=_fdr_cutoff(parts["verdict"]),
            null_captions=_null_captions(content),
            content=content,
        )

    @property
    def model(self) -> str | None:
        """The model's fingerprint, if it names one."""
        return self.identity.model or None

    @property
    def source(self) -> str:
        """Source of its scores, one of `scanner.spec.SOURCES`."""
        return str(self.spec.get("source", "generated"))


_KINDS: Mapping[str, type] = {
    "identity": dict, "spec": dict, "config": dict, "timings": dict, "counts": dict,
    "versions": dict, "verdict": dict, "incomplete": list, "quarantined": list, "actors": list,
    "started": str, "status": str, "updated": str,
}  # fmt: skip
"""Parts of a run's record and what they are, where they are there."""
_NUMBERS = {
    "chunk_size": ("config", "chunk_size"), "seconds": ("timings", "seconds"),
    "total_seconds": ("timings", "total_seconds"),
}  # fmt: skip
"""Numbers inside of parts, where they are there."""


def _part(content: Mapping[str, Any], name: str, kind: type) -> Any:
    part = content.get(name)
    if part is not None and not isinstance(part, kind):
        raise ValueError(f"{name} is of another kind")
    return part


def _number(section: str, part: Mapping[str, Any] | None, key: str) -> float | None:
    if part is None or key not in part:
        return None
    value = part[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -LARGEST < value < LARGEST:  # NaN is in no range
        raise ValueError(f"{section}.{key} is no number")
    return value


def _identity(part: Mapping[str, Any], content: Mapping[str, Any]) -> Identity:
    """Return a run's fingerprints; what is no text is left out, as readers always did."""
    texts = {
        each.name: part[each.name]
        for each in fields(Identity)
        if each.name != "packages" and isinstance(part.get(each.name), str)
    }
    packages: Any = part.get("packages")
    if "model" not in part and isinstance(content.get("model"), str):
        texts["model"] = content["model"]  # where the first records had it
    return Identity(
        **texts, packages=cast("dict[str, str]", packages) if isinstance(packages, dict) else {}
    )


def _null_captions(content: Mapping[str, Any]) -> int | None:
    number = _number("record", content, "null_captions")
    if number is not None and number < 1:
        raise ValueError("record.null_captions is no number of captions")
    return None if number is None else int(number)


def _fdr_cutoff(part: Mapping[str, Any] | None) -> FdrCutoff | None:
    if not part:
        return None
    numbers: dict[str, Any] = {}
    for each in fields(FdrCutoff):
        numbers[each.name] = _number("verdict", part, each.name)
        if numbers[each.name] is None:
            raise ValueError(f"verdict.{each.name} is no number")
    return FdrCutoff(**numbers)


def _given_up(entry: object) -> GivenUp:
    if not isinstance(entry, dict) or not {"chunk", "reason"} <= entry.keys():
        raise ValueError("quarantined is of another kind")
    known = cast("dict[str, object]", entry)
    return GivenUp(chunk=str(known["chunk"]), reason=str(known["reason"]))

"""The folder that remembers: earlier audits, what is muted, and the results behind them.

::

    STATE/
      lease/                  who runs an audit, or ran the last one
      mutes.json              findings that stay out of alarms
      notified.json           who was told of the last audit
      results/                one results folder for every night
      catalogue/              keys, caption hashes and sketches of the corpus, by shard
      audits/000001-2026-01-31/   audit.json, report.html, audit.pdf, summary.md,
                                  junit.xml, findings.sarif, removal.csv, removal.parquet,
                                  removal-spreadsheet.csv
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self

from scanner import files
from scanner.errors import ConfigError, ResultsError
from scanner.matching.image_index import ImageIndex
from scanner.parsing import from_json
from scanner.report.trend import Night
from scanner.results.folder import Results
from scanner.results.stores import LocalStore

PRESENT = ("new", "worse", "persisting", "better")
"""States of what is a finding now."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_NAME = re.compile(r"(\d{6})-\d{4}-\d{2}-\d{2}")


class AuditState:
    """A state folder; nothing is made before the first write.

    Args:
        root: The folder, local or mounted.

    Raises:
        ConfigError: If it is an address.
    """

    def __init__(self, root: str | Path) -> None:
        if _ADDRESS.match(str(root)):
            raise ConfigError(
                f"an audit's state is a local or mounted folder, got {root}: audits appear in it "
                f"by a rename, which buckets do not have; mount a volume for it (the corpus may be "
                f"in a bucket), and copy it to a bucket after the night"
            )
        self.root = Path(root).expanduser().absolute()
        self.store = LocalStore(self.root)
        self.results = Results(self.root / "results")
        self.image_index = ImageIndex(self.root / "catalogue")

    def audits(self) -> list[str]:
        """Return the names of the finished audits, the latest last."""
        folder = self.root / "audits"
        return sorted(
            p.name
            for p in folder.glob("*")
            if _NAME.fullmatch(p.name) and (p / "audit.json").is_file()
        )

    @classmethod
    def around(cls, folder: str | Path) -> Self | None:
        """Return the state that a folder is, or whose results it is; null if it is neither."""
        here = Path(folder).expanduser().absolute()
        for root in (here, here.parent if here.name == "results" else here):
            state = cls(root)
            if state.audits() and state.results.exists():
                return state
        return None

    def current(self) -> tuple[str, frozenset[str]]:
        """Return the run of the last audit and the identities of the shards in effect.

        Raises:
            ResultsError: If there is no audit, or it is damaged.
        """
        names = self.audits()
        if not names:
            raise ResultsError(f"no audit in {self.root}: run one first")
        last = self.read(names[-1])
        return last["run"], in_effect(last)

    def folder(self, name: str) -> Path:
        """Return the folder of an audit."""
        return self.root / "audits" / name

    def read(self, name: str) -> dict[str, Any]:
        """Return what an audit wrote of itself.

        Raises:
            ResultsError: If it is damaged.
        """
        path = self.folder(name) / "audit.json"
        content = _loaded(path)
        if not _is_audit(content):
            raise ResultsError(f"{path} is damaged: restore it, or move its folder away")
        return content

    def history(self, nights: int) -> list[Night]:
        """Return the latest audits as points of a trend, the latest last.

        Args:
            nights: How many.
        """
        return [_point(name, self.read(name)) for name in self.audits()[-nights:]]

    def next_name(self, now: datetime) -> str:
        """Return the name of the audit to come."""
        last = [int(name[:6]) for name in self.audits()]
        return f"{max(last, default=0) + 1:06d}-{now:%Y-%m-%d}"

    def publish(self, name: str, write: Callable[[Path], None]) -> Path:
        """Make an audit's folder appear whole.

        Args:
            name: The audit.
            write: Fills a folder.

        Raises:
            OutputError: If it cannot be written.
        """
        final = self.folder(name)
        for left in final.parent.glob(".*.partial"):
            shutil.rmtree(left, ignore_errors=True)
        with files.folder(final) as partial:
            write(partial)
        return final

    def mutes(self) -> dict[str, dict[str, str]]:
        """Return ``reason``, ``since`` and perhaps ``until`` of every mute, by what it names.

        Raises:
            ResultsError: If the file is damaged.
        """
        path = self.root / "mutes.json"
        if not path.exists():
            return {}
        content = _loaded(path)
        if not isinstance(content, dict) or not all(
            isinstance(entry, dict)
            and isinstance(entry.get("reason"), str)
            and isinstance(entry.get("until", ""), str)
            for entry in content.values()
        ):
            raise ResultsError(f"{path} is damaged: restore it; a muted finding would alarm")
        return content

    def mute(self, sha256: str, reason: str, now: datetime, until: date | None = None) -> None:
        """Keep a finding out of alarms, with the reason on record.

        Args:
            sha256: The finding's identity, or a caption's hash for all of its images.
            reason: Why.
            now: Since when.
            until: The last day of the mute; null for ever.

        Raises:
            ResultsError: If the file cannot be read.
            OutputError: If it cannot be written.
        """
        entry = {"reason": reason, "since": now.isoformat(timespec="seconds")}
        if until is not None:
            entry["until"] = until.isoformat()
        self._write_mutes({**self.mutes(), sha256: entry})

    def unmute(self, sha256: str) -> bool:
        """Let a finding alarm again; False if it was not muted.

        Raises:
            ResultsError: If the file cannot be read.
            OutputError: If it cannot be written.
        """
        before = self.mutes()
        self._write_mutes({sha: entry for sha, entry in before.items() if sha != sha256})
        return sha256 in before

    def _write_mutes(self, content: dict[str, dict[str, str]]) -> None:
        files.write(self.root / "mutes.json", json.dumps(content, indent=1, sort_keys=True))


def in_effect(audit: Mapping[str, Any]) -> frozenset[str]:
    """Return the identities of the shards that an audit counted."""
    return frozenset(i for entry in audit["corpus"].values() for i in entry["in_effect"])


def _point(name: str, record: Mapping[str, Any]) -> Night:
    """Return an audit as a point of a trend; of an early version's, what it says."""
    counts, share = record.get("counts", {}), None
    if coverage := record.get("coverage"):
        scanned, captions = (coverage.get(word, 0) for word in ("scanned", "captions"))
        share = round(scanned / max(1, captions), 4)
    there = sum(counts.get(word, 0) for word in PRESENT)
    return Night(name.partition("-")[2], there, counts.get("new", 0), share)


def _is_audit(content: Any) -> bool:
    """Return whether this is what an audit writes of itself, as far as later audits read it."""
    if not isinstance(content, dict) or not isinstance(content.get("run"), str):
        return False
    corpus, counts = content.get("corpus"), content.get("counts", {})
    coverage, identity = content.get("coverage") or {}, content.get("identity") or {}
    if not isinstance(corpus, dict) or not all(
        isinstance(part, dict) for part in (counts, coverage, identity)
    ):
        return False
    numbers = [*(counts.get(word, 0) for word in PRESENT), *coverage.values()]
    return all(isinstance(number, int) for number in numbers) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("in_effect"), list)
        and all(isinstance(shard, str) for shard in entry["in_effect"])
        and isinstance(entry.get("id"), str | None)
        for entry in corpus.values()
    )


def _loaded(path: Path) -> Any:
    try:
        return from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} is damaged ({error}): restore it") from error

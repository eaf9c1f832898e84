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

An audit counts once its ``audit.json`` is there. In a folder all files appear by one rename; in a
bucket it is created last. Names are the same, so a state may be copied from the one to the other.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self

from scanner import files
from scanner.errors import ResultsError
from scanner.matching.image_index import ImageIndex
from scanner.nightly import audit_folders
from scanner.nightly.audit_folders import RECORD
from scanner.parsing import from_json
from scanner.report.trend import Night
from scanner.results import stores
from scanner.results.folder import Results
from scanner.results.stores import LocalStore

PRESENT = ("new", "worse", "persisting", "better")
"""States of what is a finding now."""


class AuditState:
    """A state folder, or a prefix of a bucket; nothing is made before the first write.

    Attributes:
        root: Where it is: an absolute path, or an address.

    Args:
        root: A local or mounted folder, or an address such as ``s3://bucket/prefix``.

    Raises:
        ConfigError: If it is an address of no store that can hold results.
    """

    def __init__(self, root: str | Path) -> None:
        self.store = stores.opened(root)
        self.root = self.store.root
        self.results = Results(f"{self.root}/results")
        self.image_index = ImageIndex(stores.opened(f"{self.root}/catalogue"))

    def audits(self) -> list[str]:
        """Return the names of the finished audits, the latest last.

        Raises:
            ResultsError: If the state cannot be read.
        """
        return audit_folders.finished(self.store)

    @classmethod
    def around(cls, folder: str | Path) -> Self | None:
        """Return the state that a path or address is, or whose results it is; null if neither.

        Raises:
            ConfigError: If it is an address of no store that can hold results.
            ResultsError: If it cannot be read.
        """
        here = stores.place(str(folder))
        above, _, name = here.rpartition("/")
        is_below = name == "results" and above and not above.endswith("/")
        for root in (here, above) if is_below else (here,):
            state = cls(root)
            try:
                if state.audits() and state.results.exists():
                    return state
            except ResultsError:
                # Who may read results in a bucket need not be allowed to look beside them.
                if root == here or isinstance(state.store, LocalStore):
                    raise
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

    def folder(self, name: str) -> Path | str:
        """Return where an audit is: a path, or an address in a bucket."""
        address = self.store.address(f"audits/{name}")
        return Path(address) if isinstance(self.store, LocalStore) else address

    @contextmanager
    def here(self, name: str) -> Iterator[Path]:
        """Provide an audit's files in a local folder; those of a bucket are gone afterwards.

        Raises:
            ResultsError: If one cannot be read.
        """
        folder = self.folder(name)
        if isinstance(folder, Path):
            yield folder
            return
        with tempfile.TemporaryDirectory(prefix="memscan-audit-") as copy:
            for entry in self.store.entries(f"audits/{name}"):
                file = entry.name.rpartition("/")[2]
                files.write(Path(copy) / file, self.content(name, file))
            yield Path(copy)

    def content(self, name: str, file: str) -> bytes:
        """Return a file of an audit, wherever the state is.

        Raises:
            ResultsError: If it is missing or cannot be read.
        """
        content = self.store.read(f"audits/{name}/{file}")
        if content is None:
            raise ResultsError(f"{self.folder(name)}/{file} is missing: restore it")
        return content

    def read(self, name: str) -> dict[str, Any]:
        """Return what an audit wrote of itself.

        Raises:
            ResultsError: If it is damaged.
        """
        content = self._loaded(f"audits/{name}/{RECORD}")
        if not _is_audit(content):
            path = self.store.address(f"audits/{name}/{RECORD}")
            raise ResultsError(f"{path} is damaged: restore it, or move its folder away")
        return content

    def history(self, nights: int) -> list[Night]:
        """Return the latest audits as points of a trend, the latest last.

        Args:
            nights: How many.
        """
        return [_point(name, self.read(name)) for name in self.audits()[-nights:]]

    def next_name(self, now: datetime) -> str:
        """Return the name of the audit to come, which no other audit has begun to write."""
        last = [int(name[:6]) for name in audit_folders.begun(self.store)]
        return f"{max(last, default=0) + 1:06d}-{now:%Y-%m-%d}"

    def publish(
        self, name: str, write: Callable[[Path], None], still: Callable[[], None] = lambda: None
    ) -> Path | str:
        """Make an audit appear whole, and return where it is, as `folder` does.

        Args:
            name: The audit.
            write: Fills a local folder.
            still: Raises an error if the state is not ours any more.

        Raises:
            OutputError: If it cannot be written.
            ResultsError: If the bucket cannot be read or written to.
            LeaseError: If another audit is written under this name.
        """
        audit_folders.publish(self.store, name, write, still)
        return self.folder(name)

    def mutes(self) -> dict[str, dict[str, str]]:
        """Return ``reason``, ``since`` and perhaps ``until`` of every mute, by what it names.

        Raises:
            ResultsError: If the file is damaged.
        """
        if self.store.entry("mutes.json") is None:
            return {}
        content = self._loaded("mutes.json")
        if not isinstance(content, dict) or not all(
            isinstance(entry, dict)
            and isinstance(entry.get("reason"), str)
            and isinstance(entry.get("until", ""), str)
            for entry in content.values()
        ):
            path = self.store.address("mutes.json")
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
            ResultsError: If the file cannot be read or written.
        """
        entry = {"reason": reason, "since": now.isoformat(timespec="seconds")}
        if until is not None:
            entry["until"] = until.isoformat()
        self._write_mutes({**self.mutes(), sha256: entry})

    def unmute(self, sha256: str) -> bool:
        """Let a finding alarm again; False if it was not muted.

        Raises:
            ResultsError: If the file cannot be read or written.
        """
        before = self.mutes()
        self._write_mutes({sha: entry for sha, entry in before.items() if sha != sha256})
        return sha256 in before

    def _write_mutes(self, content: dict[str, dict[str, str]]) -> None:
        self.store.put("mutes.json", json.dumps(content, indent=1, sort_keys=True).encode())

    def _loaded(self, name: str) -> Any:
        """Return a file's JSON.

        Raises:
            ResultsError: If there is none.
        """
        content, address = self.store.read(name), self.store.address(name)
        if content is None:
            raise ResultsError(f"{address} is missing: restore it")
        try:
            return from_json(content)
        except ValueError as error:
            raise ResultsError(f"{address} is damaged ({error}): restore it") from error


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

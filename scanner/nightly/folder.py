"""The folder of one night: what is written of it, for people and for programs."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import scanner
from scanner import files
from scanner.analysis.diff import RunView
from scanner.matching.copies import Group
from scanner.nightly.formats import as_junit, as_markdown, as_record, as_sarif
from scanner.nightly.night import Alert, NightReport
from scanner.nightly.policy import in_words
from scanner.nightly.removal import write_removal
from scanner.nightly.state import PRESENT
from scanner.report import page as pages
from scanner.report import particulars
from scanner.report.options import PageOptions, Remarks
from scanner.report.paper import as_pdf
from scanner.report.trend import Night

MOST_NOTES = 20


@dataclass(frozen=True, slots=True)
class Folder:
    """What is known of a night when its folder is written.

    Attributes:
        night: What was found.
        view: The run and the shards that count.
        options: What the pages show.
        kept: The state's own entries of ``audit.json``.
        earlier: The audits before it, the latest last.
    """

    night: NightReport
    view: RunView
    options: PageOptions
    kept: dict[str, Any]
    earlier: Sequence[Night]

    def write(self, folder: Path) -> None:
        """Write every file of the night.

        Args:
            folder: An empty folder.

        Raises:
            OutputError: If one cannot be written.
            ResultsError: If the results cannot be read.
        """
        night, redact = self.night, self.options.redact
        self._removal(folder)
        shown = pages.content(
            self.view.results, self.view.run,
            replace(self.options, title=f"Audit {night.name}", fdr=self.view.fdr),
            shards=self.view.shards, remarks=self._remarks(),
        )  # fmt: skip
        texts = {
            "report.html": pages.as_html(shown),
            "summary.md": as_markdown(night, redact=redact),
            "junit.xml": as_junit(night, redact=redact),
            "findings.sarif": as_sarif(night, scanner.__version__, redact=redact),
            "audit.json": json.dumps(self._record(), indent=1, allow_nan=False),
        }
        for name, text in texts.items():
            files.write(folder / name, text)
        files.write(folder / "audit.pdf", as_pdf(shown))

    def _removal(self, folder: Path) -> None:
        there = [a for a in self.night.alerts if a.change.after is not None]
        with closing(self.view.open()) as con:
            rows = [
                {"finding": a.change.finding.identity, "sha": a.change.finding.caption_sha256,
                 "image": a.change.finding.image_sha256, "severity": a.severity,
                 "state": a.change.state, "match": a.change.finding.match,
                 "p_value": a.change.finding.p_value, "delta_s": a.change.finding.delta_s,
                 "copies": a.change.finding.copies, "muted": a.muted or None}
                for a in there
            ]  # fmt: skip
            write_removal(con, rows, folder, redact=self.options.redact, groups=_groups(there))

    def _record(self) -> dict[str, Any]:
        record = as_record(self.night) | self.kept
        if self.options.redact:
            record["drift"] = self.night.drift and self.night.drift.as_json(redact=True)
            for entry in record["alerts"]:
                for side in ("before", "after"):
                    if entry[side]:
                        entry[side]["caption"] = None
        return record

    def _remarks(self) -> Remarks:
        """Return what the night adds to the page of its run."""
        night, counts = self.night, self.night.counts()
        states = ", ".join(f"{counts[state]} {state}" for state in counts)
        shards = ", ".join(f"{len(urls)} {kind}" for kind, urls in night.shards.items())
        code = f"{night.exit_code:d}, {night.status}"
        policy = in_words(night.policy)
        facts = [("audit", f"{night.name}, {night.status} (exit code {night.exit_code})"),
                 ("coverage", night.scope()), ("findings", states), ("shards", shards),
                 ("policy", policy), ("command", night.command)]  # fmt: skip
        return Remarks(
            banner=night.banner, alarms=len(night.alarms), share=self._share(),
            date=particulars.date(night.started), corpus=list(self.kept["corpus"]),
            marks={a.change.finding.identity: a.mark() for a in night.alerts},
            gone=[a.change.finding for a in night.alerts if a.change.after is None],
            notes=_notes(night), facts=[fact for fact in facts if fact[1]],
            stamps=[("exit code", code), ("policy", policy)],
            copies=_groups(night.alerts), nights=[*self.earlier, self._point()],
        )  # fmt: skip

    def _share(self) -> tuple[str, str]:
        """Return how much of the corpus is scanned, and of what that is a share."""
        if reach := self.night.coverage:
            share = reach["scanned"] / max(1, reach["captions"])
            return f"{int(1000 * share) / 10:g}%", "captions scanned"  # never 100% too early
        shards = self.kept["corpus"]
        cut = {text.partition(": ")[0] for text in self.night.incomplete}
        whole = sum(shard["whole"] and url not in cut for url, shard in shards.items())
        return f"{whole:,} of {len(shards):,}", "shards scanned whole"

    def _point(self) -> Night:
        """Return this night as the last point of the trend."""
        counts, reach = self.night.counts(), self.night.coverage
        share = round(reach["scanned"] / max(1, reach["captions"]), 4) if reach else None
        there = sum(counts[word] for word in PRESENT)
        return Night(self.night.name.partition("-")[2], there, counts["new"], share)


def _notes(night: NightReport) -> list[str]:
    notes = [f"Missing: {text}" for text in night.incomplete[:MOST_NOTES]]
    if pending := night.counts()["pending"]:
        notes.insert(0, f"{pending} earlier findings are not yet rescanned.")
    if night.causes:
        notes.insert(0, f"Since {night.previous}: {', '.join(night.causes)}.")
    return notes


def _groups(alerts: Sequence[Alert]) -> dict[str, Group]:
    return {a.change.finding.identity: a.images for a in alerts if a.images is not None}

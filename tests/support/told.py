"""Outcomes to tell without a scan, and captions to scan."""

import hashlib

from webdataset.writer import TarWriter

from scanner.notify.outcome import Outcome, Top

VILE = "\x00\x1b[2J\u202e`</failure> @here <!channel> **x** [a](http://e.example) :tada: ##[error]"


def top(number=0, severity="low", **changes):
    sha = f"{number:064x}"
    usual = {
        "finding": sha, "severity": severity, "state": "new", "match": None, "p_value": 0.01,
        "copies": 1, "key": f"k{number}", "shard": "/data/a.tar", "caption_sha256": sha,
        "image_sha256": None,
    }  # fmt: skip
    return Top(**usual | changes)


def outcome(word="ALARM", **changes):
    usual = {
        "command": "audit", "name": "000002-2026-01-02", "word": word, "why": "1 new finding",
        "exit_code": 1, "place": "/state/audits/000002-2026-01-02", "run": "r1",
        "model": "gaussian", "counts": {"new": 1, "worse": 0, "alarms": 1},
        "severities": {"critical": 0, "low": 1}, "findings": (top(),),
        "started": "2026-01-02T00:00:00+00:00",
    }  # fmt: skip
    return Outcome(**usual | changes)


def captions(*tags, memorized=True):
    """Return a caption for each tag that the closed-form model memorizes, or does not."""
    found = list[str]()
    for tag in tags:
        each = (f"{tag} {n}" for n in range(1000))
        found.append(next(
            text for text in each
            if (hashlib.sha256(text.encode()).digest()[7] % 8 == 0) is memorized
        ))  # fmt: skip
    return found


def shard(path, texts):
    """Write a shard of these captions."""
    path.parent.mkdir(exist_ok=True)
    with TarWriter(str(path)) as tar:
        for number, text in enumerate(texts):
            tar.write({"__key__": f"{path.stem}{number:03d}", "txt": text})
    return path

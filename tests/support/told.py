"""Outcomes to tell, without a scan."""

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

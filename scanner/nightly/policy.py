"""The policy of an audit: severities of findings, and the conditions of an alarm."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scanner.analysis.changes import STATES, Change
from scanner.analysis.findings import Finding
from scanner.analysis.levels import LEVELS as KNOWN
from scanner.errors import ConfigError
from scanner.pictures import MATCHES

LEVELS = ("critical", "high", "medium", "low")
OUTCOMES = ("alarm", "incomplete", "partial", "clear", "failed")
"""Of an audit: words of its banner, and ``failed`` for one that ended with an error."""
MOST_TOLD = 100
"""Findings in a message at most: chats cut longer ones."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions of a severity; all that are given must hold.

    Attributes:
        match: Evidence that counts; empty for any.
        p_value: The most that the p-value may be; null for any.
        copies: The fewest samples that carry the caption.
        level: Levels of evidence that count; empty for any.
    """

    match: tuple[str, ...] = ()
    p_value: float | None = None
    copies: int = 1
    level: tuple[str, ...] = ()

    def holds(self, finding: Finding) -> bool:
        """Whether a finding meets every condition."""
        if self.match and finding.match not in self.match:
            return False
        if self.p_value is not None and (finding.p_value is None or finding.p_value > self.p_value):
            return False
        if self.level and finding.level not in self.level:
            return False
        return finding.copies >= self.copies

    def as_json(self) -> dict[str, Any]:
        """Return its conditions; levels, which came later, where it has any."""
        own = asdict(self)
        return own if self.level else {n: value for n, value in own.items() if n != "level"}


DEFAULT_RULES = {
    "critical": Rule(match=("verbatim",)),
    "high": Rule(match=("template",)),
    "medium": Rule(p_value=0.001),
}


@dataclass(frozen=True, slots=True)
class NotifyRule:
    """Of which audits people are told, and how much.

    Attributes:
        on: Outcomes that are told.
        severity: The least severity of a finding that is listed, or that makes an alarm be told.
        most: How many findings a message lists at most.
    """

    on: tuple[str, ...] = ("alarm", "incomplete", "failed")
    severity: str = "low"
    most: int = 10


@dataclass(frozen=True, slots=True)
class Policy:
    """Severities and alarms.

    Attributes:
        rules: By level; the most severe whose rule holds is a finding's, ``low`` if none does.
        least: The least severity that raises the alarm.
        states: The states that do.
        notify: Of which audits people are told.
    """

    rules: Mapping[str, Rule] = field(default_factory=lambda: DEFAULT_RULES)
    least: str = "low"
    states: tuple[str, ...] = ("new",)
    notify: NotifyRule = NotifyRule()

    def as_json(self) -> dict[str, Any]:
        """Return the least severity that alarms, the states that do, and every level's rule."""
        rules = {level: self.rules[level].as_json() for level in LEVELS if level in self.rules}
        return {"severity": self.least, "on": list(self.states), "rules": rules}

    def severity(self, finding: Finding) -> str:
        """Return the level of a finding."""
        held = (lv for lv in LEVELS[:-1] if lv in self.rules and self.rules[lv].holds(finding))
        return next(held, LEVELS[-1])

    def alarms(self, change: Change) -> bool:
        """Whether a change raises the alarm, muting aside.

        A finding that gets worse and thereby reaches the least severity counts as new.
        """
        if change.after is None:
            return False
        is_severe = self.reaches(change.after)
        if change.state == "worse" and change.before is not None:
            return is_severe and ("worse" in self.states or not self.reaches(change.before))
        return is_severe and change.state in self.states

    def reaches(self, finding: Finding) -> bool:
        """Whether a finding is severe enough for an alarm."""
        return LEVELS.index(self.severity(finding)) <= LEVELS.index(self.least)


def load(path: str | Path) -> Policy:
    """Read a policy.

    Example of one::

        [alarm]
        severity = "medium"          # the least that raises the alarm
        on = ["new", "worse"]
        [severity.critical]
        match = ["verbatim"]
        [severity.high]
        level = ["copied", "reproduced"]    # of findings that were drawn again
        [severity.medium]
        p_value = 0.0005
        [notify]
        on = ["alarm", "failed"]
        severity = "high"
        most = 5

    A severity that is not given keeps its usual rule.

    Raises:
        ConfigError: If it cannot be read or says something unknown.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"policy {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"policy {path} is not TOML: {error}") from error
    _known(path, "", content, ("alarm", "severity", "notify"))
    alarm, severity = _table(path, content, "alarm"), _table(path, content, "severity")
    _known(path, "alarm.", alarm, ("severity", "on"))
    _known(path, "severity.", severity, LEVELS[:-1])
    least = alarm.get("severity", "low")
    states = _words(path, "alarm.on", alarm.get("on", ["new"]), STATES)
    if least not in LEVELS:
        raise ConfigError(f"policy {path}: alarm.severity must be one of {_listed(LEVELS)}")
    rules = {level: _rule(path, level, _table(path, severity, level)) for level in severity}
    notify = _notify(path, _table(path, content, "notify"))
    return Policy({**DEFAULT_RULES, **rules}, least, states, notify)


def _notify(path: str | Path, content: dict[str, Any]) -> NotifyRule:
    usual = NotifyRule()
    _known(path, "notify.", content, ("on", "severity", "most"))
    on = _words(path, "notify.on", content.get("on", list(usual.on)), OUTCOMES)
    severity, most = content.get("severity", usual.severity), content.get("most", usual.most)
    if severity not in LEVELS:
        raise ConfigError(f"policy {path}: notify.severity must be one of {_listed(LEVELS)}")
    if not isinstance(most, int) or isinstance(most, bool) or not 0 <= most <= MOST_TOLD:
        raise ConfigError(f"policy {path}: notify.most must be from 0 to {MOST_TOLD}, got {most!r}")
    return NotifyRule(on, severity, most)


def _rule(path: str | Path, level: str, content: dict[str, Any]) -> Rule:
    where = f"severity.{level}"
    _known(path, f"{where}.", content, ("match", "p_value", "copies", "level"))
    p_value, copies = content.get("p_value"), content.get("copies", 1)
    if p_value is not None and not (_is_number(p_value) and 0 < p_value <= 1):
        raise ConfigError(f"policy {path}: {where}.p_value must be in 0..1, got {p_value!r}")
    if not isinstance(copies, int) or isinstance(copies, bool) or copies < 1:
        raise ConfigError(f"policy {path}: {where}.copies must be at least 1, got {copies!r}")
    match = _words(path, f"{where}.match", content.get("match", []), (*MATCHES, "plain", "none"))
    known = _words(path, f"{where}.level", content.get("level", []), KNOWN)
    return Rule(match, p_value, copies, known)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _table(path: str | Path, content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"policy {path}: {name} must be a table, got {found!r}")
    return found


def _words(path: str | Path, name: str, found: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(found, list) or any(word not in allowed for word in found):
        raise ConfigError(f"policy {path}: {name} must be a list of {_listed(allowed)}")
    return tuple(found)


def _known(path: str | Path, where: str, content: dict[str, Any], names: tuple[str, ...]) -> None:
    if unknown := sorted(set(content) - set(names)):
        raise ConfigError(
            f"policy {path}: {where}{unknown[0]} is unknown; there are {_listed(names)}"
        )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def in_words(policy: Mapping[str, Any]) -> str:
    """Return what `Policy.as_json` says, for people; empty if nothing is known.

    Example:
        >>> in_words(Policy(rules={"critical": Rule(("verbatim",))}, least="critical").as_json())
        'new findings of severity critical alarm; critical: verbatim; low: the others'
    """
    if not policy:
        return ""
    least, states = policy["severity"], " or ".join(policy["on"])
    bound = "" if least == LEVELS[-1] else f" of severity {least}"
    bound += " or worse" if bound and least != LEVELS[0] else ""
    rules = []
    for level, rule in policy["rules"].items():
        asked = [" or ".join(rule["match"])] if rule["match"] else []
        asked += [f"p ≤ {rule['p_value']:g}"] if rule["p_value"] is not None else []
        asked += [f"{rule['copies']} copies or more"] if rule["copies"] > 1 else []
        asked += [" or ".join(rule["level"])] if rule.get("level") else []
        rules.append(f"{level}: {' and '.join(asked) or 'any'}")
    return "; ".join([f"{states} findings{bound} alarm", *rules, f"{LEVELS[-1]}: the others"])

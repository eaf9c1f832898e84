"""Messages and webhooks at the end of a scan or an audit, each at most once."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from scanner.errors import OutputError, ResultsError
from scanner.nightly.policy import LEVELS, NotifyRule
from scanner.notify.channels import Channel, names
from scanner.notify.delivery import Say, Send, sent
from scanner.notify.outcome import INTERRUPTED, Outcome, Start
from scanner.notify.webhook import Webhook
from scanner.notify.wording import body, title
from scanner.parsing import from_json
from scanner.results.stores import Store

LEDGER = "notified.json"


class Messages:
    """Tells people by channels, and programs by webhooks; a `Callback`.

    Args:
        channels: Of people, who are told what the rule wants.
        webhooks: Of programs, which are told everything.
        say: Takes a line about each.
        rule: What people want to know; null for everything.
        ledger: Where it is remembered what was told; null where nothing is told twice anyway.
    """

    def __init__(
        self, channels: Sequence[Channel], webhooks: Sequence[Webhook], say: Say,
        rule: NotifyRule | None = None, ledger: Store | None = None,
    ) -> None:  # fmt: skip
        self._channels, self._webhooks = tuple(channels), tuple(webhooks)
        self._say, self._rule = say, rule
        self._ledger = None if ledger is None else Ledger(ledger)

    def started(self, start: Start) -> None:
        """Do nothing."""

    def progress(self, event: object) -> None:
        """Do nothing."""

    def finished(self, outcome: Outcome, folder: Path | None) -> None:
        """Tell everyone who wants to know and does not yet; say in a line who could not be told."""
        sends = dict[str, Send]()
        told = self._ledger.told(outcome) if self._ledger is not None else []
        if wanted(outcome, self._rule):
            least, most = of_rule(self._rule)
            message = title(outcome), body(outcome, least=least, most=most), outcome.word
            labels = names([channel.scheme for channel in self._channels])
            for name, channel in zip(labels, self._channels, strict=True):
                sends[name] = partial(channel.send, *message)
        if outcome.word != INTERRUPTED:
            labels = names([webhook.scheme for webhook in self._webhooks])
            for name, webhook in zip(labels, self._webhooks, strict=True):
                sends[name] = partial(webhook.send, outcome)
        self._tell(outcome, {name: send for name, send in sends.items() if name not in told}, told)

    def _tell(self, outcome: Outcome, sends: Mapping[str, Send], told: list[str]) -> None:
        failed = sent(sends) if sends else {}
        for name, why in failed.items():
            self._say(f"{name} was not told that {title(outcome)}: {why}", True)
        done = [name for name in sends if name not in failed]
        if not done:
            return
        self._say(f"told {', '.join(done)}: {title(outcome)}", False)
        if self._ledger is not None:
            try:
                self._ledger.remember(outcome, [*told, *done])
            except (OutputError, ResultsError) as error:
                self._say(f"what was told may be told again: {error}", True)


class Ledger:
    """Who was told of the last audit, and with which word.

    Args:
        store: Where its file is, `LEDGER`, which holds schemes and no address.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def told(self, outcome: Outcome) -> list[str]:
        """Return who was told this word of this audit."""
        found = self._words(outcome).get(outcome.word, [])
        return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []

    def remember(self, outcome: Outcome, who: list[str]) -> None:
        """Note who was told.

        Raises:
            OutputError: If it cannot be written.
            ResultsError: If the bucket takes nothing.
        """
        words = {**self._words(outcome), outcome.word: who}
        content = json.dumps({"audit": outcome.name, "told": words}, indent=1)
        self._store.put(LEDGER, content.encode())

    def _words(self, outcome: Outcome) -> dict[str, object]:
        try:
            content = from_json(self._store.read(LEDGER) or b"")
        except (OSError, ValueError, ResultsError):
            return {}  # to tell twice is better than never
        if not isinstance(content, dict) or content.get("audit") != outcome.name:
            return {}
        words = content.get("told")
        return words if isinstance(words, dict) else {}


def wanted(outcome: Outcome, rule: NotifyRule | None) -> bool:
    """Return whether people want to know of an outcome."""
    if outcome.word == INTERRUPTED:
        return False
    if rule is None:
        return True
    least, _ = of_rule(rule)
    if outcome.word == "ALARM" and not any(top.severity in least for top in outcome.findings):
        return False
    return outcome.word.lower() in rule.on


def of_rule(rule: NotifyRule | None) -> tuple[tuple[str, ...], int]:
    """Return the severities that are listed, and how many findings at most."""
    rule = rule or NotifyRule()
    return LEVELS[: LEVELS.index(rule.severity) + 1], rule.most

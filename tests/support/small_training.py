"""A training of the testbed on a few pictures of each kind."""

from collections import Counter

from scanner.testbed import train


def few_pictures(monkeypatch, module) -> None:
    """Have a module's ``training_set`` give six pictures a kind, and save at every step."""
    whole, steps = module.training_set, train._steps

    def few(seed):
        kinds, kept = Counter(), []
        for item, copy in whole(seed):
            kinds[item.kind] += 1
            if kinds[item.kind] <= 6:
                kept.append((item, copy))
        return kept

    monkeypatch.setattr(module, "training_set", few)
    monkeypatch.setattr(train, "_steps", lambda *args: steps(*args, every=1))

"""A device says what it is at: the stage, how many draws, and the share of their evaluations."""

import pytest

from scanner.activity import Activity
from scanner.models.gaussian import Gaussian
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

CAPTIONS = [Caption("s.tar", f"k{n}", f"a caption {n}") for n in range(4)]


class Watched(Gaussian):
    """Notes what the scanner says at each of its own evaluations."""

    def watch(self, scanner):
        self.scanner, self.seen = scanner, []

    def score(self, x, level, condition):
        self.seen.append(self.scanner.activity())
        return super().score(x, level, condition)


@pytest.mark.parametrize("screen", [None, 0.0])
def test_shares_rise_to_the_end_of_each_batch_and_draws_add_up(screen):
    model = Watched("cpu")
    spec = ScanSpec(steps=5, probes=4, localize="all", threshold=0.0, screen=screen)
    scanner = Scanner(model, spec, batch_size=2)
    model.watch(scanner)
    assert scanner.activity() == Activity()
    scanner.scan(CAPTIONS)
    stages = [one.stage for one in model.seen]
    expected = ["sampling", "maps"] if screen is None else ["screening", "sampling", "maps"]
    assert list(dict.fromkeys(stages)) == expected
    assert {one.draws for one in model.seen} == {2}
    sampling = [one for one in model.seen if one.stage == "sampling"]
    assert [one.done for one in sampling] == sorted(one.done for one in sampling)
    batches = [[one.share for one in sampling if one.done == done] for done in (0, 2)]
    for shares in batches:
        assert shares[0] == 0
        assert shares == sorted(shares)
        assert 0.5 < shares[-1] < 1
    assert scanner.activity() == Activity(done=4)


def test_a_batch_that_fails_is_left(monkeypatch):
    class Broken(Gaussian):
        def score(self, x, level, condition):
            raise ValueError("broken")

    scanner = Scanner(Broken("cpu"), ScanSpec(steps=2), batch_size=2)
    with pytest.raises(ValueError, match="broken"):
        scanner.scan(CAPTIONS)
    assert scanner.activity().stage == ""

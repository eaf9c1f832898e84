"""Draws of several chunks localized together: full batches, the same rows, failures apart."""

import pytest

from scanner.models.gaussian import Gaussian
from scanner.records import Caption
from scanner.scan.batcher import LONGEST_WAIT_CHUNKS, LocalizationBatcher
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

SPEC = ScanSpec(steps=3, probes=4, threshold=1000.0)
PLAIN = [f"caption {i}" for i in range(200)]
STRIKING = [t for t in PLAIN if Gaussian().encode([t])[0, 1].min() < 0.01]
DULL = [t for t in PLAIN if t not in STRIKING]


def chunk(name, striking, dull=3):
    texts = [*striking, *(DULL.pop() for _ in range(dull))]
    return [Caption(f"{name}.tar", f"{name}{i}", text) for i, text in enumerate(texts)]


@pytest.fixture
def watched():
    scanner = Scanner(Gaussian(), SPEC, batch_size=4)
    sizes, localize = [], scanner._localization.localize_batch

    def counting(networks, items):
        sizes.append(len(items))
        localize(networks, items)

    scanner._localization.localize_batch = counting
    return scanner, sizes


def test_draws_of_several_chunks_fill_a_batch_and_their_rows_are_those_of_each_alone(watched):
    scanner, sizes = watched
    chunks = [chunk(n, STRIKING[i : i + 2]) for i, n in ((0, "a"), (2, "b"))]
    gathering = LocalizationBatcher(scanner)
    assert gathering.add(scanner.detect(chunks[0])) == []
    done = gathering.add(scanner.detect(chunks[1]))
    assert sizes == [4]
    assert [error for _, error in done] == [None, None]
    for (work, _), captions in zip(done, chunks, strict=True):
        alone = Scanner(Gaussian(), SPEC, batch_size=3).scan(captions)
        together = scanner.rows(work)
        assert together.scores == alone.scores
        assert together.masks == alone.masks
        assert work.cost.evaluations["draws"] == 5
        assert work.cost.evaluations["forward"] == 5 * 6 + 2 * 2


def test_a_chunk_waits_for_no_more_than_so_many_others(watched):
    scanner, sizes = watched
    gathering = LocalizationBatcher(scanner)
    assert gathering.add(scanner.detect(chunk("a", STRIKING[4:5]))) == []
    for n in range(LONGEST_WAIT_CHUNKS - 1):
        assert len(gathering.add(scanner.detect(chunk(f"w{n}", [])))) == 1
    assert sizes == []
    assert len(gathering.add(scanner.detect(chunk("z", [])))) == 2
    assert sizes == [1]
    assert not len(gathering)


def test_nothing_is_left_behind_by_a_flush(watched):
    scanner, sizes = watched
    gathering = LocalizationBatcher(scanner)
    gathering.add(scanner.detect(chunk("a", STRIKING[5:7])))
    gathering.add(scanner.detect(chunk("b", STRIKING[7:8])))
    assert len(gathering.flush()) == 2
    assert sizes == [3]
    assert gathering.flush() == []


def test_a_chunk_whose_maps_fail_takes_no_other_along(watched):
    scanner, _ = watched
    counting = scanner._localization.localize_batch

    def failing(networks, items):
        if any(item.draw.text == STRIKING[8] for item in items):
            raise ValueError("no such luck")
        counting(networks, items)

    scanner._localization.localize_batch = failing
    gathering = LocalizationBatcher(scanner)
    gathering.add(scanner.detect(chunk("good", STRIKING[9:11])))
    done = gathering.add(scanner.detect(chunk("bad", [STRIKING[8], STRIKING[11]])))
    verdicts = {work.captions[0].shard: error for work, error in done}
    assert verdicts["good.tar"] is None
    assert str(verdicts["bad.tar"]) == "no such luck"


def test_a_copy_of_a_localized_caption_costs_nothing_and_has_the_same_rows():
    scanner = Scanner(Gaussian(), SPEC, batch_size=4)
    first = scanner.scan(chunk("a", STRIKING[:1]))
    spent = scanner.evaluations.copy()
    again = scanner.scan([Caption("b.tar", "copy", STRIKING[0])])
    assert scanner.evaluations == spent
    assert [r.delta_s for r in again.scores] == [first.scores[0].delta_s]
    assert [m.heatmap for m in again.masks] == [m.heatmap for m in first.masks]
    assert {m.caption.key for m in again.masks} == {"copy"}

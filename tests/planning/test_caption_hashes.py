import numpy as np
import pytest
from webdataset.writer import TarWriter

from scanner.planning.caption_hashes import REJECTED, DistinctCounter, hash_captions
from scanner.records import caption_hash


def shard(path, captions):
    with TarWriter(str(path)) as writer:
        for number, caption in enumerate(captions):
            writer.write({"__key__": f"{number:04d}", "txt": caption.encode()})
    return str(path)


def test_a_census_has_every_captions_hash_in_order_and_why_a_sample_has_none(tmp_path):
    found = hash_captions(shard(tmp_path / "a.tar", ["one", " ", "two", "one"]), 2, frozenset())
    assert found.index is not None
    assert [chunk.samples for chunk in found.index.chunks] == [2, 2]
    expected = [int(caption_hash(text)[:16], 16) for text in ("one", "two", "one")]
    assert found.hashes is not None
    assert found.hashes.tolist() == [expected[0], REJECTED, expected[1], expected[2]]
    assert found.reasons == ("empty_caption",)


def test_a_finished_shard_is_not_opened(tmp_path):
    url = shard(tmp_path / "a.tar", ["one"])
    whole = hash_captions(url, 2, frozenset())
    assert whole.shard is not None
    assert hash_captions(url, 2, frozenset({whole.shard.id})).index is None


def test_what_is_no_shard_is_a_problem_and_no_exception(tmp_path):
    missing = hash_captions(str(tmp_path / "none.tar"), 2, frozenset())
    assert (missing.shard, missing.is_usable) == (None, True)
    assert "none.tar" in (missing.problem or "")
    (tmp_path / "text.tar").write_text("no tar at all " * 100)
    found = hash_captions(str(tmp_path / "text.tar"), 2, frozenset())
    assert found.problem or (found.index and found.index.problem)


def test_distinct_is_exact_while_it_has_room_however_the_hashes_come():
    hashes = np.random.default_rng(0).integers(1, 2**64, 1000, np.uint64)
    whole, parts = DistinctCounter(1000), DistinctCounter(1000)
    whole.add(np.tile(hashes, 3))
    for start in range(0, 1000, 7):
        parts.add(hashes[start : start + 7])
        parts.add(hashes[:start])
    assert whole.count() == parts.count() == (1000, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_beyond_its_room_distinct_estimates_within_its_stated_error(seed):
    """Four standard errors: five fixed seeds, which all stay below three."""
    hashes = np.random.default_rng(seed).integers(1, 2**64, 100_000, np.uint64)
    counted = DistinctCounter(1026)
    for part in np.array_split(np.concatenate([hashes, hashes[::2]]), 100):
        counted.add(part)
    number, error = counted.count()
    assert error == pytest.approx(1 / 32)
    assert abs(number / 100_000 - 1) < 4 * error

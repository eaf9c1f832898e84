"""What was scored once is found again: by hash, among many, in few bytes."""

import hashlib
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scanner.records import Caption, ChunkResult, ScoreRow, caption_hash
from scanner.results.folder import Results
from scanner.results.score_cache import ScoreCacheReader, ScoreIndex, prefixes_of


@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=20), st.integers(0, 60))
def test_every_caption_is_found_in_the_first_chunk_that_had_it(chunks, wanted):
    index, first = ScoreIndex(), {}
    for number, captions in enumerate(chunks):
        index.add(("run", str(number)), np.array(captions, np.uint64))
        for caption in captions:
            first.setdefault(caption, ("run", str(number)))
    found = index.find(np.array([wanted, 99], np.uint64))
    assert found == ([(first[wanted], [0])] if wanted in first else [])
    assert len(index) == len(first)


def test_a_caption_takes_twelve_bytes_and_a_place_is_found_among_many():
    index, hashes = ScoreIndex(), [hashlib.sha256(b"%d" % n).hexdigest() for n in range(20_000)]
    prefixes = prefixes_of(hashes)
    for n in range(0, 20_000, 250):
        index.add(("r", str(n)), prefixes[n : n + 250])
    assert index.bytes == 12 * 20_000
    assert index.find(prefixes[777:778]) == [(("r", "750"), [0])]
    assert len(index._parts) < 12


def test_rows_come_back_bit_by_bit_and_of_unreadable_files_none_do(tmp_path):
    results, third = Results(tmp_path), 1 / 3
    rows = [
        ScoreRow(Caption("a.tar", text, text), seed, stage="detect", delta_s=third * seed,
                 extra={"wen": 0.1})
        for text in ("one", "two") for seed in (0, 1)
    ]  # fmt: skip
    results.commit("r1", "a-0", ChunkResult(rows), extra=["wen"], facts={"samples": 2})
    index = ScoreIndex()
    index.load(results, ["r1"])
    copy = Caption("b.tar", "k", "two")
    found = ScoreCacheReader(results, index).rows([copy, Caption("b.tar", "l", "three")])
    assert list(found) == [caption_hash("two")]
    assert [(r.caption, r.seed, r.delta_s) for r in found[copy.sha256]] == [
        (copy, 0, 0.0), (copy, 1, third),
    ]  # fmt: skip
    assert found[copy.sha256][0].extra == {"wen": float(np.float32(0.1))}
    (file,) = results.files("scores", ["r1"])
    Path(file).write_bytes(b"not parquet")
    assert ScoreCacheReader(results, index).rows([copy]) == {}

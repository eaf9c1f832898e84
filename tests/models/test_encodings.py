"""Encodings are made once each, from the caption alone, and kept in bounded memory."""

from contextlib import contextmanager

import pytest
import tiny
import torch

from scanner import models
from scanner.models.encodings import ENCODING_BYTES, TOGETHER, EncodingCache
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

TEXTS = ["a red cat", "a much longer caption, of the cat and of the red, by the hill", "", "the"]
FAMILIES = {"sd15": tiny.sd15, **tiny.SERVED}


class Encoders:
    """Text encoders whose work is counted: a caption's encoding says its number of letters."""

    def __init__(self, numbers=100):
        self.opened, self.encoded, self.numbers = 0, [], numbers

    @contextmanager
    def __call__(self):
        self.opened += 1
        yield self._encode

    def _encode(self, captions):
        assert 0 < len(captions) <= TOGETHER
        self.encoded += captions
        return [self._of(caption) for caption in captions]

    def _of(self, caption):
        whole = torch.full((4, self.numbers), float(len(caption)), dtype=torch.float16)
        return {"states": whole[:1], "mask": torch.ones(1, 3)}


def held(cache):
    """Return the bytes that a cache really holds on to."""
    parts = [part for parts in cache._kept.values() for part in parts.values()]
    return sum(
        {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in parts}.values()
    )


def test_a_caption_is_encoded_once_and_keeps_its_precision():
    cache, encoders = EncodingCache(), Encoders()
    first = cache.of(["a", "bb", "a"], "", encoders)
    again = cache.of(["bb", "a"], "", encoders)
    assert encoders.encoded == ["a", "bb"]
    assert encoders.opened == 1
    assert [float(parts["states"][0, 0]) for parts in (*first, *again)] == [1, 2, 1, 2, 1]
    assert {parts["states"].dtype for parts in first} == {torch.float16}
    assert cache.of([""], "", encoders)
    assert encoders.opened == 2


def test_what_one_encoder_gave_is_not_taken_for_anothers():
    cache, encoders = EncodingCache(), Encoders()
    cache.of(["a"], "", encoders)
    cache.of(["a"], "without adapters", encoders)
    assert encoders.encoded == ["a", "a"]
    cache.of(["a"], "without adapters", encoders)
    assert encoders.opened == 2


def test_memory_is_bounded_and_the_longest_unused_leaves_first():
    each = 100 * 2 + 3 * 4
    cache, encoders = EncodingCache(room=10 * each), Encoders()
    for number in range(100):
        cache.of([f"caption {number}", "always"], "", encoders)
        assert held(cache) == cache.taken <= 10 * each
    assert held(cache) == 10 * each
    assert encoders.encoded.count("always") == 1
    assert len(encoders.encoded) == 101
    cache.of(["caption 99"], "", encoders)
    assert len(encoders.encoded) == 101
    cache.of(["caption 0"], "", encoders)
    assert len(encoders.encoded) == 102


def test_an_encoding_larger_than_the_room_is_given_and_not_kept():
    cache, encoders = EncodingCache(room=10), Encoders()
    assert cache.of(["a", "a"], "", encoders)[1]["states"].shape == (1, 100)
    assert (cache.taken, held(cache)) == (0, 0)


def test_what_comes_next_is_encoded_along_up_to_half_of_the_room():
    each = 100 * 2 + 3 * 4
    cache, encoders = EncodingCache(room=40 * each), Encoders()
    coming = [f"caption {n}" for n in range(60)]
    cache.of(coming[:2], "", encoders, coming)
    assert encoders.opened == 1
    assert 20 <= len(encoders.encoded) - 2 <= 20 + TOGETHER
    assert encoders.encoded == coming[: len(encoders.encoded)]
    cache.of(coming[2:4], "", encoders, coming)
    assert encoders.opened == 1


def test_many_captions_go_in_groups_and_come_back_in_their_order():
    cache, encoders = EncodingCache(), Encoders()
    captions = ["x" * n for n in range(3 * TOGETHER + 2)]
    found = cache.of(captions, "", encoders)
    assert [float(parts["states"][0, 0]) for parts in found] == list(range(len(captions)))
    assert encoders.opened == 1


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "model"
    side = {"qwen_image": 64, "sana": 32}.get(request.param)
    return models.load(str(tiny.save(FAMILIES[request.param], folder)), side=side)


@pytest.fixture
def texts(model):
    """Return captions of different lengths; of a class-conditional model, classes."""
    return ["a red cat", "134", "", "999"] if model.family.encoder == "labels" else TEXTS


def test_a_row_is_of_its_caption_alone_in_every_family(model, texts):
    together = model.encode(texts)
    model.text.cache = EncodingCache(room=0)
    more = [f"{text} {n}".strip() for n in range(5) for text in texts]
    if model.family.encoder == "labels":
        more = [str(n) for n in range(20)]
    for some in (texts[::-1], texts[1:3], texts + texts, more + texts, texts[2:] + more):
        rows = model.encode(some)
        for text, row in zip(some, rows, strict=True):
            if text in texts:
                assert torch.equal(row, together[texts.index(text)])
    model.text.cache = EncodingCache()
    assert torch.equal(model.encode(texts), together)
    assert torch.equal(model.encode(texts), together)
    assert len({tuple(row.flatten().tolist()) for row in together}) == len(texts)


def test_a_batch_of_the_encoder_would_differ_by_rounding_alone(model, texts):
    """Padding to the longest of a batch changes no row: only kernels round differently."""
    from scanner.models.conditions import ENCODERS

    parts = ENCODERS[model.family.encoder].encode(model.pipeline, texts)
    for number, text in enumerate(texts):
        alone = ENCODERS[model.family.encoder].encode(model.pipeline, [text])
        for name, part in parts.items():
            torch.testing.assert_close(part[number], alone[name][0], rtol=1e-5, atol=2e-6)


def test_a_scan_has_the_same_rows_with_and_without_the_cache(model, texts):
    spec = ScanSpec(seeds=(0, 1), steps=3, localize="all", probes=2, store_image=False)
    captions = [Caption("s.tar", f"k{n}", text) for n, text in enumerate(texts[:2])]
    found, times = [], []
    encode = model.text._running
    for room in (ENCODING_BYTES, 0):
        opened = []
        model.text.cache = EncodingCache(room)
        model.text._running = lambda off, opened=opened: opened.append(off) or encode(off)
        result = Scanner(model, spec, batch_size=2).scan(captions)
        del model.text._running
        assert not result.rejects
        rows = [(row.caption.key, row.seed, row.delta_s, row.extra) for row in result.scores]
        found.append((rows, [mask.heatmap for mask in result.masks]))
        times.append(len(opened))
    assert found[0] == found[1]
    assert len(found[0][1]) == 4 * 3
    assert times[0] == 3  # the first caption, the empty one and the second caption
    assert times[1] > times[0]

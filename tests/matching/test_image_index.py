import io

import numpy as np
import pytest
import webdataset
from PIL import Image

from scanner import pictures
from scanner.matching.image_index import ImageIndex
from scanner.records import caption_hash
from scanner.shards import reading


def png(level: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), level, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def shard(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        tar.write({"__key__": "k0", "txt": "one", "png": png(10), "json": {"url": "http://x/0"}})
        tar.write({"__key__": "k1", "png": png(20)})
        tar.write({"__key__": "k2", "txt": "two", "png": b"not an image"})
        tar.write({"__key__": "k3", "txt": "one", "png": png(30)})
    return reading.stat(str(tmp_path / "a.tar"))


def test_every_sample_has_a_row_in_its_place(tmp_path, shard):
    catalogue = ImageIndex(tmp_path / "c")
    assert catalogue.fill([shard], images=True) == {}
    (entries,) = catalogue.entries([shard])
    assert entries.keys == ["k0", "k1", "k2", "k3"]
    one, two = caption_hash("one"), caption_hash("two")
    assert entries.hashes == [one, None, two, one]
    assert entries.urls == ["http://x/0", None, None, None]
    assert entries.sketched.tolist() == [0, 3]
    assert entries.sketches.shape == (2, pictures.SKETCH**2 * 3)
    assert [set(row) for row in entries.sketches.tolist()] == [{10}, {30}]
    assert entries.prefixes.tolist() == [int(one[:16], 16), 0, int(two[:16], 16), int(one[:16], 16)]


def test_a_shard_is_read_once_and_again_only_for_its_images(tmp_path, shard):
    catalogue, read = ImageIndex(tmp_path / "c"), []

    def fill(images):
        catalogue.fill([shard], images=images, progress=lambda d, t, w: read.append(images))

    for images in (False, False, True, True, False):
        fill(images)
    assert read == [False, True]
    assert catalogue.has_sketches([shard])


def test_what_cannot_be_read_is_named_and_what_is_forgotten_is_gone(tmp_path, shard):
    catalogue = ImageIndex(tmp_path / "c")
    catalogue.fill([shard], images=True)
    other = reading.Shard(str(tmp_path / "gone.tar"), 5, "")
    assert list(catalogue.fill([shard, other], images=True)) == [other.url]
    assert [e.shard for e in catalogue.entries([other, shard])] == [shard]
    catalogue.forget(but=set())
    assert list(catalogue.entries([shard])) == []

"""What is planted is planted, what is not is not, and nothing leaks between splits."""

import io
import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scanner import masks
from scanner.records import caption_hash
from scanner.testbed import corpus, make


@pytest.fixture(scope="module")
def planted():
    return corpus.planted(5)


def test_a_verbatim_picture_is_always_the_same(planted):
    item = next(i for i in planted if i.kind == "verbatim")
    assert np.array_equal(corpus.picture(5, item, 0), corpus.picture(5, item, 99))
    assert item.mask.all()


def test_a_template_is_fixed_inside_its_mask_and_free_outside(planted):
    items = [i for i in planted if i.kind == "template"]
    for item in items:
        a, b = corpus.picture(5, item, 0), corpus.picture(5, item, 1)
        differs = (a != b).any(axis=2)
        assert not differs[item.mask].any()
        assert differs[~item.mask].mean() > 0.9
        assert 0.15 < item.mask.mean() < 0.85
    assert {i.caption.split(" ", 2)[2] for i in items} == {
        f"{what} custom design" for what in corpus.LAYOUTS.values()
    }


def test_hard_negatives_are_worded_like_planted_titles_and_new_every_time(planted):
    for kind in ("name", "art"):
        item = next(i for i in planted if i.kind == kind)
        assert item.caption.startswith("the ")
        assert (corpus.picture(5, item, 0) != corpus.picture(5, item, 1)).mean() > 0.5
        assert not item.memorized


def test_traps_are_flat_around_their_shape():
    for item in corpus.negatives(5, "evaluation", "trap", 20):
        ground = corpus.PLAIN[item.caption.split()[-2]]
        flat = (corpus.picture(5, item, 3) == ground).all(axis=2)
        assert flat.mean() > 0.5


def test_splits_share_no_caption_and_pictures_depend_on_their_key_alone():
    splits = {
        split: {
            i.caption
            for kind in ("scene", "texture", "trap")
            for i in corpus.negatives(5, split, kind, 50)
        }
        for split in ("train", "calibration", "evaluation")
    }
    assert not splits["train"] & splits["evaluation"]
    assert not splits["train"] & splits["calibration"]
    assert not splits["calibration"] & splits["evaluation"]
    item = corpus.negatives(5, "evaluation", "scene", 3)[2]
    again = corpus.negatives(5, "evaluation", "scene", 3)[2]
    assert np.array_equal(corpus.picture(5, item, 7), corpus.picture(5, again, 7))
    assert not np.array_equal(corpus.picture(5, item, 7), corpus.picture(6, item, 7))


def test_more_captions_than_there_are_is_an_error_not_a_hang():
    with pytest.raises(ValueError, match=r"evaluation holds only about .* trap captions, not 500"):
        corpus.negatives(5, "evaluation", "trap", 500)


def test_corpora_of_two_seeds_plant_different_things():
    first, second = ({i.caption for i in corpus.planted(seed) if i.memorized} for seed in (1, 2))
    assert not first & second


def test_shards_and_truth_agree(tmp_path):
    items = make.evaluation_items(5, 12)
    paths = make.write_shards(5, items, tmp_path, "evaluation", per_shard=40)
    make.write_truth(items, tmp_path / "truth.parquet")
    truth = {
        row["caption_sha256"]: row for row in pq.read_table(tmp_path / "truth.parquet").to_pylist()
    }
    by_caption = {i.caption: i for i in items}
    seen = 0
    for path in paths:
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar}
        keys = {name.split(".")[0] for name in members}
        for key in keys:
            caption = members[f"{key}.txt"].decode()
            about = json.loads(members[f"{key}.json"])
            assert not {"kind", "memorized"} & set(about)
            row, item = truth[caption_hash(caption)], by_caption[caption]
            image = np.asarray(Image.open(io.BytesIO(members[f"{key}.png"])))
            assert row["memorized"] == item.memorized
            if item.memorized:
                mask = masks.from_runs(row["mask"], row["height"], row["width"])
                assert np.array_equal(mask, item.mask)
                assert np.array_equal(image[mask], corpus.picture(5, item, 0)[mask])
            seen += 1
    assert seen == len(items) == len(truth)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    items = make.calibration_items(5, 8)
    first = make.write_shards(5, items, tmp_path / "a", "c")
    second = make.write_shards(5, items, tmp_path / "b", "c")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]

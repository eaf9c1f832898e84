import csv
import io
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import webdataset
from made_results import commit, mask, score
from PIL import Image, ImageEnhance

from scanner import pictures
from scanner.analysis.findings import findings
from scanner.analysis.query import connect
from scanner.matching import copies
from scanner.matching.image_index import ImageIndex
from scanner.nightly.removal import write_removal
from scanner.records import caption_hash
from scanner.shards import reading
from scanner.testbed import corpus

LEFT = np.where(np.arange(16)[None, :].repeat(16, 0) < 8, 5.0, -1.0)
A, B, C, D = (corpus.art(np.random.default_rng(n)) for n in range(4))
HALF = np.where(np.arange(64)[None, :, None] < 32, B, C)


def encoded(pixels, kind="PNG", **more) -> bytes:
    image, out = pixels, io.BytesIO()
    if not isinstance(pixels, Image.Image):
        image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(out, kind, **more)
    return out.getvalue()


def brighter(pixels):
    return ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(1.15)


def cropped(pixels):
    image = Image.fromarray(pixels)
    return image.resize((64, 64), Image.Resampling.BICUBIC, box=(3, 2, 62, 61))


class Corpus:
    def __init__(self, make, folder) -> None:
        self.results, self.folder = make(), folder
        self.catalogue = ImageIndex(folder / "catalogue")
        self.shards: list[reading.Shard] = []

    def put(self, name, samples):
        path = str(self.folder / f"{name}.tar")
        with webdataset.TarWriter(path) as tar:
            for key, (text, content) in samples.items():
                tar.write({"__key__": key, "txt": text, "png": content})
        self.shards.append(reading.stat(path))
        return path

    def finding(self, shard, key, text, generated, match):
        row = score(text, 9.0, key=key, shard=shard, flagged=True, p_value=0.01, stage="localize")
        local = mask(text, LEFT, threshold=1.0, image=encoded(generated, "JPEG", quality=92))
        local = replace(local, caption=row.caption, match=match, match_mse=0.0)
        commit(self.results, "r1", [row], [local], chunk=key)

    def searched(self):
        self.catalogue.fill(self.shards, images=True)
        with closing(connect(self.results)) as con:
            found = findings(con)
            return copies.search(con, found, self.shards, self.catalogue, reading.images)


@pytest.fixture
def planted(make, tmp_path):
    return Corpus(make, tmp_path)


def places(group):
    return {copy.key: copy.match for copy in group.copies}


def test_a_verbatim_copy_is_found_in_every_shard_under_any_caption_and_however_encoded(planted):
    a = planted.put("a", {"own": ("one", encoded(A)), "other": ("two", encoded(C))})
    planted.put("b", {
        "jpeg": ("three", encoded(A, "JPEG", quality=50)), "bright": ("four", encoded(brighter(A))),
        "crop": ("five", encoded(cropped(A))), "broken": ("six", b"no image"),
        "unlike": ("one", encoded(D)),
    })  # fmt: skip
    planted.finding(a, "own", "one", A, "verbatim")
    group = planted.searched()[caption_hash("one")]
    assert places(group) == dict.fromkeys(("own", "jpeg", "bright", "crop"), "verbatim")
    assert all(copy.same_image for copy in group.copies)
    by_key = {copy.key: copy for copy in group.copies}
    assert by_key["crop"].caption_sha256 == caption_hash("five")
    assert by_key["own"].mse < by_key["bright"].mse < pictures.MATCH_MSE
    assert copies.explain(group) == "4 images of the corpus copy it"


def test_a_template_is_found_by_its_region_alone(planted):
    a = planted.put("a", {"own": ("one", encoded(B)), "far": ("two", encoded(A))})
    planted.put("b", {
        "half": ("three", encoded(np.where(np.arange(64)[None, :, None] < 32, B, D))),
        "wrong half": ("four", encoded(np.where(np.arange(64)[None, :, None] < 32, D, C))),
    })  # fmt: skip
    planted.finding(a, "own", "one", HALF, "template")
    group = planted.searched()[caption_hash("one")]
    assert places(group) == {"own": "template", "half": "template"}


def test_what_matches_nothing_of_its_own_is_still_found_elsewhere(planted):
    a = planted.put("a", {"own": ("one", encoded(C)), "source": ("two", encoded(A))})
    planted.finding(a, "own", "one", A, "none")
    (copy,) = planted.searched()[caption_hash("one")].copies
    assert (copy.key, copy.match, copy.same_image) == ("source", "verbatim", False)


def test_a_plain_surface_is_no_copy_of_another(planted):
    plain = np.full((64, 64, 3), 250, np.uint8)
    dotted = plain.copy()
    dotted[40:48, 40:48] = (200, 30, 30)
    a = planted.put("a", {"own": ("one", encoded(plain)), "dot": ("two", encoded(dotted))})
    planted.finding(a, "own", "one", plain, "verbatim")
    group = planted.searched()[caption_hash("one")]
    assert (group.copies, group.is_plain) == ([], True)
    assert "too plain" in copies.explain(group)


def test_nothing_is_said_of_a_corpus_without_images(planted):
    path = str(planted.folder / "t.tar")
    with webdataset.TarWriter(path) as tar:
        tar.write({"__key__": "k", "txt": "one"})
    planted.shards.append(reading.stat(path))
    planted.finding(path, "k", "one", A, None)
    assert planted.searched() == {}


def test_the_removal_list_names_samples_by_caption_by_image_and_by_both(planted, tmp_path):
    a = planted.put("a", {"own": ("one", encoded(A)), "twin": ("one", encoded(D)),
                          "copy": ("two", encoded(A))})  # fmt: skip
    planted.finding(a, "own", "one", A, "verbatim")
    rest = [score("one", 9.0, key="twin", shard=a, flagged=True),
            score("two", 0.1, key="copy", shard=a, flagged=False)]  # fmt: skip
    commit(planted.results, "r1", rest, chunk="rest")
    groups, sha = planted.searched(), caption_hash("one")
    row = {"finding": sha, "sha": sha, "image": None, "severity": "high", "state": "new",
           "match": "verbatim", "p_value": 0.01, "delta_s": 9.0, "copies": 2,
           "muted": None}  # fmt: skip
    with closing(connect(planted.results)) as con:
        assert write_removal(con, [row], tmp_path, redact=False, groups=groups) == 3
    with (tmp_path / "removal.csv").open(newline="") as stream:
        rows = {row["key"]: row for row in csv.DictReader(stream)}
    because = {key: (row["because"], row["caption"]) for key, row in rows.items()}
    assert because == {"own": ("caption and image", "one"), "twin": ("caption", "one"),
                       "copy": ("image", "two")}  # fmt: skip
    assert rows["copy"]["caption_sha256"] == caption_hash("two")
    assert {row["finding"] for row in rows.values()} == {sha}

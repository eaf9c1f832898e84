"""Retrieval against brute force over all pixels, and of what the shipped pipeline gives back."""

import io
import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import webdataset
from made_results import commit, mask, score
from PIL import Image
from typer.testing import CliRunner

from scanner import models, pictures
from scanner.analysis.captions_and_maps import captions
from scanner.analysis.findings import findings
from scanner.analysis.query import connect
from scanner.cli import app
from scanner.matching import retrieval
from scanner.matching.image_index import ImageIndex
from scanner.records import Caption, caption_hash
from scanner.report import page, panel
from scanner.results.folder import Results
from scanner.scan.scanner import Scanner
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus

RNG = np.random.default_rng(0)
ART = [corpus.art(np.random.default_rng(n)) for n in range(40)]
LEFT = np.where(np.arange(16)[None, :].repeat(16, 0) < 8, 5.0, -1.0)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG")
    return out.getvalue()


def shard(folder, name, samples):
    path = str(folder / f"{name}.tar")
    with webdataset.TarWriter(path) as tar:
        for key, (text, pixels) in samples.items():
            tar.write({"__key__": key, "txt": text, "png": png(pixels)})
    return path


def noisy(pixels, by):
    return np.clip(pixels + RNG.normal(0, by, pixels.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def searched(make, tmp_path):
    """Forty pictures in two shards; some captions give back another caption's, or half of it."""
    paths = [
        shard(tmp_path, name, {f"k{n:02}": (f"caption {n}", ART[n]) for n in numbers})
        for name, numbers in (("a", range(20)), ("b", range(20, 40)))
    ]
    half = np.where(np.arange(64)[None, :, None] < 32, ART[30], RNG.integers(0, 256, (64, 64, 3)))
    given = {
        0: noisy(ART[0], 5), 1: noisy(ART[25], 5), 2: half.astype(np.uint8),
        3: corpus.art(np.random.default_rng(99)),
    }  # fmt: skip
    results, rows, maps = make(), [], []
    for number, pixels in given.items():
        text, key = f"caption {number}", f"k{number:02}"
        rows.append(score(text, 9.0, key=key, shard=paths[0], flagged=True, stage="localize"))
        local = mask(text, LEFT, threshold=1.0, image=png(pixels))
        maps.append(replace(local, caption=rows[-1].caption, match="none", match_mse=0.1))
    commit(results, "r1", rows, maps)
    there = [reading.stat(path) for path in paths]
    catalogue = ImageIndex(tmp_path / "catalogue")
    catalogue.fill(there, images=True)
    with closing(connect(results)) as con:
        found = retrieval.retrieve(con, there, catalogue, reading.images)
    return results, paths, given, found


def first(found, number):
    (row,) = [
        r for r in found if r.rank == 1 and r.caption_sha256 == caption_hash(f"caption {number}")
    ]
    return row


def test_the_nearest_image_is_the_one_that_brute_force_over_all_pixels_finds(searched):
    _, _, given, found = searched
    for number in (0, 1, 3):
        errors = [((given[number] / 255 - art / 255) ** 2).mean() for art in ART]
        apart = [(given[number] / 255 - art / 255) ** 2 for art in ART]
        tiles = [
            [square[r : r + 16, c : c + 16].mean() for r in range(0, 64, 16)
             for c in range(0, 64, 16)]
            for square in apart
        ]  # fmt: skip
        best = int(np.argmin(errors))
        row = first(found, number)
        if row.match == "none":  # the smaller of the whole's and the mask's error decides there
            inside = [((given[number] / 255 - art / 255)[:, :32] ** 2).mean() for art in ART]
            errors = np.minimum(errors, inside)
            best = int(np.argmin(errors))
        assert row.key == f"k{best:02}"
        assert row.mse == pytest.approx(errors[best])
        assert row.tiled_l2 == pytest.approx(np.sqrt(max(tiles[best])))


def test_a_copy_of_another_captions_image_is_told_from_one_of_its_own(searched):
    _, _, _, found = searched
    assert {n: (first(found, n).key, first(found, n).explain()) for n in (0, 1, 2)} == {
        0: ("k00", "a copy of its own image"),
        1: ("k25", "a copy of an image of another caption"),
        2: ("k30", "a template copy of an image of another caption"),
    }
    assert first(found, 3).match == "none"
    assert retrieval.counted(found)["a copy of an image of another caption"] == 1
    for row in (0, 1, 2, 3):
        sha = caption_hash(f"caption {row}")
        assert [r.rank for r in found if r.caption_sha256 == sha] == [1, 2, 3]


def test_findings_the_page_the_panel_and_sql_show_what_was_retrieved(searched):
    results, _, _, found = searched
    results.write_retrieved("r1", retrieval.as_rows(found))
    with closing(connect(results, runs=["r1"])) as con:
        by_text = {f.caption: f for f in findings(con)}
        rows = con.execute(
            "SELECT caption, nearest_key FROM findings WHERE nearest_match = 'verbatim' "
            "AND NOT nearest_own"
        ).fetchall()
    assert rows == [("caption 1", "k25")]
    assert by_text["caption 1"].nearest == "a copy of an image of another caption: k25"
    html = page.page(results, "r1", page.PageOptions())
    assert "a copy of an image of another caption: k25" in html
    assert "<dt>retrieved copies</dt><dd>2</dd>" in html
    plain = panel.panel(results, "r1", "k00", reading.image)
    wide = panel.panel(results, "r1", "k01", reading.image)
    assert wide.width > plain.width


def test_a_run_whose_shards_are_gone_or_without_images_is_told_so(searched, tmp_path, make):
    results, paths, _, _ = searched
    (tmp_path / "b.tar").unlink()
    rows = [score("more", 1.0, key="k20", shard=paths[1], flagged=False)]
    commit(results, "r1", rows, [], chunk="b")
    done = CliRunner().invoke(app, ["retrieve", results.root, "--json"])
    assert isinstance(done.exception, Exception)
    assert "1 shards could not be read" in str(done.exception)
    told = json.loads(done.stdout)
    assert list(told["unread"]) == [paths[1]]
    assert told["pictures"]["a copy of its own image"] == 1
    empty = make("empty", ("r3",))
    commit(empty, "r3", [score("caption 0", 1.0, key="k00", shard=paths[0])], [])
    done = CliRunner().invoke(app, ["retrieve", empty.root])
    assert "it has no pictures" in done.stdout
    bare = make("bare", ("r2",))
    path = str(tmp_path / "bare.tar")
    with webdataset.TarWriter(path) as tar:
        tar.write({"__key__": "k", "txt": "words"})
    commit(bare, "r2", [score("words", 1.0, key="k", shard=path)], [])
    done = CliRunner().invoke(app, ["retrieve", bare.root])
    assert "no shard of run r2 has an image" in str(done.exception)


def test_what_the_shipped_pipeline_gives_back_is_retrieved_under_whatever_caption(tmp_path):
    """Two planted captions swap their images in the shards: each gives the other's back."""
    planted = [i for i in corpus.planted(SHIPPED_SEED) if i.kind == "verbatim"][:4]
    own = [corpus.picture(SHIPPED_SEED, item, 0) for item in planted]
    held = [own[1], own[0], *own[2:]]
    path = shard(
        tmp_path, "planted",
        {f"k{n}": (item.caption, held[n]) for n, item in enumerate(planted)},
    )  # fmt: skip
    spec = ScanSpec(
        seeds=(5, 6), steps=10, guidance_scale=2.5, localize="all", threshold=0.0,
        maps=("delta_s",),
    )  # fmt: skip
    asked = [
        Caption(path, f"k{n}", item.caption, image=png(held[n])) for n, item in enumerate(planted)
    ]
    rows = Scanner(models.load(str(WEIGHTS / "pipeline")), spec).scan(asked)
    results = Results(tmp_path / "results")
    results.write_run("r1", {"started": "now"})
    assert results.commit("r1", "c", rows, extra=[], facts={"samples": 4})
    done = CliRunner().invoke(app, ["retrieve", results.root, "--json"])
    assert json.loads(done.stdout)["pictures"] == {
        "a copy of an image of another caption": 4, "a copy of its own image": 4,
    }  # fmt: skip
    with closing(connect(results, runs=["r1"])) as con:
        found = {f.key: f for f in findings(con)}
        names, table = captions(con)
    assert {key: (f.match, f.nearest_key) for key, f in found.items()} == {
        "k0": ("none", "k1"), "k1": ("none", "k0"), "k2": ("verbatim", "k2"),
        "k3": ("verbatim", "k3"),
    }  # fmt: skip
    for row in rows.masks:
        pair = [
            pictures.opened(r.image) for r in rows.masks if r.caption == row.caption and r.image
        ]
        if row.match is not None:
            one, two = (np.asarray(picture) for picture in pair)
            assert row.tightness == pytest.approx(pictures.tiled_l2(one, two), abs=0.02)
    assert names[-1] == "tightness"
    assert all(0 < line[-1] < pictures.TILED_L2 for line in table)

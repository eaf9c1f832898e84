"""A folder of images as a shard: captions beside them or in metadata; nothing outside is read."""

import csv
import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from scanner.cli import app
from scanner.errors import ConfigError, ShardError
from scanner.records import Caption, Reject
from scanner.shards import listing, reading
from scanner.shards.columns import Columns
from scanner.shards.expansion import expand


def image(number):
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pictures(folder, count=5, texts=True):
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for n in range(count):
        place = folder / ("sub" if n % 2 else "") / f"{n:03d}"
        place.with_suffix(".png").write_bytes(image(n))
        if texts:
            place.with_suffix(".txt").write_text(f"caption {n}")
    return folder


def metadata(folder, rows, name="metadata.jsonl", column="text"):
    columns = ("file_name", column)
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        (folder / name).write_text(text)
    elif name.endswith(".csv"):
        with (folder / name).open("w", newline="") as stream:
            csv.writer(stream).writerows([columns, *rows])
    else:
        cells = zip(columns, map(list, zip(*rows, strict=True)), strict=True)
        pq.write_table(pa.table(dict(cells)), folder / name)


def samples(folder, size=2, problem=None, columns=None, **asked):
    (address,) = expand([str(folder)], columns or Columns())
    index = reading.index(reading.stat(address), size)
    assert (index.problem is None) == (problem is None), index.problem
    assert problem is None or problem in index.problem
    options = {"images": False, **asked}
    found = [item for chunk in index.chunks for item in reading.read(chunk, **options)]
    assert len(found) == index.samples
    return {item.key: item for item in found}


def said(found):
    return {k: i.reason if isinstance(i, Reject) else i.text for k, i in found.items()}


EXPECTED = {
    "000": "caption 0", "002": "caption 2", "004": "caption 4", "sub/001": "caption 1",
    "sub/003": "caption 3",
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 100])
def test_captions_beside_images_are_read_and_keys_are_paths(tmp_path, size):
    found = samples(pictures(tmp_path / "p"), size)
    assert said(found) == EXPECTED
    assert list(found) == sorted(found)
    found = samples(tmp_path / "p", size, images=True)
    assert found["sub/001"].image == image(1)


@pytest.mark.parametrize("name", listing.METADATA)
def test_metadata_name_images_and_their_captions(tmp_path, name):
    folder = pictures(tmp_path / "p", texts=False)
    rows = [(f"sub/{n:03d}.png" if n % 2 else f"{n:03d}.png", f"caption {n}") for n in range(5)]
    metadata(folder, rows, name)
    assert said(samples(folder)) == EXPECTED
    (address,) = expand([str(folder)])
    assert reading.image(address, "sub/003") == image(3)
    chunk = reading.index(reading.stat(address), 3).chunks[1]
    assert dict(reading.pictures(chunk, {0: "sub/001", 1: "sub/003"})) == {0: image(1), 1: image(3)}
    found = dict(reading.images(address, ["000", "nothing", "sub/001"]))
    assert found == {"000": image(0), "sub/001": image(1)}
    assert f"captions from column text of {name}, keys are paths" in reading.described([address])


def test_metadata_in_a_folder_below_name_what_lies_beside_them(tmp_path):
    folder = pictures(tmp_path / "p", texts=False)
    metadata(folder / "sub", [("001.png", "one"), ("003.png", "three")], column="alt")
    assert said(samples(folder)) == {
        "000": "no_caption", "002": "no_caption", "004": "no_caption", "sub/001": "one",
        "sub/003": "three",
    }  # fmt: skip
    assert said(samples(folder, columns=Columns(caption="alt")))["sub/001"] == "one"


def test_what_lacks_one_half_is_a_caption_or_a_reject(tmp_path):
    folder = pictures(tmp_path / "p", 2)
    (folder / "alone.txt").write_text("no image")
    (folder / "bare.png").write_bytes(image(8))
    (folder / "000.jpg").write_bytes(image(9))
    (folder / "README.md").write_text("# none of it")
    (folder / "dataset.json").write_text("{}")
    (folder / ".hidden.png").write_bytes(image(7))
    (folder / "bad.txt").write_bytes(b"\xff")
    (folder / "bad.png").write_bytes(image(6))
    (folder / "j.png").write_bytes(image(5))
    (folder / "j.json").write_text('{"caption": "of json", "url": "https://x/j"}')
    (address,) = expand([str(folder)])
    (chunk,) = reading.index(reading.stat(address), 100).chunks
    found = [
        (i.key, i.reason if isinstance(i, Reject) else i.text)
        for i in reading.read(chunk, images=False)
    ]
    assert found == [
        ("000", "caption 0"), ("000", "duplicate_key"), ("alone", "no image"), ("bad", "not_utf8"),
        ("bare", "no_caption"), ("j", "of json"), ("sub/001", "caption 1"),
    ]  # fmt: skip
    seen = list(reading.read(chunk, images=True, captions=False))
    assert [item.text for item in seen if isinstance(item, Caption)] == [""] * 6


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd.png", "a/../../secret.png", "..", "sub/../../x.png"]
)
def test_a_file_name_that_leads_out_of_the_folder_is_a_reject(tmp_path, name):
    folder = pictures(tmp_path / "p", 1, texts=False)
    (tmp_path / "secret.png").write_bytes(image(66))
    metadata(folder, [("000.png", "fine"), (name, "stolen"), ("sub/../000.png", "again")])
    found = samples(folder, images=True)
    assert found[name].reason == "outside_folder"
    assert {item.image for item in found.values() if isinstance(item, Caption)} <= {image(0)}


def test_links_that_lead_out_of_the_folder_are_rejects_and_others_are_read(tmp_path):
    folder = pictures(tmp_path / "p", 2)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.png").write_bytes(image(5))
    (folder / "a.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "b.txt").symlink_to(folder / "000.txt")
    (folder / "c.txt").symlink_to(folder / "nothing.txt")
    (folder / "d").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "e.txt")
    assert said(samples(folder)) == {
        "000": "caption 0", "a": "outside_folder", "b": "caption 0", "c": "symbolic_link",
        "d": "outside_folder", "e": "named_pipe", "sub/001": "caption 1",
    }  # fmt: skip


def test_damaged_metadata_cost_their_own_rows(tmp_path):
    folder = pictures(tmp_path / "p", 3, texts=False)
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "000.png", "text": "zero"}\n{"file_name": \n'
        '{"file_name": "002.png", "text": "two"}\n{"file_name": "002.png", "text": "more"}\n'
        '{"text": "no name"}\n{"file_name": "sub/009.png", "text": "no image"}\n'
    )
    (address,) = expand([str(folder)])
    (chunk,) = reading.index(reading.stat(address), 100).chunks
    found = [
        (i.key, i.reason if isinstance(i, Reject) else i.text)
        for i in reading.read(chunk, images=False)
    ]
    assert found == [
        ("000", "zero"), ("002", "two"), ("002", "duplicate_key"),
        ("metadata.jsonl:000000001", "bad_json"), ("metadata.jsonl:000000004", "no name"),
        ("sub/001", "no_caption"), ("sub/009", "no image"),
    ]  # fmt: skip


def test_metadata_that_cannot_be_read_are_the_folders_problem(tmp_path):
    folder = pictures(tmp_path / "p", 1, texts=False)
    for content, problem in (
        ('{"file_name": "000.png", "label": 3}\n', "metadata.jsonl has no column caption, TEXT"),
        ('{"image": "000.png", "text": "x"}\n', "metadata.jsonl has no column 'file_name'"),
        ("no json\n", "metadata.jsonl holds no JSON object"),
    ):
        (folder / "metadata.jsonl").write_text(content)
        assert samples(folder, problem=problem) == {}
    metadata(folder, [("000.png", "x")])
    metadata(folder, [("000.png", "x")], "metadata.csv")
    assert samples(folder, problem="has metadata.csv and metadata.jsonl: leave one") == {}


def test_a_change_of_any_file_changes_the_shard(tmp_path):
    folder = pictures(tmp_path / "p")
    (address,) = expand([str(folder)])
    first = reading.stat(address)
    assert first == reading.stat(address)
    (folder / "README.md").write_text("no matter")
    assert first == reading.stat(address)
    chunk = reading.index(first, 2).chunks[0]
    (folder / "sub" / "001.txt").write_text("another caption")
    assert reading.stat(address).id != first.id
    with pytest.raises(ShardError, match="changed since it was listed"):
        list(reading.read(chunk, images=False))
    chunk = reading.index(reading.stat(address), 2).chunks[0]
    (folder / "000.txt").write_text("changed behind the listing")
    with pytest.raises(ShardError, match=r"000.txt changed since it was listed"):
        list(reading.read(chunk, images=False))


def test_columns_that_a_folder_cannot_have_are_refused(tmp_path):
    folder = pictures(tmp_path / "p", 1)
    with pytest.raises(ConfigError, match="has no metadata file with a column 'alt'"):
        reading.described(expand([str(folder)], Columns(caption="alt")))
    with pytest.raises(ConfigError, match="keys are the images' paths"):
        reading.described(expand([str(folder)], Columns(key="id")))


def test_a_folder_is_listed_once_for_its_chunks(tmp_path, monkeypatch):
    (address,) = expand([str(pictures(tmp_path / "p", 9))])
    index = reading.index(reading.stat(address), 1)
    count, walked = [0], listing._walked

    def counted(root):
        count[0] += 1
        return walked(root)

    monkeypatch.setattr(listing, "_walked", counted)
    assert len([i for c in index.chunks for i in reading.read(c, images=False)]) == 9
    assert count[0] == 0


@pytest.mark.parametrize("source", ["generated", "image"])
def test_a_folder_is_scanned_with_its_images(tmp_path, source):
    folder = pictures(tmp_path / "p")
    options = ["--model", "gaussian", "--steps", "3", "--probes", "4", "--local", "--json"]
    options += ["--source", source, "--out", str(tmp_path / "r"), "--chunk-size", "2"]
    done = CliRunner().invoke(app, ["scan", str(folder), *options])
    assert done.exception is None, done.output
    assert json.loads(done.stdout)["scored"] == 5
    assert "1 folder of images" in done.stderr
    again = json.loads(CliRunner().invoke(app, ["scan", str(folder), *options]).stdout)
    assert (again["scored"], again["chunks_skipped"]) == (5, 3)


def test_any_damage_of_metadata_is_told_and_no_image_is_lost(tmp_path):
    folder, random, problems = pictures(tmp_path / "p", 5, texts=False), np.random.default_rng(2), 0
    rows = [(f"sub/{n:03d}.png" if n % 2 else f"{n:03d}.png", f"caption {n}") for n in range(5)]
    metadata(folder, rows)
    whole = (folder / "metadata.jsonl").read_bytes()
    for trial in range(150):
        content = bytearray(whole)
        for place in random.integers(0, len(content), int(random.integers(1, 5))):
            content[place] = int(random.choice([0, 10, 34, 46, 47, 92, 125, 255]))
        if trial % 3 == 0:
            content = content[: int(random.integers(1, len(content) + 1))]
        (folder / "metadata.jsonl").write_bytes(content)
        (address,) = expand([str(folder)])
        index = reading.index(reading.stat(address), 3)
        problems += index.problem is not None
        assert "\n" not in (index.problem or "")
        found = [i for chunk in index.chunks for i in reading.read(chunk, images=True)]
        assert len(found) == index.samples
        if index.samples:
            assert EXPECTED.keys() <= {item.key for item in found}
        else:
            assert index.problem
    assert 0 < problems < 150

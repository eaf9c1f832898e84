"""Real pictures in the place of drawn things: how they are named, and what is bad about them."""

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from scanner.errors import ConfigError
from scanner.testbed.benchmark import background, items, pictures
from scanner.testbed.benchmark.corpus import Corpus


def png(colour, size=24, dot=None):
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    image.paste(colour, (4, 4, size - 4, size - 4))
    if dot:
        image.paste(dot, (8, 8, 14, 14))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("red_apple-1", "red"), ("red_apple-2", "maroon"), ("Boat", "blue")):
        (tmp_path / f"{name}.png").write_bytes(png(colour))
    return tmp_path


def test_files_name_pictures_and_broken_ones_are_left_out(folder):
    (folder / "tree.png").write_bytes(b"not a picture")
    (folder / "a very long name indeed.png").write_bytes(png("green"))
    (folder / "1234.png").write_bytes(png("green"))
    found = pictures.load(folder)
    assert {name: len(variants) for name, variants in found.pictures.items()} == {
        "boat": 1,
        "red apple": 2,
    }


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_hold_the_same_as_their_folder(folder, tmp_path, kind):
    path = tmp_path / f"pictures.{kind}"
    files = sorted(folder.glob("*.png"))
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, f"top/{file.name}")
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for file in files:
                archive.add(file, f"top/{file.name}")
    assert Corpus(pictures=str(path)).as_dict() == Corpus(pictures=str(folder)).as_dict()


def test_a_table_names_pictures_and_families(folder):
    (folder / "pictures.csv").write_text(
        "file,name,family\nred_apple-1.png,Pomme,fruit\nred_apple-2.png,pomme,fruit\n"
    )
    found = pictures.load(folder)
    assert list(found.pictures) == ["pomme"]
    assert {name: len(variants) for name, variants in found.families.items()} == {"fruit": 2}


def test_emoji_of_several_tones_are_templates_with_the_mask_they_share(tmp_path):
    table = [
        {"short_name": "wave", "image": "1f44b.png", "skin_variations": {
            "1F3FB": {"image": "1f44b-1f3fb.png"}, "1F3FF": {"image": "1f44b-1f3ff.png"}}},
        {"short_name": "boat", "image": "26f5.png"},
    ]  # fmt: skip
    (tmp_path / "emoji.json").write_text(json.dumps(table))
    for name, tone in (("1f44b", "yellow"), ("1f44b-1f3fb", "pink"), ("1f44b-1f3ff", "brown")):
        (tmp_path / f"{name}.png").write_bytes(png("black", 64, dot=tone))
    (tmp_path / "26f5.png").write_bytes(png("white"))
    corpus = Corpus(3, pictures=str(tmp_path))
    assert corpus.cast.names == ("boat", "wave")
    item = next(i for i in corpus.items if i.arm == "natural")
    assert "wave" in item.captions[0]
    copies = np.stack([items.picture(3, item, copy) for copy in range(12)])
    assert (copies[:, item.mask] == 0).all()
    inside = item.mask.mean()
    assert 0.4 < inside < 0.7
    assert (copies != copies[:1]).any(axis=(0, 3))[~item.mask].mean() > 0.9


def test_scenes_are_made_of_the_pictures_that_are_given(folder):
    cast = Corpus(3, pictures=str(folder)).cast
    for kind in ("single", "pair", "three", "trap"):
        found = background.held_out(3, "train", kind, 3, cast)
        for scene in found:
            assert set(scene.things) <= {"boat", "red apple"}
            assert scene.picture(np.random.default_rng(0), cast).shape == (64, 64, 3)
    assert Corpus(3, form="quick", pictures=str(folder)).items


def test_bad_pictures_are_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        pictures.load(tmp_path / "missing")
    with pytest.raises(ConfigError, match="no picture with a name"):
        pictures.load(tmp_path)
    (tmp_path / "pictures.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="needs the columns file and name"):
        pictures.load(tmp_path)
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(ConfigError, match="cannot be read"):
        pictures.load(tmp_path / "notes.txt")

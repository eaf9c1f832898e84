"""What is read of a folder, a glob or a prefix: tars, tables, or images; logs are none."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scanner.errors import ConfigError
from scanner.shards.expansion import expand
from scanner.shards.layout import counts, picked

TREE = Path("/")


def made(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(pa.table({"caption": ["a"], "status": ["success"]}), path)
        else:
            path.write_bytes(bytes(1024) if name.endswith("tar") else b"caption\na\n")
    return folder


def found(folder, *patterns, said=None):
    told = [] if said is None else said
    addresses = expand([str(folder / p) for p in patterns] or [str(folder)], say=told.append)
    return [address.removeprefix(f"{folder}").lstrip("/") for address in addresses]


def test_img2datasets_logs_beside_its_tars_are_not_read(tmp_path):
    names = [f"{n:05d}{end}" for n in range(2) for end in (".tar", ".parquet", "_stats.json")]
    folder = made(tmp_path / "laion", *names)
    for patterns in ([], ["*"], ["00000*", "00001*"], names):
        said = []
        assert found(folder, *patterns, said=said) == ["00000.tar", "00001.tar"]
        if patterns:
            assert said == [
                "2 Parquet files beside tars of the same name are not read: img2dataset's logs of "
                "them"
            ]
    assert found(folder, "*.parquet") == ["00000.parquet", "00001.parquet"]
    remote = [f"s3://b/0.{end}" for end in ("tar", "parquet")]
    assert expand(remote) == ["s3://b/0.tar"]


def test_img2datasets_other_outputs_are_read_once(tmp_path):
    tables = made(tmp_path / "a", "00000.parquet", "00000_stats.json")
    assert found(tables, "*") == ["00000.parquet"]
    files = made(tmp_path / "b", "00000.parquet", "00000_stats.json", "00000/1.jpg", "00000/1.txt")
    said = []
    assert found(files, said=said) == [""]
    assert expand([str(files)]) == [f"{files}/"]
    assert said == [f"{files} is read as one folder of images, with the captions beside them"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a.tar", "b.csv", "c.png"), ["a.tar"]),
        (("b.csv", "c.jsonl", "d.png"), ["b.csv", "c.jsonl"]),
        (("x/b.tsv", "y/c.parquet"), ["x/b.tsv", "y/c.parquet"]),
        (("x/a.tar",), ["x/a.tar"]),
        (("c.png", "c.txt"), [""]),
        (("x/y/c.webp",), [""]),
        (("metadata.csv", "x/c.png"), [""]),
    ],
)
def test_a_folder_gives_tars_or_tables_or_itself(tmp_path, names, expected):
    assert found(made(tmp_path / "f", *names)) == expected


def test_a_folder_with_nothing_to_read_says_what_is_there(tmp_path):
    folder = made(tmp_path / "f", "notes.md", "a.txt")
    with pytest.raises(ConfigError, match=r"holds no \*.tar, no table .* only a.txt, notes.md"):
        expand([str(folder)])


def test_the_same_captions_in_two_formats_are_refused(tmp_path):
    folder = made(tmp_path / "f", "train.csv", "train.parquet")
    with pytest.raises(
        ConfigError, match=r"train.csv and train.parquet, which seem to be the same"
    ):
        expand([str(folder)])
    assert found(folder, "*.csv") == ["train.csv"]


def test_a_glob_of_folders_looks_into_each(tmp_path):
    made(tmp_path / "f", "10/a.tar", "9/b.csv", "9/note.md", "11/c.png")
    assert found(tmp_path / "f", "*") == ["9/b.csv", "10/a.tar", "11/"]


def test_a_card_of_nested_aliases_or_of_many_stars_takes_no_time(tmp_path):
    folder = made(tmp_path / "f", "a/" * 30 + "b.csv")
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
    )
    stars = "- data_files: " + "'" + "**/" * 200 + "*'\n"
    for configs in (f"- config_name: *a39\n  data_files: *a39\n{stars}", stars):
        (folder / "README.md").write_text(f"---\n{bomb}configs:\n{configs}---\n")
        assert found(folder) == ["a/" * 30 + "b.csv"]


def test_kinds_are_counted_in_words():
    assert counts(["/a.tar"]) == "1 tar"
    assert (
        counts(["/a.tar", "/b.csv", "/c.tsv", "/d/"])
        == "1 tar, 2 CSV tables and 1 folder of images"
    )
    assert counts(["/a.parquet#caption=x"]) == "1 Parquet table"
    assert picked(["a.md"]) == []


SPLITS = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
          "data/test-00000-of-00001.parquet")  # fmt: skip


def test_splits_of_a_local_data_set_are_told_and_may_be_picked(tmp_path):
    folder, said = made(tmp_path / "f", *SPLITS), []
    assert found(folder, said=said) == sorted(SPLITS)
    assert said == [f"{folder}: all splits (test, train) are read; #split= picks one"]
    assert expand([f"{folder}#split=train"]) == [str(folder / name) for name in SPLITS[:2]]
    (address,) = expand([f"{folder}#split=test&caption=status"])
    assert address == f"{folder}/{SPLITS[2]}#caption=status"
    with pytest.raises(ConfigError, match="has no split 'dev', only test, train"):
        expand([f"{folder}#split=dev"])
    with pytest.raises(ConfigError, match="must be split, config, caption"):
        expand([f"{folder}#part=dev"])
    with pytest.raises(ConfigError, match="declares no configurations"):
        expand([f"{folder}#config=en"])


CARD = """---
license: mit
configs:
- config_name: en
  data_files:
  - split: train
    path: en/train*.csv
  - split: test
    path: [en/test.csv]
- config_name: de
  data_files: de/*.csv
---
# A data set
"""


def test_configurations_of_a_card_are_chosen(tmp_path):
    names = ("en/train1.csv", "en/train2.csv", "en/test.csv", "de/all.csv", "other.csv")
    folder = made(tmp_path / "f", *names)
    (folder / "README.md").write_text(CARD)
    with pytest.raises(
        ConfigError, match=r"has several configs, de, en: name one, as in .*#config=de"
    ):
        expand([str(folder)])
    with pytest.raises(ConfigError, match=r"has several splits, test, train: name one"):
        expand([f"{folder}#config=en"])
    assert expand([f"{folder}#config=de"]) == [str(folder / "de/all.csv")]
    train = [str(folder / name) for name in names[:2]]
    assert expand([f"{folder}#config=en&split=train"]) == train
    assert len(expand([f"{folder}#config=all&split=all"])) == 4
    shutil.rmtree(folder / "de")
    with pytest.raises(ConfigError, match="files that its card declares are not there"):
        expand([f"{folder}#config=de"])


@pytest.mark.parametrize("card", ["---\nconfigs: [3, {a: 4}]\n---\n", "---\n: [\n---\n", "x"])
def test_a_card_that_declares_nothing_sound_is_passed_over(tmp_path, card):
    folder = made(tmp_path / "f", "a.csv")
    (folder / "README.md").write_text(card)
    assert found(folder) == ["a.csv"]


def test_a_list_of_captions_is_no_list_of_shards(tmp_path):
    (tmp_path / "captions.txt").write_text("a red rug\n")
    with pytest.raises(ConfigError, match=r"is a list of shards, and a red rug does not exist.*jq"):
        expand([str(tmp_path / "captions.txt")])
    assert json.dumps({"caption": "a red rug"})

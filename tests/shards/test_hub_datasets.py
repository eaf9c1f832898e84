"""Data sets of a hub, which a server on loopback plays: pinned to a commit, chosen, never run."""

import json

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_hub import TOKEN, DataSets, serving
from typer.testing import CliRunner

from scanner.cli import app
from scanner.errors import ConfigError
from scanner.shards import reading
from scanner.shards.expansion import expand

NAME = "someone/captions"
HF = f"hf://datasets/{NAME}"


def table(folder, name, *texts):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"caption": texts}), path)
    else:
        path.write_text("".join(json.dumps({"caption": text}) + "\n" for text in texts))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = DataSets()
    with serving(hub) as url:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("MEMSCAN_STORE_PATIENCE", "1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        huggingface_hub.HfFileSystem.clear_instance_cache()
        yield hub
    huggingface_hub.HfFileSystem.clear_instance_cache()


@pytest.fixture
def folder(hub, tmp_path):
    folder = hub.folders[NAME] = tmp_path / "set"
    table(folder, "data/train-00000-of-00002.parquet", "one", "two")
    table(folder, "data/train-00001-of-00002.parquet", "three")
    (folder / "README.md").write_text("# captions\n")
    return folder


def texts(addresses):
    found = []
    for address in addresses:
        index = reading.index(reading.stat(address), 2)
        assert index.problem is None
        found += [i.text for chunk in index.chunks for i in reading.read(chunk, images=False)]
    return found


def test_a_data_set_is_its_files_at_a_commit(hub, folder):
    first, second = expand([HF])
    commit = hub.commit(NAME)
    assert first == f"hf://datasets/{NAME}@{commit}/data/train-00000-of-00002.parquet"
    assert texts([first, second]) == ["one", "two", "three"]
    assert expand([first]) == [first]
    assert reading.stat(first) == reading.stat(first)
    assert expand([f"{HF}@main/data"]) == expand([HF]) == expand([f"{HF}/data/train-*"])
    (named,) = expand([f"{HF}/data/train-00001-of-00002.parquet"])
    assert texts([named]) == ["three"]
    table(folder, "data/train-00001-of-00002.parquet", "three", "four")
    assert first not in expand([HF])


def test_text_tables_of_a_hub_are_read_by_ranges(hub, folder):
    table(folder, "more.jsonl", *(f"caption {n}" for n in range(50)))
    (address,) = expand([f"{HF}/more.jsonl"])
    assert texts([address])[-1] == "caption 49"
    assert not any("more.jsonl" in line and line.startswith("POST /resolve") for line in hub.asked)


def test_several_splits_must_be_chosen_from(hub, folder):
    table(folder, "data/test-00000-of-00001.parquet", "held out")
    with pytest.raises(ConfigError, match=f"{HF} has several splits, test, train: name one, as in"):
        expand([HF])
    assert texts(expand([f"{HF}#split=test"])) == ["held out"]
    assert len(expand([f"{HF}#split=all"])) == 3
    (address,) = expand([f"{HF}@main#split=test&caption=caption"])
    assert address.endswith("test-00000-of-00001.parquet#caption=caption")


def test_configurations_of_a_card_are_chosen(hub, folder):
    table(folder, "de/a.jsonl", "eins")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files: data/*.parquet\n"
        "- config_name: de\n  data_files: de/*\n---\n"
    )
    with pytest.raises(ConfigError, match=r"several configs, de, en: name one, as in .*#config=de"):
        expand([HF])
    assert texts(expand([f"{HF}#config=de"])) == ["eins"]


def test_scripts_are_never_run(hub, tmp_path):
    folder = hub.folders[NAME] = tmp_path / "script"
    folder.mkdir()
    (folder / "captions.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(
        ConfigError, match=r"by a script, captions.py, which is never run; .*convert"
    ):
        expand([HF])
    assert not (tmp_path / "ran").exists()


def test_images_of_a_hub_are_to_be_downloaded(hub, tmp_path):
    folder = hub.folders[NAME] = tmp_path / "images"
    table(folder, "metadata.jsonl", "x")
    (folder / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"is a folder of images: download it \(hf download"):
        expand([HF])
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"holds no tar, Parquet, CSV, TSV or JSONL, only a.png"):
        expand([HF])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://datasets/nobody/nothing", "is not to be had: check its name"),
        (f"{HF}@nowhere", "has no revision 'nowhere'"),
        (f"{HF}/nothing", "has no nothing, only README.md, data/"),
        ("hf://datasets/nobody", "must be hf://datasets/OWNER/NAME"),
        (f"{HF}#part=x", "part must be split, config"),
        (f"{HF}#split=dev", "has no split 'dev', only train"),
        ("hf://someone/a-model", "shards are opened from"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(hub, folder, address, message):
    with pytest.raises(ConfigError, match=message) as caught:
        expand([address])
    assert "\n" not in str(caught.value)


def test_a_gated_data_set_takes_the_token_of_the_environment(hub, folder, monkeypatch):
    hub.gated.add(NAME)
    with pytest.raises(ConfigError, match="accept its terms on the hub and set HF_TOKEN"):
        expand([HF])
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    huggingface_hub.HfFileSystem.clear_instance_cache()
    done = CliRunner().invoke(app, ["plan", HF, "--model", "gaussian", "--rate", "9", "--local"])
    assert done.exception is None, done.output
    assert "3 samples" in done.stdout
    assert "reading 2 Parquet tables" in done.stderr
    assert TOKEN not in done.output + done.stderr
    assert f"Bearer {TOKEN}" in hub.tokens


def test_a_hub_that_is_not_asked_or_not_there_is_told(hub, folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE forbids to ask it"):
        expand([HF])

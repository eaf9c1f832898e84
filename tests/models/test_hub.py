"""Models of a hub, which a server on loopback plays: revisions, one download, what refusals say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import typer.testing
from engine_harness import job_of, write_shard
from hub_server import Hub, serving
from made_loras import lora_file

import scanner
from scanner import cli, models
from scanner.engine import Resources, scan
from scanner.engine.identity import identify
from scanner.errors import ConfigError
from scanner.models import hub as hubs
from scanner.results.folder import Results
from scanner.spec import ScanSpec

NAME, GATED = "someone/a-model", "someone/a-gated-model"


@pytest.fixture(scope="module")
def folders(pipeline_folder, epsilon_folder):
    """Two commits of one model: their weights are the same, their schedulers differ."""
    return pipeline_folder, epsilon_folder


@pytest.fixture
def hub(folders, tmp_path, monkeypatch):
    """A hub with a model of two commits and a gated one, and an empty cache."""
    hub = Hub()
    hub.push(NAME, folders[0], "v1")
    hub.push(NAME, folders[1], "main", "next")
    hub.push(GATED, folders[0], "main")
    hub.gated.add(GATED)
    with serving(hub) as url:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        forget(monkeypatch)
        yield hub


def forget(monkeypatch):
    """Know of no model and no file, as another process of the node."""
    monkeypatch.setattr(hubs, "_snapshots", {})
    monkeypatch.setattr(hubs, "_files", {})


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub, folders):
    old, new = hub.names[NAME, "v1"], hub.names[NAME, "main"]
    prints = [models.fingerprint(str(folder)) for folder in folders]
    for name, commit, fingerprint in (
        (NAME, new, prints[1]),
        (f"{NAME}@main", new, prints[1]),
        (f"{NAME}@v1", old, prints[0]),
        (f"{NAME}@{old}", old, prints[0]),
    ):
        assert models.pinned(name) == f"{NAME}@{commit}"
        assert models.fingerprint(name) == fingerprint  # the weights name a run, not where they lie
    assert prints[0] != prints[1]


def test_a_commit_that_is_in_the_cache_asks_the_hub_nothing(hub, monkeypatch):
    pinned = models.pinned(f"{NAME}@v1")
    assert any("resolve" in path for path in hub.asked)
    forget(monkeypatch)
    hub.asked.clear()
    assert models.pinned(pinned) == pinned
    assert hub.asked == []
    forget(monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert models.folder_of(pinned).name == hub.names[NAME, "v1"]
    assert models.pinned(f"{NAME}@v1") == pinned  # the cache knows what the tag named


def test_the_hub_is_asked_once_a_process(hub):
    models.pinned(NAME)
    hub.asked.clear()
    models.folder_of(NAME)
    models.folder_of(models.pinned(NAME))
    assert hub.asked == []


def test_a_scan_has_one_commit_and_its_record_says_which(hub, folders, tmp_path):
    shard = write_shard(tmp_path / "a.tar", ["one", "two"])
    spec = ScanSpec(steps=2, probes=4, localize="none")
    job = job_of([shard], tmp_path / "r", spec=spec, model=f"{NAME}@v1")
    here = job_of([shard], tmp_path / "r", spec=spec, model=str(folders[0]))
    assert identify(job).run == identify(here).run
    done = scan(job, Resources(local=True, device="cpu", threads=1), lambda event: None)
    assert done.is_complete
    record = Results(str(tmp_path / "r")).run_file(done.run)
    assert record.config["model"] == f"{NAME}@{hub.names[NAME, 'v1']}"


def test_a_node_takes_the_commit_of_the_driver_though_the_branch_moves_on(
    hub, tmp_path, monkeypatch
):
    shard = write_shard(tmp_path / "a.tar", ["one"])
    who = identify(job_of([shard], tmp_path / "r", model=f"{NAME}@next"))
    hub.names[NAME, "next"] = hub.names[NAME, "v1"]
    forget(monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert models.fingerprint(who.job.model) == who.model
    assert models.fingerprint(f"{NAME}@next") != who.model


def test_a_baseline_has_a_revision_too(hub, tmp_path):
    shard = write_shard(tmp_path / "a.tar", ["one"])
    job = job_of([shard], tmp_path / "r", model=NAME, baselines=(f"{NAME}@v1",))
    who = identify(job)
    assert who.job.baselines[0] == f"{NAME}@{hub.names[NAME, 'v1']}"
    assert who.job.model == f"{NAME}@{hub.names[NAME, 'main']}"
    assert models.baseline_name(who.job.baselines[0]) == "a-model"


@pytest.mark.parametrize("token", [None, "hf_another"])
def test_a_gated_model_says_what_to_do_and_opens_with_a_token(hub, monkeypatch, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match=f"{GATED} is gated: accept its licence at {hub.url}/"):
        models.folder_of(GATED)
    monkeypatch.setenv("HF_TOKEN", Hub.TOKEN)
    assert models.folder_of(GATED).is_dir()


def test_what_the_hub_does_not_have_is_said_in_one_line(hub, monkeypatch):
    for name, text in (
        ("nobody/nothing", "the hub has no model nobody/nothing, or a private one.*HF_TOKEN"),
        (f"{NAME}@v9", f"{NAME} has no revision v9: give a commit hash, tag or branch"),
        (f"{NAME}@", "a revision must be a commit hash, tag or branch of a hub model, got ''"),
        (f"{NAME}@../../x", "a revision must be .* got '../../x'"),
    ):
        with pytest.raises(ConfigError, match=text) as caught:
            models.folder_of(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_offline", [True, False])
def test_without_a_network_the_line_says_how_to_get_the_files(hub, monkeypatch, is_offline):
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    if not is_offline:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    why = "HF_HUB_OFFLINE is set" if is_offline else "http://127.0.0.1:1 cannot be reached"
    with pytest.raises(ConfigError, match=f"{why}.* does not hold all of it; run memscan inspect"):
        models.folder_of(NAME)


def test_a_download_that_was_cut_is_not_taken_for_a_model_offline(hub, monkeypatch):
    folder = models.folder_of(f"{NAME}@v1")
    forget(monkeypatch)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"does not hold all of it|no file named .*safetensors"):
        models.load(f"{NAME}@v1")


@pytest.mark.parametrize("model", ["gaussian", "folder"])
def test_a_revision_of_what_is_not_of_the_hub_is_refused(model, pipeline_folder):
    name = str(pipeline_folder) if model == "folder" else model
    with pytest.raises(ConfigError, match=r"--revision is for models of the hub, and .* is none"):
        scanner.load_model(name, revision="main")
    with pytest.raises(ConfigError, match="names a revision already"):
        scanner.load_model(f"{NAME}@v1", revision="main")


def test_python_and_inspect_take_a_revision(hub):
    old = hub.names[NAME, "v1"]
    model = scanner.load_model(NAME, revision="v1", device="cpu")
    assert model.fingerprint == models.fingerprint(f"{NAME}@{old}")
    said = typer.testing.CliRunner().invoke(
        cli.app, ["inspect", NAME, "--revision", "v1", "--device", "cpu", "--json"]
    )
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["model"] == f"{NAME}@{old}"


@pytest.mark.parametrize(
    "words",
    [
        ["scan", "SHARD", "--out", "OUT"],
        ["calibrate", "SHARD", "--out", "OUT.json"],
        ["plan", "SHARD", "--out", "OUT", "--rate", "5"],
        ["audit", "SHARD", "--state", "OUT", "--threshold", "1"],
        ["choose", "SHARD", "--truth", "TRUTH"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_with_a_model_refuses_a_revision_that_there_is_not(hub, tmp_path, words):
    write_shard(tmp_path / "SHARD", ["one"]).rename(tmp_path / "SHARD.tar")
    truth = Path(__file__).parents[2] / "README.md"
    places = {"SHARD": "SHARD.tar", "OUT": "out", "OUT.json": "out.json"}
    given = [str(tmp_path / places[w]) if w in places else w for w in words]
    given = [str(truth) if w == "TRUTH" else w for w in given]
    local = [] if words[0] == "choose" else ["--local"]
    baseline = ["--baseline", NAME] if words[0] == "choose" else []
    said = typer.testing.CliRunner().invoke(
        cli.app, [*given, "--model", NAME, "--revision", "v9", *local, *baseline]
    )
    assert isinstance(said.exception, ConfigError), said.output
    assert f"{NAME} has no revision v9" in str(said.exception)


def test_a_process_takes_hub_cache_and_token_from_its_environment(hub, tmp_path):
    place = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": Hub.TOKEN}
    code = f"from scanner import models; print(models.pinned({GATED!r}))"

    def called(**more: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | place | {"HF_HUB_OFFLINE": "0"} | more
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, text=True, capture_output=True
        )

    commit = f"{GATED}@{hub.names[GATED, 'main']}\n"
    assert called().stdout == commit
    hub.asked.clear()
    assert called(HF_HUB_OFFLINE="1", HF_TOKEN="").stdout == commit
    assert hub.asked == []
    shutil.rmtree(tmp_path / "home")
    assert "HF_HUB_OFFLINE is set" in called(HF_HUB_OFFLINE="1").stderr


LORA, SEVERAL = "someone/a-lora", "someone/loras"


@pytest.fixture
def loras(hub, pipeline_folder, tmp_path):
    """A repository of one LoRA in two commits, and one of two files; returns the LoRA's file."""
    pytest.importorskip("peft")
    for name in ("one", "two/styles"):
        (tmp_path / name).mkdir(parents=True)
    file = lora_file(pipeline_folder, tmp_path / "one" / "mine.safetensors")
    (tmp_path / "one" / "README.md").write_text("of")
    for name in ("two/first.safetensors", "two/styles/second.safetensors"):
        shutil.copy(file, tmp_path / name)
    hub.push(LORA, tmp_path / "one", "main")
    hub.push(SEVERAL, tmp_path / "two", "main")
    return file


def test_a_lora_of_the_hub_is_had_once_and_at_one_commit(hub, loras, pipeline_folder, monkeypatch):
    from scanner.models.overlay import overlay

    one, two = hub.names[LORA, "main"], hub.names[SEVERAL, "main"]
    for text, name, scale in (
        (LORA, f"{LORA}@{one}/mine.safetensors", 1.0),
        (f"{LORA}:0.5", f"{LORA}@{one}/mine.safetensors", 0.5),
        (f"{LORA}@main", f"{LORA}@{one}/mine.safetensors", 1.0),
        (f"{LORA}/mine.safetensors:-1", f"{LORA}@{one}/mine.safetensors", -1.0),
        (f"{SEVERAL}@main/styles/second.safetensors",
         f"{SEVERAL}@{two}/styles/second.safetensors", 1.0),
    ):  # fmt: skip
        (found,) = overlay([text]).loras
        assert (found.pinned().file, found.scale) == (name, scale)
        assert Path(found.path).read_bytes() == loras.read_bytes()
        here = overlay([f"{loras}:{scale:g}"])
        assert overlay([text]).fingerprint("a") == here.fingerprint("a")
    forget(monkeypatch)
    hub.asked.clear()
    (found,) = overlay([f"{LORA}@{one}/mine.safetensors"]).loras
    assert Path(found.path).is_file()
    assert hub.asked == []  # a commit's file is in the cache
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    forget(monkeypatch)
    (found,) = overlay([LORA]).loras
    assert found.pinned().file == f"{LORA}@{one}/mine.safetensors"


def test_a_scan_under_a_lora_of_the_hub_records_its_commit(hub, loras, pipeline_folder, tmp_path):
    shard = write_shard(tmp_path / "a.tar", ["one"])
    spec, places = ScanSpec(steps=2, probes=4, localize="none"), tmp_path / "r"
    asked = {"spec": spec, "model": str(pipeline_folder), "baselines": ("off",)}
    job = job_of([shard], places, lora=(f"{LORA}:0.5",), **asked)
    here = job_of([shard], places, lora=(f"{loras}:0.5",), **asked)
    assert identify(job).run == identify(here).run
    done = scan(job, Resources(local=True, device="cpu", threads=1), lambda event: None)
    assert done.is_complete
    record = Results(str(places)).run_file(done.run)
    commit = hub.names[LORA, "main"]
    assert record.config["lora"] == [f"{LORA}@{commit}/mine.safetensors:0.5"]


def test_loras_that_the_hub_does_not_have_are_said_in_one_line(hub, loras, pipeline_folder):
    from scanner.models.overlay import overlay

    for text, said in (
        (SEVERAL, "must have one safetensors file, and has first.safetensors, styles/second"),
        (f"{LORA}/other.safetensors", f"{LORA} has no file other.safetensors"),
        (f"{LORA}@v9", f"{LORA} has no revision v9"),
        (f"{LORA}@v9/mine.safetensors", f"{LORA} has no revision v9"),
        ("nobody/nothing", "the hub has no model nobody/nothing"),
        (f"{LORA}/../x.safetensors", "names no file of a repository"),
        (f"{GATED}/unet/x.safetensors", f"{GATED} is gated: accept its licence"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            _ = overlay([text]).loras[0].path
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["mine.safetensors", "loras/mine.safetensors", "./a/b/c.safetensors", "~/a/b",
             "/a/b/c.safetensors", "a/b.bin"],
)  # fmt: skip
def test_a_path_stays_a_path(text):
    from scanner.models.overlay import Lora

    assert Path(Lora.parsed(text).file).is_absolute()


def test_what_lies_here_goes_before_the_hub(tmp_path, monkeypatch):
    from scanner.models.overlay import Lora

    file = tmp_path / "someone" / "a-lora" / "mine.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    assert Lora.parsed(f"{LORA}/mine.safetensors").file == f"{LORA}/mine.safetensors"
    monkeypatch.chdir(tmp_path)
    assert Lora.parsed(f"{LORA}/mine.safetensors:2").file == str(file)
